"""Flow is computed once: builds with a catalog copy what they can and give the very same bytes."""

import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from distributed import Client

from flow_cache.coding.codec import decode_field
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.copying import register
from flow_cache.spec import level_pairs
from pipeline.building.closing import close_manifest
from pipeline.building.costs import Costs
from pipeline.building.job import Outcome, with_stored
from pipeline.building.make_dataset import make_dataset
from pipeline.building.shard import PlannedShards
from pipeline.cluster import connect
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.planning.plan_files import Plan, plan_files, read_files, write_plan
from pipeline.records import Source
from pipeline.source.inputs import find_sources
from shards import Dataset, ShardReader
from shards.manifest import Manifest, read_manifest
from shards.store import Store
from shards.writer import write_table
from tests.clusters import in_this_process

SHORT = BuildConfig(
    size=(48, 64), frames=5, fps=Fraction(12), flow="dis", clips_per_shard=8, levels=(1, 2)
)
LONG = replace(SHORT, frames=9, levels=(1, 2, 4))
Build = Callable[..., Outcome]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with in_this_process() as client:
        yield client


@pytest.fixture(scope="module")
def sources(demo_videos: list[str]) -> list[Source]:
    """Constant and variable rate, cuts, and one whose frames repeat at 12 frames a second."""
    names = {"cuts.mp4", "variable_rate.mp4", "h264.mp4", "slow.mp4"}
    return [s for s in find_sources(demo_videos)[0] if Path(s.path).name in names]


@pytest.fixture(scope="module")
def build(client: Client, sources: list[Source]) -> Build:
    def run(
        url: Path, config: BuildConfig, catalog: Path | None, given: Sequence[Source] = sources
    ) -> Outcome:
        known = None if catalog is None else Catalog(Store(catalog))
        outcome = make_dataset(given, [], Store(url), config, client, lambda *_: None, known)
        assert not outcome.failed
        return outcome

    return run


def contents(url: Path) -> dict[str, bytes]:
    return {str(p.relative_to(url)): p.read_bytes() for p in url.rglob("*") if p.is_file()}


def pairs_of(url: Path) -> list[tuple[str, int, int]]:
    """What identifies the frames of each field that a dataset's only layer holds."""
    dataset = Dataset(str(url))
    return [
        (row["source_sha256"], row["pts"][a], row["pts"][b])
        for row in dataset.fields(dataset.layer()).to_pylist()
        for a, b in zip(row["pair_source"], row["pair_target"], strict=True)
    ]


