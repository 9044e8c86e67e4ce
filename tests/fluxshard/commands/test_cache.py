"""`fluxshard cache` looks after the catalog of computed flow."""

import shutil
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_the_flow_cache_is_listed_verified_pruned_and_told_of_moves(
    dataset: str, tmp_path: Path, run: Run
):
    copy, moved = str(shutil.copytree(dataset, tmp_path / "copy")), str(tmp_path / "moved")
    cache = [f"--flow-cache={tmp_path / 'catalog'}"]
    assert run("cache", "list", *cache)[1] == "no flow yet\n"
    assert run("cache", "add", copy, *cache)[0] == 0
    code, out, _ = run("cache", "list", *cache)
    assert code == 0
    assert "variational-" in out
    assert "MiB" in out
    assert copy in out
    assert run("cache", "verify", *cache)[0] == 0
    tar = next(Path(copy).glob("flow/*/*.tar"))
    tar.write_bytes(tar.read_bytes()[:-600])
    code, out, _ = run("cache", "verify", *cache)
    assert code == 1
    assert f"{copy}: flow/" in out
    Path(copy).rename(moved)
    assert run("cache", "add", moved, *cache)[0] == 0
    code, out, _ = run("cache", "prune", *cache)
    assert out.count("forgot") == 1
    assert copy in out
    assert run("cache", "forget", moved, *cache)[0] == 0
    assert run("cache", "list", *cache)[1] == "no flow yet\n"
