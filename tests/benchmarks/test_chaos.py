"""A few builds are disturbed here; the script disturbs many, and in more ways."""

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
def test_disturbed_builds_end_with_the_bytes_of_a_calm_one(chaos: ModuleType):
    jobs = importlib.import_module("chaos_jobs")
    strikes = {
        "workers": [jobs.Strike(at=0.6, what="worker")],
        "sources": [jobs.Strike(at=0.5, what="gone", until=0.7)],
        "disk": [jobs.Strike(at=0.8, what="group")],
    }
    with chaos.arena(None) as place:
        for kind, run in strikes.items():
            plan = jobs.Plan(
                kind=kind,
                flow="none",
                clips_per_shard=3,
                workers=1,
                runs=(tuple(run),),
                room=0.3,
                fault_rate=0.1,
            )
            ending = place.run(plan, np.random.default_rng(0))
            assert ending.problem == ""
            assert not ending.void
            assert len(ending.codes) == 1


def test_a_difference_is_told(chaos: ModuleType):
    calm = {"a": b"1", "b": b"2"}
    assert chaos.difference(calm, calm) == ""
    assert chaos.difference({"b": b"3", ".lock": b""}, calm) == (
        "a is missing; .lock is left; b differs"
    )
