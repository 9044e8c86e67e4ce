"""`fluxshard verify` says what is wrong."""

from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_what_is_wrong_is_listed_and_exits_with_1(dataset: str, run: Run):
    code, out, err = run("verify", dataset)
    assert (code, out, err) == (0, "", f"{dataset} is intact\n")
    path = Path(dataset, "clips", "000000.tar")
    intact = path.read_bytes()
    damaged = bytearray(intact)
    damaged[2000] ^= 1
    path.write_bytes(damaged)
    code, out, err = run("verify", dataset)
    path.write_bytes(intact)
    assert code == 1
    assert "clips/000000.tar" in out
    assert err == f"problems: {len(out.splitlines())}\n"
