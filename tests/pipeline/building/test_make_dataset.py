"""Whole builds: what they write, that they are reproducible, and that they survive anything."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client

from flow_cache import decode_field
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.superseded import SUPERSEDED
from pipeline.building.job import Outcome
from pipeline.building.make_dataset import make_dataset, open_manifest
from pipeline.cluster import connect
from pipeline.planning.config import BuildConfig
from pipeline.source.inputs import find_sources
from shards import (
    DamagedDataset,
    Dataset,
    ShardReader,
    Store,
    UsageError,
    clips_of,
    read_manifest,
    verify,
    write_manifest,
    write_table,
)
from shards.schema import CLIP_MEMBERS, CLIP_TABLE, member_columns
from tests.clusters import in_this_process

CONFIG = BuildConfig(
    size=(48, 64), frames=9, fps=Fraction(12), flow="dis", clips_per_shard=6, levels=(1, 2)
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with in_this_process() as client:
        yield client


def build(sources: list[str], url: Path, client: Client, config: BuildConfig = CONFIG) -> Outcome:
    found, missing = find_sources(sources)
    return make_dataset(found, missing, Store(url), config, client, lambda *_: None)


@pytest.fixture(scope="module")
def built(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset as two processes built it."""
    url = tmp_path_factory.mktemp("build") / "dataset"
    with connect(None, 2) as client:
        build(demo_videos, url, client)
    return url


def contents(url: Path, suffixes: tuple[str, ...] = (".tar", ".parquet", ".json")) -> dict:
    files = [path for path in url.rglob("*") if path.suffix in suffixes]
    return {str(path.relative_to(url)): path.read_bytes() for path in files}


def test_every_input_is_in_the_clips_or_in_the_rejects(demo_videos: list[str], built: Path):
    sources, _ = find_sources(demo_videos)
    clips = set(Dataset(built).clips["path"].to_pylist())
    rejects = pq.read_table(built / "rejects.parquet").to_pylist()
    refused = {reject["path"] for reject in rejects}
    assert {source.path for source in sources} == clips | refused
    assert not clips & refused
    assert {Path(reject["path"]).name for reject in rejects} >= {"not_a_video.mp4"}
    assert all(reject["reason"] and reject["detail"] for reject in rejects)


def test_the_dataset_is_intact_and_nothing_unfinished_is_left(built: Path):
    assert list(verify(Store(built))) == []
    assert not [path for path in built.rglob("*") if path.name.startswith(".")]
    rows = Dataset(str(built)).shard_rows
    assert set(rows[:-1]) == {6}


def test_captions_and_columns_reach_the_index_and_the_samples(built: Path):
    clips = Dataset(str(built)).clips.to_pylist()
    listed = [clip for clip in clips if clip["key"].startswith("fast-")]
    assert listed
    assert all(clip["caption"] for clip in clips)
    manifest_columns = set(clips[0]) - {*CLIP_TABLE.names, *member_columns(CLIP_MEMBERS).names}
    assert manifest_columns, "the demo's manifest has a column of its own"
    assert all(clip[name] is not None for clip in listed for name in manifest_columns)


def test_one_worker_gives_the_same_bytes_as_two(
    demo_videos: list[str], built: Path, tmp_path: Path, client: Client
):
    build(demo_videos, tmp_path / "dataset", client)
    assert contents(tmp_path / "dataset") == contents(built)


