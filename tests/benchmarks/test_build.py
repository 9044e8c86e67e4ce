import importlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.planning.clips import ClipRule
from pipeline.planning.scan import scan_video
from pipeline.records import Reject, Source

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)  # as for a script
    return importlib.import_module("benchmarks.build")


def test_the_floor_takes_the_pairs_that_the_bare_loop_takes_and_stores_them(
    build: ModuleType, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = importlib.import_module("build_peers")
    monkeypatch.setattr(peers, "SIZE", (64, 96))
    rule = ClipRule(frames=5, size=(64, 96), fps=None, max_repeated=0.25)
    source = Source(path=str(data_dir / "videos" / "bear.mp4"))
    scan = scan_video(source, rule, detector="none")
    assert not isinstance(scan, Reject)
    clips = list(scan[1])[:2]
    done = Counter[str]()

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(peers, name)

        def call(*given: Any) -> Any:
            done[name] += 1
            return real(*given)

        return call

    for name in ("store", "encode_clip"):
        monkeypatch.setattr(peers, name, counted(name))
    bare = peers.bare(clips, "dis")
    assert not done
    floor = peers.bare(clips, "dis", floor=True)
    assert bare["pairs"] == floor["pairs"] == len(clips) * 2 * (4 + 2 + 1)
    assert done == {"store": floor["pairs"], "encode_clip": len(clips)}
    assert min(bare["cpu"], floor["cpu"]) > 0


def run_of(way: str) -> dict[str, Any]:
    row: dict[str, Any] = {"pairs": 56, "seconds": 2.0, "cpu": 1.0, "peak_MiB": 100.0}
    if way.startswith("ours"):
        seconds = 4.0 / int(way.split()[-1])
        row |= {"seconds": seconds, "whole": seconds + 1, "bytes": 2e4, "stages": {"flow": 3.0}}
    return row | ({"bytes": 4e5} if way == "peer" else {})


def test_runs_that_were_kept_are_not_made_again(
    build: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = ["bare dis", "floor dis", "ours dis 1", "ours dis 2", "peer"]
    kept, made = tmp_path / "runs.json", []

    def run(way: str) -> dict[str, Any]:
        made.append(way)
        if len(made) == 4:
            raise KeyboardInterrupt
        return run_of(way)

    with pytest.raises(KeyboardInterrupt):
        build.in_turns(ways, 2, kept, run)
    assert [*json.loads(kept.read_text())] == ways[:3]
    runs = build.in_turns(ways, 2, kept, run)
    assert made == [*ways[:4], *ways[3:], *ways]
    build.report(runs)
    printed = capsys.readouterr().out
    for line in (
        "dis, one worker: 50% of the pairs/s of the bare loop, 100% by processor time",
        "one shard, 1 to 2 workers: 2.00 times; with scan and plan 1.67",
        "dis, of video2dataset: 1.0 times its pairs/s, 5.0% of its bytes/pair",
    ):
        assert line in printed
