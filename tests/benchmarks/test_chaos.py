"""One build is disturbed here, by much; the script disturbs many, and in more ways."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def chaos(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)  # as for a script
    return importlib.import_module("benchmarks.chaos")


def test_what_happens_depends_on_the_seed_alone(chaos: ModuleType):
    def plans(seed: int) -> list:
        return [chaos.draw(kind, np.random.default_rng(seed)) for kind in chaos.KINDS]

    assert plans(3) == plans(3)
    assert plans(3) != plans(4)


@pytest.mark.slow
def test_a_disturbed_build_ends_with_the_bytes_of_a_calm_one(chaos: ModuleType):
    """A video is gone for a while, the worker is killed, the disk is full; then all are killed."""
    jobs = importlib.import_module("chaos_jobs")
    strikes = (
        jobs.Strike(at=0.4, what="gone", until=0.6),
        jobs.Strike(at=0.6, what="worker"),
        jobs.Strike(at=0.9, what="group"),
    )
    plan = jobs.Plan(
        kind="disk",
        flow="none",
        clips_per_shard=3,
        workers=1,
        runs=(strikes,),
        room=0.3,
        fault_rate=0.1,
    )
    with chaos.arena(None) as place:
        ending = place.run(plan, np.random.default_rng(0))
    assert ending.problem == ""
    assert not ending.void
    assert ending.codes[0] != 0, "it never came to an end by itself"


def test_a_difference_is_told(chaos: ModuleType):
    calm = {"a": b"1", "b": b"2"}
    assert chaos.difference(calm, calm) == ""
    assert chaos.difference({"b": b"3", ".lock": b""}, calm) == (
        "a is missing; .lock is left; b differs"
    )
