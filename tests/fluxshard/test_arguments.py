"""Values are written on the command line as people write them, and are refused where they fail."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from fluxshard.arguments import Resources, check_writable, parse
from shards import UsageError


def read(kind: type, *words: str) -> object:
    """What a command gets for an option of some type."""

    def command(*, value: kind) -> object:  # type: ignore[valid-type]
        return value

    command.__annotations__["value"] = kind
    return parse(command, "test", ["--value", *words])


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (tuple[int, int], "256x384", (256, 384)),
        (tuple[int, ...], "1,2,4", (1, 2, 4)),
        (tuple[int, ...], "8", (8,)),
        (Fraction | None, "30000/1001", Fraction(30000, 1001)),
        (Fraction | None, "23.976", Fraction(23976, 1000)),
        (Fraction | None, "none", None),
    ],
)
def test_one_word_gives_one_value(kind: type, text: str, value: object):
    assert read(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (tuple[int, int], "256", "invalid literal"),
        (tuple[int, int], "256x384x3", "invalid literal"),
        (tuple[int, ...], "1,,2", "invalid literal"),
        (Fraction | None, "1/0", "divides by zero"),
        (Fraction | None, "[/old]", "[/old]"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(
    kind: type, text: str, why: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as end:
        read(kind, text)
    assert end.value.code == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_a_job_needs_a_worker():
    assert Resources(workers=1).workers == 1
    with pytest.raises(UsageError, match="workers is 0"):
        Resources(workers=0)


def test_an_interrupted_job_leaves_nothing_half_written(tmp_path: Path):
    left, kept = tmp_path / "flow" / ".unfinished-x", tmp_path / "flow" / "000000.tar"
    left.parent.mkdir()

    def job(error: BaseException) -> None:
        with Resources(workers=1).cluster(str(tmp_path)) as client:
            client.gather(client.map(Path.touch, [left, kept]))
            raise error

    with pytest.raises(KeyboardInterrupt):
        job(KeyboardInterrupt())
    assert not left.exists()
    assert kept.exists()


def test_the_catalog_is_where_it_is_asked_for(tmp_path: Path):
    assert Resources(no_flow_cache=True).catalog() is None
    catalog = Resources(flow_cache=str(tmp_path)).catalog()
    assert catalog is not None
    assert catalog.url == str(tmp_path)
    catalog = Resources().catalog()
    assert catalog is not None
    assert catalog.url == os.environ["FLUXSHARD_CACHE"]
    with pytest.raises(UsageError, match="nope"):
        Resources(flow_cache="nope://x").catalog()


@pytest.mark.parametrize(
    "place", [lambda p: p / "file" / "x", lambda p: p / "file", lambda _: Path("/proc/x")]
)
def test_a_folder_that_cannot_be_written_to_is_named(place: Callable[[Path], Path], tmp_path: Path):
    (tmp_path / "file").touch()
    folder = str(place(tmp_path))
    with pytest.raises(UsageError, match="cannot be written to") as error:
        check_writable(folder)
    assert str(error.value).startswith(folder)


def test_the_probe_of_a_folder_makes_it_and_leaves_nothing_in_it(tmp_path: Path):
    check_writable(str(tmp_path / "a" / "b"))
    assert list((tmp_path / "a" / "b").iterdir()) == []
    check_writable("memory://anything")


def test_permission_denied_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As root, which tests may run as, nothing is denied."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", denied)
    with pytest.raises(UsageError, match="Permission denied"):
        check_writable(str(tmp_path))