def test_a_rerun_keeps_what_is_there(demo_videos: list[str], built: Path, client: Client):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*.tar")}
    outcome = build(demo_videos, built, client)
    assert (outcome.built, outcome.kept) == (0, len(before) // 2)
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*.tar")} == before


def test_a_lost_shard_is_built_again_with_the_same_bytes(
    demo_videos: list[str], built: Path, client: Client, tmp_path: Path
):
    url = tmp_path / "dataset"
    shutil.copytree(built, url)
    (url / "clips" / "000001.parquet").unlink()
    (url / "clips" / "000000.tar").with_name(".unfinished-x").write_bytes(b"half")
    outcome = build(demo_videos, url, client)
    assert outcome.built == 1
    assert contents(url) == contents(built)
    assert not list(url.rglob(".unfinished-*"))


def test_a_killed_build_ends_with_the_same_bytes(
    demo_videos: list[str], built: Path, tmp_path: Path, client: Client
):
    url = tmp_path / "dataset"
    command = [sys.executable, "-m", "fluxshard", "build", *demo_videos, str(url), "--workers=1"]
    command += ["--size=48x64", "--frames=9", "--fps=12", "--flow=dis", "--clips-per-shard=6"]
    command += ["--levels=1,2"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(url.glob("clips/*.parquet")):
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    committed = len(list(url.glob("clips/*.parquet")))
    assert committed < len(list(built.glob("clips/*.parquet"))), "killed too late to show anything"
    build(demo_videos, url, client)
    assert contents(url) == contents(built)


def test_more_videos_add_shards_and_keep_the_old_bytes(
    demo_videos: list[str], tmp_path: Path, client: Client
):
    folder, url = tmp_path / "videos", tmp_path / "dataset"
    shutil.copytree(Path(demo_videos[0]).parent, folder)
    (folder / "cuts.mp4").rename(tmp_path / "cuts.mp4")
    build([str(folder)], url, client)
    before = contents(url, (".tar",))
    planned = contents(url / "plan")
    build([str(folder), str(tmp_path / "cuts.mp4")], url, client)
    after = contents(url, (".tar",))
    assert before.items() < after.items()
    assert planned.items() < contents(url / "plan").items()
    assert list(verify(Store(url))) == []


STRAIGHT = BuildConfig(size=(96, 128), frames=5, flow="dis", clips_per_shard=2, levels=(1,))


def flow_of(url: Path) -> dict[str, float]:
    """Median horizontal motion of the stored fields that lead one frame on, by source."""
    dataset = Dataset(str(url))
    fields = dataset.fields(dataset.layer())
    reader = ShardReader(dataset, dataset.layer())
    motion: dict[str, list[float]] = {}
    for row, source in enumerate(fields["source_sha256"].to_pylist()):
        (blob,) = reader.fields(row, [(0, 1)])
        motion.setdefault(source, []).append(float(decode_field(blob).flow[0].median()))
    return {source: float(np.median(values)) for source, values in motion.items()}


def test_a_video_that_is_replaced_is_never_stored_as_the_one_that_was_scanned(
    write_video: Callable[..., str],
    moving_pictures: Callable[..., list[np.ndarray]],
    client: Client,
    tmp_path: Path,
):
    """By one that moves the other way; run again, what is there now is scanned and built."""
    left, pictures = tmp_path / "video.mp4", moving_pictures(20)
    shutil.copy(write_video("left.mp4", pictures), left)
    right = Path(shutil.copy(write_video("right.mp4", pictures[::-1]), tmp_path / "other"))
    scanned, coming = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (left, right))
    sources, _ = find_sources([str(left)])
    catalog = Catalog(Store(tmp_path / "catalog"))

    def replace_it(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("build", 0) and right.exists():
            right.replace(left)

    url = tmp_path / "dataset"
    outcome = make_dataset(sources, [], Store(url), STRAIGHT, client, replace_it, catalog)
    assert outcome.exit_code(strict=False) == 1
    assert all(
        "video.mp4 is not the video" in error and "run the same command again" in error
        for error in outcome.failed.values()
    )
    assert not list(url.glob("clips/*.parquet"))
    for folder in (url, tmp_path / "next"):
        outcome = make_dataset(
            sources, [], Store(folder), STRAIGHT, client, lambda *_: None, catalog
        )
        assert outcome.exit_code(strict=True) == 0
        assert list(verify(Store(folder))) == []
        motion = flow_of(folder)
        assert scanned not in motion
        assert motion[coming] == pytest.approx(2, abs=0.2)
    plain = tmp_path / "plain"
    make_dataset(sources, [], Store(plain), STRAIGHT, client, lambda *_: None)
    assert contents(plain) == contents(url)


def test_shards_of_another_plan_are_built_again_with_their_flow(
    demo_videos: list[str], client: Client, tmp_path: Path
):
    """One video is in another's place while a build scans, and while it stores some shards."""
    videos, config = copy_of_videos(demo_videos, tmp_path), replace(CONFIG, clips_per_shard=3)
    calm, url, first = tmp_path / "calm", tmp_path / "dataset", Path(videos[0])
    build(videos, calm, client, config)
    first.rename(tmp_path / "aside")
    shutil.copy(Path(demo_videos[-1], "slow.mp4"), first)
    open_manifest(Store(url), config)
    blocked = url / "clips" / "000000.tar"  # a folder where a tar is to be
    blocked.mkdir(parents=True)
    outcome = build(videos, url, client, config)
    assert [*outcome.failed] == ["000000"]
    stored = {path.stem for path in url.glob("clips/*.parquet")}
    assert stored
    blocked.rmdir()
    (tmp_path / "aside").replace(first)
    outcome = build(videos, url, client, config)
    assert outcome.exit_code(strict=True) == 0
    ((_, source),) = outcome.costs.reused
    assert source == str(url / SUPERSEDED)
    assert contents(url) == contents(calm)
    assert not (url / SUPERSEDED).exists()


def test_another_configuration_is_refused_and_named(
    demo_videos: list[str], built: Path, client: Client
):
    with pytest.raises(ValueError, match=r"crf: dataset has 18, this build asks for 23"):
        build(demo_videos, built, client, replace(CONFIG, crf=23))


def test_a_folder_of_something_else_is_refused(
    demo_videos: list[str], client: Client, tmp_path: Path
):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="not empty and holds no dataset"):
        build(demo_videos, tmp_path, client)


def test_progress_moves_clip_by_clip_and_ends_at_the_total(
    demo_videos: list[str], tmp_path: Path, client: Client
):
    seen: list[tuple[str, int, int]] = []
    found, missing = find_sources(demo_videos)
    config = replace(CONFIG, clips_per_shard=100, flow="none")
    make_dataset(found, missing, Store(tmp_path / "d"), config, client, lambda *s: seen.append(s))
    build_steps = [done for stage, done, _ in seen if stage == "build"]
    total = seen[-1][2]
    assert build_steps == sorted(build_steps)
    assert (build_steps[0], build_steps[-1]) == (0, total)
    assert len(set(build_steps)) > total // 2, "one shard, yet many steps"


def other_caption(path: Path) -> None:
    """A sound Parquet file that says something else."""
    table = pq.read_table(path)
    name = "caption" if "caption" in table.column_names else "key"
    column = pa.array(["something else"] * len(table))
    table = table.set_column(table.schema.get_field_index(name), name, column)
    write_table(Store(path.parent), path.name, table)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


HARM = [
    ("clips/000000.parquet", other_caption),
    ("clips/000001.parquet", cut),
    ("flow/*/000000.parquet", other_caption),
    ("flow/*/000001.parquet", Path.unlink),
    ("clips/000001.tar", Path.unlink),
    ("flow/*/000000.tar", cut),
]


@pytest.mark.parametrize(("pattern", "harm"), HARM)
def test_a_damaged_shard_is_built_again_and_named_and_never_blessed(
    demo_videos: list[str],
    built: Path,
    client: Client,
    tmp_path: Path,
    pattern: str,
    harm: Callable[[Path], None],
):
    url = Path(shutil.copytree(built, tmp_path / "dataset"))
    (path,) = url.glob(pattern)
    harm(path)
    outcome = build(demo_videos, url, client)
    (warning,) = outcome.costs.warnings
    assert warning.startswith(f"{path}: ")
    assert (outcome.built, outcome.failed) == (1, {})
    assert contents(url) == contents(built)


@pytest.mark.parametrize("name", ["plan/*.parquet", "rejects.parquet"])
@pytest.mark.parametrize("harm", [cut, Path.unlink, lambda path: path.write_bytes(b"PAR1")])
def test_a_damaged_plan_is_made_again(
    demo_videos: list[str],
    built: Path,
    client: Client,
    tmp_path: Path,
    name: str,
    harm: Callable[[Path], None],
):
    url = Path(shutil.copytree(built, tmp_path / "dataset"))
    harm(*url.glob(name))
    assert build(demo_videos, url, client).built == 0
    assert contents(url) == contents(built)


def test_a_damaged_plan_that_cannot_be_made_again_is_refused_and_kept_as_it_is(
    demo_videos: list[str], client: Client, tmp_path: Path
):
    videos, url = copy_of_videos(demo_videos, tmp_path), tmp_path / "dataset"
    build(videos[:1], url, client)
    build(videos, url, client)  # it grows: planned in two steps
    intact = contents(url)
    first = min((url / "plan").iterdir())
    cut(first)
    harmed = contents(url)
    for sources, why in ((videos[:1], "name the sources that"), (videos, "gives other clips")):
        with pytest.raises(DamagedDataset, match=rf"{first.name} is damaged or gone.*{why}"):
            build(sources, url, client)
        assert contents(url) == harmed
    first.write_bytes(intact[f"plan/{first.name}"])
    assert build(videos, url, client).built == 0
    assert contents(url) == intact


def copy_of_videos(demo_videos: list[str], folder: Path) -> list[str]:
    """Two videos that a test may change."""
    (folder / "videos").mkdir()
    names = ("h264.mp4", "vp9.webm")
    return [str(shutil.copy(Path(demo_videos[-1], name), folder / "videos")) for name in names]


@pytest.mark.parametrize(
    ("gone", "why"), [(True, "is gone, the video"), (False, "is not the video")]
)
def test_a_damaged_shard_whose_source_is_gone_or_another_fails_and_nothing_is_overwritten(
    demo_videos: list[str], client: Client, tmp_path: Path, gone: bool, why: str
):
    videos, url = copy_of_videos(demo_videos, tmp_path), tmp_path / "dataset"
    folder, one_shard = [str(tmp_path / "videos")], replace(CONFIG, clips_per_shard=100)
    build(folder, url, client, one_shard)
    other_caption(url / "clips" / "000000.parquet")
    before = contents(url / "clips") | contents(url / "flow")
    Path(videos[0]).unlink()
    if not gone:
        Path(videos[0]).write_bytes(b"another video")
    outcome = build(folder, url, client, one_shard)
    assert why in outcome.failed["000000"]
    assert outcome.exit_code(strict=False) == 1
    assert contents(url / "clips") | contents(url / "flow") == before
    assert [problem.file for problem in verify(Store(url))] == ["clips/000000.parquet"]


def test_an_unfinished_build_trusts_no_commit_without_its_tar(
    demo_videos: list[str], built: Path, client: Client, tmp_path: Path
):
    url = Path(shutil.copytree(built, tmp_path / "dataset"))
    manifest = read_manifest(Store(url))
    layers = {name: replace(layer, shards={}) for name, layer in manifest.layers.items()}
    write_manifest(
        Store(url), replace(manifest, state="building", shards={}, layers=layers, settled=0)
    )
    (url / "clips" / "000001.tar").unlink()
    outcome = build(demo_videos, url, client)
    assert outcome.built == 1
    assert outcome.costs.warnings
    assert contents(url) == contents(built)


def test_growth_that_is_interrupted_is_no_damage(
    demo_videos: list[str], client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    videos = copy_of_videos(demo_videos, tmp_path)
    for name in ("dataset", "undisturbed"):
        build(videos[:1], tmp_path / name, client)
    build(videos, tmp_path / "undisturbed", client)
    url, store = tmp_path / "dataset", Store(tmp_path / "dataset")
    write = Store.write
    for last in ("scans/", "rejects.parquet", "plan/", "manifest.json"):

        def write_until(self: Store, name: str, data: bytes, last: str = last) -> None:
            write(self, name, data)
            if name.startswith(last):
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", write_until)
            with pytest.raises(KeyboardInterrupt):
                build(videos, url, client)
        assert list(verify(store)) == [], last
        assert Dataset(store).clips
    build(videos, url, client)
    assert contents(url) == contents(tmp_path / "undisturbed")


def test_a_dataset_is_closed_without_the_shards_that_fail_and_later_made_whole(
    demo_videos: list[str], built: Path, tmp_path: Path, client: Client
):
    url = tmp_path / "dataset"
    blocked = url / "clips" / "000001.tar"  # a folder where the tar is to be
    (blocked / "x").mkdir(parents=True)
    (url / "manifest.json").write_bytes((built / "manifest.json").read_bytes())
    manifest = replace(read_manifest(Store(built)), state="building", inputs=None, settled=0)
    layers = {name: replace(layer, shards={}) for name, layer in manifest.layers.items()}
    write_manifest(Store(url), replace(manifest, shards={}, layers=layers, tables={}))
    assert build(demo_videos, url, client).clips == 0
    assert read_manifest(Store(url)).state == "building"
    found, missing = find_sources(demo_videos)
    arguments = found, missing, Store(url), CONFIG, client, lambda *_: None
    outcome = make_dataset(*arguments, allow_failed=True)
    assert (list(outcome.failed), outcome.exit_code(strict=False)) == (["000001"], 1)
    whole = Dataset(built)
    assert outcome.clips == len(Dataset(url).clips) == len(whole.clips) - 6
    lost = [reject for reject in outcome.rejects if reject.reason == "shard_failed"]
    stored = pq.read_table(url / "rejects.parquet").to_pylist()
    assert [r["detail"] for r in stored if r["stage"] == "build"] == [r.detail for r in lost]
    for key, reject in zip(whole.clips["key"].to_pylist()[6:12], lost, strict=True):
        assert f"clip {key} is in shard 000001, which failed: IsADirectoryError" in reject.detail
    assert list(verify(Store(url))) == []
    shutil.rmtree(blocked)
    assert build(demo_videos, url, client).exit_code(strict=False) == 0
    assert contents(url) == contents(built)


def test_any_name_of_a_column_reaches_the_index_and_a_new_caption_is_never_silent(
    demo_videos: list[str], tmp_path: Path, client: Client
):
    folder, listed = Path(demo_videos[-1]), tmp_path / "list.jsonl"
    row = {"video": str(folder / "slow.mp4"), "caption": "one", "mp4_size": 7, "json_offset": "x"}
    row |= {"path": "p", "user_path": "up", "shard": 0.5, "key": True, "later": None}
    listed.write_text(json.dumps(row))
    config, url = replace(CONFIG, flow="none"), tmp_path / "dataset"
    assert build([str(listed)], url, client, config).exit_code(strict=False) == 0
    given = {name: value for name, value in row.items() if name not in ("video", "caption")}
    assert clips_of(Dataset(url).clips)[0].columns == given
    assert list(verify(Store(url))) == []
    before = contents(url, (".tar",))
    listed.write_text(json.dumps(row | {"caption": "two"}))
    (warning,) = build([str(listed)], url, client, config).costs.warnings
    assert "slow.mp4: its caption or columns have changed" in warning
    assert contents(url, (".tar",)) == before
    more = row | {"video": str(folder / "vp9.webm"), "later": 3}
    listed.write_text(json.dumps(more))
    build([str(listed)], url, client, config)
    assert {clip.columns["later"] for clip in clips_of(Dataset(url).clips)} == {None, 3}
    listed.write_text(json.dumps(more | {"video": str(folder / "cuts.mp4"), "later": "x"}))
    with pytest.raises(UsageError, match=r"column 'later' holds whole numbers in .* but text in"):
        build([str(listed)], url, client, config)
