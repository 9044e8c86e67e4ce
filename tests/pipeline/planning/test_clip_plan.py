"""The plan grows: what was planned keeps its row and shard, what is new comes after it."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.planning.clip_plan import extend_plan, inputs_digest, read_plan
from pipeline.planning.clip_table import clip_table, reject_table
from pipeline.planning.config import BuildConfig
from pipeline.planning.scan import Scan
from pipeline.records import Reject, Source, Video
from shards.schema import Clip, clips_of
from shards.store import Store
from shards.writer import write_table

CONFIG = BuildConfig(size=(32, 48), frames=2, levels=(1,), clips_per_shard=2)


def scan(name: str, clips: int, content: str | None = None) -> Scan:
    sha256 = (content or name) * 64
    video = Video(
        path=f"/{name}.mp4",
        sha256=sha256,
        size_bytes=1,
        container="mov",
        codec="h264",
        pixel_format="yuv420p",
        stream=0,
        time_base=Fraction(1, 25),
        stored=(64, 64),
        sample_aspect=Fraction(1),
        rotation=0,
        mirrored=False,
        average_rate=None,
        full_range=False,
        matrix=2,
        transfer=2,
    )
    planned = tuple(
        Clip(
            key=f"{name}-{number}",
            path=video.path,
            source_sha256=sha256,
            numbers=(2 * number, 2 * number + 1),
            pts=(2 * number, 2 * number + 1),
            time_base=video.time_base,
            fps=Fraction(25),
            size=(32, 48),
            shot=0,
            repeated=0,
            decode_errors=0,
            seekable=True,
        )
        for number in range(clips)
    )
    return video, planned


def test_new_clips_go_to_new_shards_and_old_rows_stay():
    table, rejects = extend_plan(None, [scan("a", 3)], CONFIG)
    assert (table["shard"].to_pylist(), rejects) == ([0, 0, 1], [])
    grown, _ = extend_plan(table, [scan("b", 1), scan("a", 3)], CONFIG)
    assert grown.slice(0, 3).equals(table)
    assert [(c.key, s) for c, s in zip(clips_of(grown), grown["shard"].to_pylist(), strict=True)][
        3:
    ] == [("b-0", 2)]


def test_the_same_bytes_under_another_name_are_a_duplicate_now_or_later():
    together, rejects = extend_plan(None, [scan("a", 1), scan("b", 1, content="a")], CONFIG)
    assert [(r.path, r.reason) for r in rejects] == [("/b.mp4", "duplicate")]
    first, _ = extend_plan(None, [scan("a", 1)], CONFIG)
    later, rejects = extend_plan(first, [scan("b", 1, content="a")], CONFIG)
    assert later.equals(first)
    assert later.equals(together)
    assert [r.detail for r in rejects] == ["the same bytes as /a.mp4"]


def test_rejects_are_kept_apart():
    reject = Reject(path="/c", sha256=None, stage="probe", reason="empty", detail="no bytes")
    table, rejects = extend_plan(None, [reject, scan("a", 1)], CONFIG)
    assert (len(table), rejects) == (1, [reject])


def test_what_was_rejected_while_building_is_not_part_of_the_plan(tmp_path: Path):
    planned = Reject(path="/c", sha256=None, stage="probe", reason="empty", detail="no bytes")
    store = Store(tmp_path)
    write_table(store, "clips.parquet", clip_table([], 2))
    write_table(store, "rejects.parquet", reject_table([planned, replace(planned, stage="build")]))
    assert read_plan(store)[1] == [planned]


@pytest.mark.parametrize("change", ["path", "size", "time", "caption", "sidecar", "column"])
def test_the_digest_of_the_inputs_changes_with_each_of_them(tmp_path: Path, change: str):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"video")
    os.utime(path, (1, 1))
    source = Source(path=str(path), columns={"label": 1})
    before = inputs_digest([source], [])
    assert inputs_digest([source], []) == before
    match change:
        case "path":
            path.rename(tmp_path / "b.mp4")
            source = replace(source, path=str(tmp_path / "b.mp4"))
        case "size":
            path.write_bytes(b"video!")
            os.utime(path, (1, 1))
        case "time":
            os.utime(path, (2, 2))
        case "caption":
            source = replace(source, caption="a dog")
        case "sidecar":
            path.with_suffix(".txt").write_text("a dog")
        case "column":
            source = replace(source, columns={"label": 2})
    assert inputs_digest([source], []) != before
