"""One shard: what cannot be decoded is left out with its reason, what is written is indexed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.building.shard import ShardTask
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.planning.scan import scan_video
from pipeline.records import Reject, Source
from pipeline.source.content import SourceChanged
from shards.clip_video import decode_clip
from shards.schema import Clip, clips_of, spans_of
from shards.store import Store

CONFIG = BuildConfig(size=(48, 64), frames=5, fps=Fraction(25), flow="dis", levels=(1,))


@pytest.fixture(scope="module")
def planned(write_video: Callable[..., str], moving_pictures: Callable[..., list]) -> list[Clip]:
    path = write_video("shard.mp4", moving_pictures(15))
    source = Source(path=path, caption="a texture", columns={"label": 7})
    scan = scan_video(source, CONFIG.clip_rule, detector="none")
    assert not isinstance(scan, Reject)
    return list(scan[1])


def task_of(clips: list[Clip], folder: Path) -> ShardTask:
    rows = pa.Table.from_pylist([clip.to_row(0) for clip in clips])
    return ShardTask(store=Store(folder), shard=0, rows=rows, specs=flow_specs(CONFIG), crf=18)


def test_the_index_tells_where_every_member_is(planned: list[Clip], tmp_path: Path):
    task = task_of(planned, tmp_path)
    assert not task.committed
    costs = task.run()
    assert task.committed
    table = pq.read_table(tmp_path / "clips" / "000000.parquet")
    assert clips_of(table) == planned
    tar = (tmp_path / "clips" / "000000.tar").read_bytes()
    for clip, video, row in zip(
        planned, spans_of(table, "mp4"), spans_of(table, "json"), strict=True
    ):
        frames = decode_clip(tar[video.offset : video.offset + video.size])
        assert frames.shape == (5, 3, 48, 64)
        assert json.loads(tar[row.offset : row.offset + row.size]) == clip.to_row(0)
    assert costs.computed.total() == len(planned) * 4
    assert set(costs.seconds) == {"decode", "encode", "copy", "flow", "store", "figures"}


def test_a_clip_that_no_longer_decodes_is_a_reject_and_costs_no_shard(
    planned: list[Clip], tmp_path: Path
):
    lost = replace(planned[1], numbers=(95,), pts=(10**6,))
    task_of([planned[0], lost, planned[2]], tmp_path).run()
    table = pq.read_table(tmp_path / "clips" / "000000.parquet")
    assert [clip.key for clip in clips_of(table)] == [planned[0].key, planned[2].key]
    (reject,) = json.loads(table.schema.metadata[b"rejects"])
    assert (reject["path"], reject["stage"]) == (lost.path, "build")


@pytest.mark.parametrize("when", ["before the first", "between two", "gone"])
def test_a_shard_of_a_video_that_changed_is_not_committed(
    planned: list[Clip],
    write_video: Callable[..., str],
    moving_pictures: Callable[..., list],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
):
    """Replaced by one that moves the other way, before the build or between two of its clips."""
    path = Path(shutil.copy(planned[0].path, tmp_path / "video.mp4"))
    opposite = write_video("opposite.mp4", moving_pictures(15)[::-1])
    clips = [replace(clip, path=str(path)) for clip in planned]
    match when:
        case "before the first":
            shutil.copy(opposite, path)
        case "between two":
            monkeypatch.setattr(
                "pipeline.building.shard.announce_clip", lambda: shutil.copy(opposite, path)
            )
        case "gone":
            path.unlink()
    task = task_of(clips, tmp_path / "dataset")
    with pytest.raises(SourceChanged, match=r"video.mp4 is .* run the same command again"):
        task.run()
    assert not task.committed
    assert not [file for file in (tmp_path / "dataset").rglob("*") if file.is_file()]


def test_a_shard_without_any_clip_is_committed_and_empty(planned: list[Clip], tmp_path: Path):
    task_of([replace(planned[0], numbers=(95,), pts=(10**6,))], tmp_path).run()
    table: pa.Table = pq.read_table(tmp_path / "clips" / "000000.parquet")
    assert len(table) == 0
    assert table.schema.field("label").type == pa.int64()
    assert np.array_equal(table["mp4_offset"].to_numpy(), [])
