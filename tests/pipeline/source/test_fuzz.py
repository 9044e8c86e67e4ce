"""However a video is damaged, it comes to clips or to a reject; `benchmarks/fuzz.py` tries more."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import MUTATIONS, flip_bits, generate, mutants, outcome, run, small_files


def test_every_mutant_ends_as_clips_or_as_a_reject(data_dir: Path, tmp_path: Path) -> None:
    """In a process with limits on memory and time."""
    files = [*small_files(data_dir, 40_000), *generate(tmp_path)]
    tally = run(files, 150, seed=1)
    assert tally.failures == {}
    assert tally.outcomes["clips"] > 20
    assert sum(tally.outcomes.values()) == 150
    assert tally.peak_mib < 1024


def test_failures_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.fuzz.PATIENCE_S", 0)
    (path, *_) = generate(tmp_path)
    assert set(run([path], 2, seed=0).failures.values()) == {"HANG"}


def test_mutants_are_damaged_and_the_same_each_time(tmp_path: Path) -> None:
    files = generate(tmp_path)
    wanted = len(files) * len(MUTATIONS)
    made = [data for (_, data), _ in zip(mutants(files, 3), range(wanted), strict=False)]
    again = [data for (_, data), _ in zip(mutants(files, 3), range(wanted), strict=False)]
    assert made == again
    whole = [path.read_bytes() for path in files] * len(MUTATIONS)
    assert sum(a == b for a, b in zip(made, whole, strict=True)) < 5  # zeros over zeros


def test_streams_that_come_up_late_are_no_error(data_dir: Path, tmp_path: Path) -> None:
    whole = (data_dir / "bad/derived_size_change.ts").read_bytes()
    path = tmp_path / "late.ts"
    random = np.random.default_rng([0, 2171])
    path.write_bytes(flip_bits(np.frombuffer(whole, np.uint8).copy(), random).tobytes())
    assert outcome(str(path)) == "reject: damaged"
