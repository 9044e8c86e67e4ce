import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import platformdirs
import pytest

from trainer.stream.filter import kept as module
from trainer.stream.filter.kept import kept

FACTS = {"dataset": "ab", "where": "frames > 4"}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where things are kept."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    return tmp_path / "fluxshard" / "surveys"


def never() -> None:
    raise AssertionError("it is known")


def test_what_is_known_is_not_found_out_again(folder: Path) -> None:
    assert kept(FACTS, lambda: [1, {"a": 2}]) == [1, {"a": 2}]
    assert kept(dict(reversed(FACTS.items())), never) == [1, {"a": 2}]


@pytest.mark.parametrize("change", [{"where": "frames > 5"}, {"dataset": "ac"}, {"more": 1}])
def test_another_fact_is_another_finding(folder: Path, change: dict[str, object]) -> None:
    kept(FACTS, lambda: 1)
    assert kept({**FACTS, **change}, lambda: 2) == 2
    assert kept(FACTS, never) == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def alter(path: Path) -> None:
    path.write_text(path.read_text().replace('"found":1', '"found":7'))


def be_of_another(path: Path) -> None:
    """A sound file under a name that is not its own."""
    kept({**FACTS, "where": "frames > 5"}, lambda: 7)
    (other,) = set(path.parent.iterdir()) - {path}
    other.replace(path)


def be_no_record(path: Path) -> None:
    path.write_text(json.dumps([1]))


@pytest.mark.parametrize("harm", [cut, alter, be_of_another, be_no_record])
def test_a_file_that_is_not_what_was_kept_is_not_used(
    folder: Path, harm: Callable[[Path], None]
) -> None:
    kept(FACTS, lambda: 1)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    harm(path)
    assert path.read_bytes() != whole
    assert kept(FACTS, lambda: 1) == 1
    assert path.read_bytes() == whole


def test_the_latest_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    for number in range(3):
        kept({"number": number}, partial(int, number))
        for path in folder.iterdir():
            os.utime(path, (path.stat().st_mtime - 10,) * 2)  # the next one is later for sure
    assert len([*folder.iterdir()]) == 2
    assert kept({"number": 2}, never) == 2


def test_a_folder_that_cannot_be_written_to_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "file"))
    assert [kept(FACTS, lambda: 1), kept(FACTS, lambda: 2)] == [1, 2]
