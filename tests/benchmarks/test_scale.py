"""The made-up world is one that the program takes for its own."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from shards import Dataset

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)  # as for a script
    return importlib.import_module("benchmarks.scale")


def test_scans_that_were_never_made_are_planned(scale: ModuleType, tmp_path: Path) -> None:
    importlib.import_module("scale_world").write_scans(str(tmp_path), 30, 7)
    figures = scale.job_plan(str(tmp_path), 30, 64)
    assert (figures["clips"], figures["shards_planned"]) == (210, 4)
    assert figures["plan_bytes"] > 0 < figures["plan"]["peak_MiB"]


def test_a_dataset_without_media_opens_and_gives_rows(scale: ModuleType, tmp_path: Path) -> None:
    importlib.import_module("scale_world").write_index(f"{tmp_path}/index-16", 40, 16)
    figures = scale.job_index(str(tmp_path), 40, 16)
    assert (figures["clips"], figures["shards_planned"]) == (400, 25)
    dataset = Dataset(f"{tmp_path}/index-16")
    assert len(dataset.fields(dataset.layer())) == len(dataset.clips) == 400
