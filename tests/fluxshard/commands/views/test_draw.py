"""`fluxshard inspect` writes a picture."""

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


def test_a_picture_is_written(dataset: str, tmp_path: Path, run: Run):
    out = tmp_path / "new folder" / "[clip].png"
    code, _, err = run("inspect", dataset, "--out", str(out))
    assert (code, err) == (0, f"wrote {out}\n")
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["no-such-clip"], "is no clip of"), (["--layer", "[raft]"], "'[raft]' does not exist")],
)
def test_what_is_not_there_is_wrong_usage(
    arguments: list[str], message: str, dataset: str, tmp_path: Path, run: Run
):
    code, _, err = run("inspect", dataset, *arguments, "--out", str(tmp_path / "x.png"))
    assert code == 2
    assert message in err
