import importlib
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def shots(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("shots")


@pytest.fixture
def truths(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("shot_truth")


def test_what_is_found_is_counted(shots: ModuleType, truths: ModuleType) -> None:
    truth = truths.Truth(hard=(10, 40, 90), gradual=(range(20, 30), range(60, 70)))
    found = [range(n, n) for n in (10, 25, 41, 80)]  # right, within a dissolve, beside, wrong
    score = shots.judge([*found, range(62, 72), range(88, 93), range(50, 53)], truth, 100)
    assert (score.cuts, score.wrong_cuts, score.missed_cuts) == (2, 2, 1)
    assert (score.gradual, score.wrong_gradual, score.missed_gradual) == (1, 1, 1)
    assert (score.mixed, score.mixed_left) == (20, 12)
    assert (score.clean, score.clean_lost) == (80, 2 + 5 + 3)
    listed = shots.judge(found, truths.Truth(hard=(10,), complete=False), 100)
    assert (listed.cuts, listed.wrong_cuts, listed.clean) == (1, 0, 0)
    assert astuple(score + score) == tuple(2 * n for n in astuple(score))


def min_of(change: range) -> int:
    return change.start


def test_films_are_spliced_where_the_truth_says(truths: ModuleType) -> None:
    """Takes of one grey level each: all frames but the mixed ones, and flashes, are of a take."""
    levels = {"a": 40, "b": 90, "c": 200}
    takes = {name: [np.full((60, 128, 228, 3), n, np.uint8)] for name, n in levels.items()}
    for film, truth in truths.films(takes, seed=0):
        assert len(truth.hard) + len(truth.gradual) == 11
        means = film.reshape(len(film), -1).mean(axis=1)
        for cut in truth.hard:
            assert abs(means[cut] - means[cut - 1]) > 10
        steps = np.abs(np.diff(means))
        borders = sorted([*truth.gradual, *(range(cut, cut) for cut in truth.hard)], key=min_of)
        assert all(one.stop + 4 <= other.start for one, other in pairwise(borders))
        for change in truth.gradual:
            assert 8 <= len(change) <= 2 * 30 + 5
            assert 0 < np.median(steps[change.start - 1 : change.stop]) < 30
    again = next(truths.films(takes, seed=0))
    assert np.array_equal(again[0], next(truths.films(takes, seed=0))[0])


def test_no_video_is_in_two_folds_and_a_pair_of_shots_is_of_two_videos(truths: ModuleType) -> None:
    takes = {f"v{i:02}": [np.zeros((30, 128, 228, 3), np.uint8)] for i in range(20)} | {"none": []}
    folds = truths.deal(takes)
    names = [name for fold in folds for name in fold]
    assert sorted(names) == sorted(takes.keys() - {"none"})
    assert all(len(fold) >= 3 for fold in folds)
