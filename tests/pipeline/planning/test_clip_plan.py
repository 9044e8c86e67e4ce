"""The plan grows: what was planned keeps its row and shard, what is new comes after it."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.planning import clip_plan
from pipeline.planning.clip_plan import (
    check_new_columns,
    committed_shards,
    extend_plan,
    inputs_digest,
    outdated,
    read_plan,
)
from pipeline.planning.clip_table import clip_table, reject_table
from pipeline.planning.config import BuildConfig
from pipeline.planning.scan import Scan
from pipeline.records import Reject, Source, Video
from shards import Manifest, Shard, write_manifest
from shards.schema import Clip, Scalar, clips_of
from shards.store import Store, UsageError
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
    grown, _ = extend_plan(table, [scan("b", 1), scan("a", 3)], CONFIG, committed={0, 1})
    assert grown.slice(0, 3).equals(table)
    assert [(c.key, s) for c, s in zip(clips_of(grown), grown["shard"].to_pylist(), strict=True)][
        3:
    ] == [("b-0", 2)]


def test_the_same_bytes_under_another_name_are_a_duplicate_now_or_later():
    together, rejects = extend_plan(None, [scan("a", 1), scan("b", 1, content="a")], CONFIG)
    assert [(r.path, r.reason) for r in rejects] == [("/b.mp4", "duplicate")]
    first, _ = extend_plan(None, [scan("a", 1)], CONFIG)
    later, rejects = extend_plan(first, [scan("b", 1, content="a")], CONFIG, committed={0})
    assert later.equals(first)
    assert later.equals(together)
    assert [r.detail for r in rejects] == ["the same bytes as /a.mp4"]


def test_rejects_are_kept_apart():
    reject = Reject(path="/c", sha256=None, stage="probe", reason="empty", detail="no bytes")
    table, rejects = extend_plan(None, [reject, scan("a", 1)], CONFIG)
    assert (len(table), rejects) == (1, [reject])


def places(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["key"].to_pylist(), table["shard"].to_pylist(), strict=True))


def changed(name: str, clips: int) -> Scan:
    """Another video under the name, with keys of its own."""
    scanned = scan(name, clips, content="f")
    assert not isinstance(scanned, Reject)
    video, planned = scanned
    return video, tuple(replace(clip, key=f"{clip.key}-new") for clip in planned)


def test_clips_of_a_changed_video_give_way_and_those_that_are_stored_stay():
    """Shards a0 a1 | a2 b0 | b1 b2 | c0, of which the second is stored."""
    first, _ = extend_plan(None, [scan("a", 3), scan("b", 3), scan("c", 1)], CONFIG)
    scans = [scan("a", 3), changed("b", 1), scan("c", 1)]
    now, rejects = extend_plan(first, scans, CONFIG, committed={1})
    assert rejects == []
    assert now.filter(pc.field("shard") == 1).equals(first.filter(pc.field("shard") == 1))
    assert places(now) == [
        *(("a-0", 0), ("a-1", 0), ("a-2", 1), ("b-0", 1)),
        *(("b-0-new", 2), ("c-0", 2)),
    ]


@pytest.mark.parametrize("committed", [(), (1,), (0, 2)])
@pytest.mark.parametrize("meanwhile", ["another", "no video", "a copy"])
def test_a_video_that_comes_back_has_its_old_place(committed: tuple[int, ...], meanwhile: str):
    scans = [scan("a", 3), scan("b", 3), scan("c", 1)]
    first, _ = extend_plan(None, scans, CONFIG)
    other: Scan = changed("b", 5)
    if meanwhile == "no video":
        other = Reject(path="/b.mp4", sha256="e" * 64, stage="decode", reason="x", detail="x")
    if meanwhile == "a copy":
        other = scan("b", 3, content="a")
    disturbed, _ = extend_plan(first, [scans[0], other, scans[2]], CONFIG, committed)
    gone = disturbed.filter(~pc.field("shard").isin(committed) & (pc.field("path") == "/b.mp4"))
    assert len(gone) == (5 if meanwhile == "another" else 0)
    restored, rejects = extend_plan(disturbed, scans, CONFIG, committed)
    assert restored.equals(first)
    assert rejects == []


def test_an_event_is_no_news_of_a_video_s_clips():
    """Nor is it a loss: the build itself looks at the file again."""
    scans = [scan("a", 3), scan("b", 3)]
    first, _ = extend_plan(None, scans, CONFIG)
    crash = Reject(path="/a.mp4", sha256=None, stage="scan", reason="crashed", detail="worker died")
    assert extend_plan(first, [crash, scans[1]], CONFIG)[0].equals(first)
    assert extend_plan(first, [crash, scans[1]], CONFIG)[1] == []


def test_a_video_that_was_renamed_is_planned_under_its_new_name():
    first, _ = extend_plan(None, [scan("a", 1)], CONFIG)
    now, rejects = extend_plan(first, [scan("b", 1, content="a")], CONFIG)
    assert (now["path"].to_pylist(), rejects) == (["/b.mp4"], [])


def test_videos_that_are_not_named_again_keep_their_clips():
    first, _ = extend_plan(None, [scan("a", 2)], CONFIG)
    now, _ = extend_plan(first, [scan("b", 1)], CONFIG)
    assert places(now) == [("a-0", 0), ("a-1", 0), ("b-0", 1)]


def test_what_is_not_planned_any_more_leaves_no_file(tmp_path: Path):
    store = Store(tmp_path)
    for name in ("clips/000001.tar", "flow/x/000001.parquet", "flow/x/000000.tar"):
        store.write(name, b"x")
    clip_plan._forget(store, {1, 2})
    assert store.files() == ["flow/x/000000.tar"]


def test_a_shard_is_committed_by_its_rows_or_by_the_manifest(tmp_path: Path):
    store = Store(tmp_path)
    lost = {"000004": Shard(clips=1, sha256="0" * 64)}
    write_manifest(store, Manifest(state="building", config={}, shards=lost))
    for name in ("clips/000002.parquet", "clips/000003.tar", "flow/x/000005.parquet"):
        store.write(name, b"x")
    assert committed_shards(store) == {2, 4}


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


def told(scanned: Scan, caption: str, **columns: Scalar) -> Scan:
    assert not isinstance(scanned, Reject)
    video, clips = scanned
    return video, tuple(replace(clip, caption=caption, columns=columns) for clip in clips)


def test_a_new_caption_reaches_the_rows_that_are_not_committed_and_is_told_of_the_others():
    before, _ = extend_plan(None, [told(scan("a", 3), "old"), told(scan("b", 1), "b")], CONFIG)
    scans = [told(scan("a", 3), "new", n=1), told(scan("b", 1), "b", empty=None)]
    after, _ = extend_plan(before, scans, CONFIG, {0})
    assert after["caption"].to_pylist() == ["old", "old", "new", "b"]
    assert after["n"].to_pylist() == [None, None, 1, None]
    assert outdated(after, scans, {0}) == {"/a.mp4"}
    assert outdated(after, scans, {1}) == set()


@pytest.mark.parametrize(
    ("stored", "new", "words"),
    [
        ("text", 3, "column 'n' holds text in .*, but whole numbers in the new inputs: give it"),
        (2**53 + 1, 0.5, "holds whole numbers in .*, but fractions in"),
        (True, 1, "holds true and false in .*, but whole numbers in"),
        (None, 1, None),
        ("text", None, None),
        (1, 0.5, None),
    ],
)
def test_a_column_that_changes_its_kind_is_refused(
    tmp_path: Path, stored: Scalar, new: Scalar, words: str | None
):
    store = Store(tmp_path)
    source = Source(path="/b.mp4", columns={"n": new})
    check_new_columns([source], store)  # nothing is planned yet
    write_table(
        store, "clips.parquet", extend_plan(None, [told(scan("a", 1), "", n=stored)], CONFIG)[0]
    )
    if words is None:
        check_new_columns([source], store)
    else:
        with pytest.raises(UsageError, match=words):
            check_new_columns([source], store)