@pytest.fixture(scope="module")
def short(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of short clips and the catalog that knows it."""
    folder = tmp_path_factory.mktemp("short")
    outcome = build(folder / "dataset", SHORT, folder / "catalog")
    assert not outcome.costs.reused
    return folder


@pytest.fixture(scope="module")
def long(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of long clips, built without any catalog."""
    url = tmp_path_factory.mktemp("long") / "dataset"
    build(url, LONG, None)
    return url


@pytest.fixture
def earlier(short: Path, tmp_path: Path) -> Path:
    """A copy of `short` that a test may damage, with a catalog of its own."""
    shutil.copytree(short / "dataset", tmp_path / "earlier")
    specs = flow_specs(SHORT)
    catalog = Catalog(Store(tmp_path / "catalog"))
    catalog.add(Store(tmp_path / "earlier"), specs[0].layer, specs[0].field_digest)
    return tmp_path / "earlier"


def test_longer_clips_copy_every_shared_pair_and_estimate_only_the_rest(
    build: Build, short: Path, long: Path, tmp_path: Path
):
    outcome = build(tmp_path / "dataset", LONG, short / "catalog")
    stored, wanted = set(pairs_of(short / "dataset")), pairs_of(tmp_path / "dataset")
    shared = sum(pair in stored for pair in wanted)
    assert 0 < shared < len(wanted)
    ((_, origin),) = outcome.costs.reused
    assert origin == str(short / "dataset")
    assert outcome.costs.reused.total() == shared
    assert outcome.costs.computed.total() == len(wanted) - shared
    assert contents(tmp_path / "dataset") == contents(long)
    assert not outcome.costs.warnings


def test_shorter_clips_other_levels_and_other_shards_are_all_copied(
    build: Build, long: Path, tmp_path: Path
):
    """Every pair of SHORT's grid lies in a clip of LONG, but those that cross two of its clips."""
    (spec,) = flow_specs(LONG)
    Catalog(Store(tmp_path / "catalog")).add(Store(long), spec.layer, spec.field_digest)
    config = replace(LONG, levels=(1, 4), clips_per_shard=3, crf=30)
    outcome = build(tmp_path / "reused", config, tmp_path / "catalog")
    assert not outcome.costs.computed.total()
    build(tmp_path / "fresh", config, None)
    assert contents(tmp_path / "reused") == contents(tmp_path / "fresh")


def test_a_subset_and_more_videos_reuse_what_they_share(
    build: Build, short: Path, sources: list[Source], tmp_path: Path
):
    some = sources[1:3]
    outcome = build(tmp_path / "subset", SHORT, short / "catalog", some)
    assert not outcome.costs.computed.total()
    build(tmp_path / "fresh", SHORT, None, some)
    assert contents(tmp_path / "subset") == contents(tmp_path / "fresh")
    build(tmp_path / "fresh", SHORT, tmp_path / "catalog", some)  # enters it
    outcome = build(tmp_path / "more", SHORT, tmp_path / "catalog", sources)
    assert outcome.costs.reused.total() == len(pairs_of(tmp_path / "fresh"))
    assert contents(tmp_path / "more") == contents(short / "dataset")


def test_two_workers_copy_to_the_same_bytes_as_one(
    short: Path, long: Path, sources: list[Source], tmp_path: Path
):
    with connect(None, 2) as two:
        catalog = Catalog(Store(short / "catalog"))
        make_dataset(sources, [], Store(tmp_path / "d"), LONG, two, lambda *_: None, catalog)
    assert contents(tmp_path / "d") == contents(long)


def test_another_estimator_criterion_size_or_error_shares_nothing(
    build: Build, short: Path, sources: list[Source], tmp_path: Path
):
    changes: list[dict[str, Any]] = [{"flow": "variational"}, {"max_error_px": 1 / 16}]
    changes += [{"size": (64, 64)}, {"occlusion": "fb-unsquared"}]
    for number, change in enumerate(changes):
        config = replace(SHORT, **change)
        outcome = build(tmp_path / str(number), config, short / "catalog", sources[:1])
        assert not outcome.costs.reused
        assert outcome.costs.computed.total()


def flip_bytes(path: Path, seed: int) -> None:
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    places = np.random.default_rng(seed).integers(0, len(data), 1 + len(data) // 2000)
    data[places] ^= 0x55
    path.write_bytes(data.tobytes())


def swap_fields(index: Path) -> None:
    """A sound Parquet file with the places of other pairs: checksums match, the flow does not."""
    table = pq.read_table(index)
    for name in ("field_offset", "field_size", "field_crc32"):
        column = pa.array([row[::-1] for row in table[name].to_pylist()], table[name].type)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    write_table(Store(index.parent), index.name, table)


def each(pattern: str, harm: Callable[[Path, int], object]) -> Callable[[Path], None]:
    """Harm, given a number, to all files of a folder that match."""

    def damage(url: Path) -> None:
        for n, path in enumerate(url.glob(pattern)):
            harm(path, n)

    return damage


DAMAGE: dict[str, Callable[[Path], object]] = {
    "the dataset is deleted": shutil.rmtree,
    "a tar is deleted": lambda url: max(url.glob("flow/*/*.tar")).unlink(),
    "an index is deleted": lambda url: max(url.glob("flow/*/*.parquet")).unlink(),
    "tars are cut": each(
        "flow/*/*.tar", lambda path, _: os.truncate(path, path.stat().st_size // 2)
    ),
    "indexes are cut": each(
        "flow/*/*.parquet", lambda path, _: path.write_bytes(path.read_bytes()[:-100])
    ),
    "bytes of tars flip": each("flow/*/*.tar", flip_bytes),
    "bytes of indexes flip": each("flow/*/*.parquet", flip_bytes),
    "indexes lie": each("flow/*/*.parquet", lambda path, _: swap_fields(path)),
    "the catalog's bytes flip": lambda url: each("catalog/*/*.parquet", flip_bytes)(url.parent),
    "another dataset took its place": lambda url: [
        path.write_bytes(min(url.glob("flow/*/*.tar")).read_bytes())
        for path in url.glob("flow/*/*.tar")
    ],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_the_earlier_dataset_changes_no_byte_and_is_told(
    build: Build, earlier: Path, long: Path, tmp_path: Path, damage: str
):
    DAMAGE[damage](earlier)
    outcome = build(tmp_path / "dataset", LONG, tmp_path / "catalog")
    assert contents(tmp_path / "dataset") == contents(long)
    assert outcome.costs.warnings
    assert outcome.costs.computed.total() + outcome.costs.reused.total() == len(pairs_of(long))


def test_two_builds_at_once_on_one_catalog_both_end_right(
    build: Build, long: Path, short: Path, tmp_path: Path
):
    jobs = [
        threading.Thread(target=build, args=(tmp_path / name, config, tmp_path / "catalog"))
        for name, config in (("long", LONG), ("short", SHORT))
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert contents(tmp_path / "long") == contents(long)
    assert contents(tmp_path / "short") == contents(short / "dataset")
    known = {entry.url for entry in Catalog(Store(tmp_path / "catalog")).entries()}
    assert known == {str(tmp_path / "long"), str(tmp_path / "short")}


def test_a_catalog_out_of_reach_costs_a_warning(
    build: Build, sources: list[Source], tmp_path: Path
):
    (tmp_path / "catalog").write_text("a file where a folder should be")
    outcome = build(tmp_path / "dataset", SHORT, tmp_path / "catalog", sources[:1])
    assert any("flow cache" in warning for warning in outcome.costs.warnings)


def test_a_moved_dataset_is_found_again_once_it_is_added(
    build: Build, earlier: Path, tmp_path: Path
):
    moved, catalog = tmp_path / "moved", Catalog(Store(tmp_path / "catalog"))
    earlier.rename(moved)
    (spec,) = flow_specs(SHORT)
    catalog.add(Store(moved), spec.layer, spec.field_digest)
    outcome = build(tmp_path / "dataset", SHORT, tmp_path / "catalog")
    assert not outcome.costs.computed.total()
    (warning,) = outcome.costs.warnings
    assert f"{earlier} has vanished" in warning
    assert [entry.url for entry in catalog.prune()] == [str(earlier)]


def planned_clips(url: Path) -> pa.Table:
    """The rows of a dataset's plan."""
    return pa.concat_tables(read_files(Store(url), plan_files(read_manifest(Store(url)))))


def build_here(
    url: Path, clips: pa.Table, config: BuildConfig, catalog: Catalog | None = None
) -> Costs:
    """Build planned clips in this process, without Dask."""
    specs, store = flow_specs(config), Store(url)
    planned = Plan(settled={}, tables=[clips.sort_by("shard")], first=0, rejects=[])
    manifest = Manifest(state="building", config=config.to_json())
    manifest = write_plan(store, manifest, planned, "")
    shards = PlannedShards(store, manifest, specs, config.crf)
    tasks = list(shards.tasks(shards.sizes))
    told, warnings = with_stored(tasks, catalog)
    costs = sum((task.run() for task in told), Costs(warnings=warnings))
    commits = {task.shard: task.files.commit() for task in tasks}
    close_manifest(store, commits, specs, [], manifest)
    return costs + Costs(warnings=register(catalog, store))


def test_the_manifest_tells_what_made_the_clips_and_the_flow_also_where_it_was_copied(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clips, catalog = planned_clips(short / "dataset"), Catalog(Store(tmp_path / "catalog"))
    clips = clips.filter(pc.equal(clips["shard"], 0))
    (layer,) = (spec.layer for spec in flow_specs(SHORT))
    for url in ("here", "here again"):
        build_here(tmp_path / url, clips, SHORT)
    assert contents(tmp_path / "here") == contents(tmp_path / "here again")
    register(catalog, Store(tmp_path / "here"))
    here = read_manifest(Store(tmp_path / "here"))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER")
    build_here(tmp_path / "copied", clips, SHORT, catalog)
    build_here(tmp_path / "computed", clips, SHORT)
    copied, computed = (read_manifest(Store(tmp_path / name)) for name in ("copied", "computed"))
    assert copied.made_by[layer] == here.made_by[layer] == here.made_by["clips"]
    assert copied.made_by["clips"] == computed.made_by["clips"] == computed.made_by[layer]
    assert copied.made_by["clips"] != here.made_by["clips"]
    assert copied.shards == computed.shards == here.shards
    assert copied.layers == computed.layers == here.layers


def with_slots(rows: pa.Table, slots: Sequence[int]) -> pa.Table:
    """Clips that show others of their frames."""
    for name in ("pts", "numbers"):
        shown = [[values[slot] for slot in slots] for values in rows[name].to_pylist()]
        column = pa.array(shown, rows.schema.field(name).type)
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


class ClipMean:
    """An estimator whose flow depends on all frames of the clip."""

    name, revision, weights_sha256 = "clip-mean", "1", None
    params: ClassVar[dict] = {}
    differentiable, whole_clip = False, True

    def check_size(self, size) -> None:
        pass

    def clip(self, frames, pairs):
        mean = frames.float().mean()
        flow = [torch.full((2, *frames.shape[-2:]), float(mean) + a - b) for a, b in pairs]
        return torch.stack(flow), None


def test_flow_of_whole_clips_is_copied_for_the_same_clips_only(
    long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in ("planning.config", "building.layer_writer", "building.job"):
        monkeypatch.setattr(f"pipeline.{module}.load_estimator", lambda name: ClipMean())
    config, catalog = replace(LONG, flow="clip-mean"), Catalog(Store(tmp_path / "catalog"))
    rows = planned_clips(long).slice(0, 3)
    build_here(tmp_path / "first", rows, config, catalog)
    same = build_here(tmp_path / "same", rows, config, catalog)
    assert (same.computed.total(), same.reused.total()) == (0, 3 * fields(config))
    shorter = replace(config, frames=5, levels=(1, 2))
    half = build_here(tmp_path / "half", with_slots(rows, range(5)), shorter, catalog)
    assert (half.computed.total(), half.reused.total()) == (3 * fields(shorter), 0)


def fields(config: BuildConfig) -> int:
    return len(level_pairs(config.frames, config.levels, config.directions))


def test_repeated_frames_share_their_flow(long: Path, tmp_path: Path):
    """Slots that show one source frame: their pairs have one identity and equal fields."""
    rows, catalog = (
        planned_clips(long).slice(0, 1),
        Catalog(Store(f"{tmp_path}/c")),
    )
    shown = [0, 0, 1, 1, 2, 2, 3, 4, 5]
    build_here(tmp_path / "plain", rows, LONG, catalog)
    repeating = with_slots(rows, shown)
    mixed = build_here(tmp_path / "mixed", repeating, LONG, catalog)
    assert mixed.reused.total()
    build_here(tmp_path / "fresh", repeating, LONG)
    assert contents(tmp_path / "mixed") == contents(tmp_path / "fresh")
    dataset = Dataset(str(tmp_path / "mixed"))
    pairs = [
        (a, b) for a, b in level_pairs(9, LONG.levels, LONG.directions) if shown[a] == shown[b]
    ]
    assert pairs
    for blob in ShardReader(dataset, dataset.layer()).fields(0, pairs):
        assert not decode_field(blob).flow.any()


HARM = [name for name in DAMAGE if "catalog" not in name]


@pytest.mark.parametrize("seed", range(3))
def test_any_history_of_the_catalog_gives_the_bytes_of_an_empty_one(
    long: Path, tmp_path: Path, seed: int
):
    """Datasets of random clips, lengths and levels come, are harmed, and go."""
    draw = random.Random(seed)
    planned = planned_clips(long)
    catalog, copied = Catalog(Store(f"{tmp_path}/catalog")), 0
    made: list[Path] = []
    for number in range(8):
        for url in made:
            if url.exists() and draw.random() < 0.3:
                DAMAGE[draw.choice(HARM)](url)
        if draw.random() < 0.3:
            catalog.prune()
        length, start = draw.choice([(4, 0), (4, 4), (5, 0), (5, 2), (9, 0)])
        levels = draw.choice([(1,), (1, 2), (1, 3)])
        config = replace(LONG, frames=length, levels=levels, clips_per_shard=draw.choice([1, 2]))
        chosen = planned.take(draw.sample(range(6), 3))
        clips = with_slots(chosen, range(start, start + length))
        shards = pa.array([n // config.clips_per_shard for n in range(3)], pa.int32())
        clips = clips.set_column(clips.schema.get_field_index("shard"), "shard", shards)
        made.append(tmp_path / str(number))
        copied += build_here(made[-1], clips, config, catalog).reused.total()
        build_here(tmp_path / "fresh" / str(number), clips, config)
        assert contents(made[-1]) == contents(tmp_path / "fresh" / str(number))
    assert copied
