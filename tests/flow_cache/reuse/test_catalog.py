"""The catalog finds all flow that is there and no other, whatever happened before."""

import random
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from flow_cache.reuse.catalog import Catalog, default_catalog, open_catalog
from flow_cache.reuse.entries import address_of
from shards.index import read_index
from shards.manifest import Layer, Manifest, sha256_of, write_manifest
from shards.schema import shard_name
from shards.store import Store, UsageError
from shards.writer import write_table

RECIPES = ("a" * 64, "b" * 64)
Clip = tuple[int, int]  # number of its source, first time
CLIPS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), min_size=1, max_size=4)


def source(number: int) -> str:
    return sha256_of(b"%d" % number)


def layer_of(recipe: str) -> str:
    return f"toy-{recipe[:12]}"


def write_dataset(url: Path, recipe: str, shards: list[list[Clip]]) -> None:
    """What the catalog reads of a dataset: the indexes of one layer, and the manifest."""
    layer, digests = layer_of(recipe), {}
    for number, clips in enumerate(shards):
        table = pa.table(
            {
                "source_sha256": [source(s) for s, _ in clips],
                "pts": [[first, first + 2, first + 4] for _, first in clips],
                "flow_size": [100] * len(clips),
            }
        )
        path = url / "flow" / layer / f"{shard_name(number)}.parquet"
        write_table(Store(path.parent), path.name, table)
        digests[shard_name(number)] = sha256_of(path.read_bytes())
    entry = Layer(name=layer, spec={"estimator": "toy"}, shards=digests)
    manifest = Manifest(state="complete", config={}, layers={layer: entry})
    write_manifest(Store(url), manifest)


def places(
    catalog: Catalog, recipe: str, number: int, span: tuple[int, int] = (0, 99)
) -> set[tuple[str, int, int, int]]:
    """(dataset, shard, row, first time) of every clip found, each checked where it lies."""
    found = set()
    wanted = {source(number): span}
    for shard in catalog.find(recipe, wanted).near(wanted):
        table = read_index(
            shard.dataset, f"{shard.stem}.parquet", shard.sha256, ["source_sha256", "pts"]
        )
        for row, clip in zip(shard.rows, table.take(shard.rows).to_pylist(), strict=True):
            assert clip["source_sha256"] == source(number)
            found.add((shard.dataset.url, int(shard.stem[-6:]), row, clip["pts"][0]))
    return found


class Laboratory(RuleBasedStateMachine):
    """Datasets come, grow, move and go, in one catalog."""

    folder: Path
    catalog: Catalog
    datasets = Bundle("datasets")

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.live: dict[Path, tuple[str, list[list[Clip]]]] = {}
        self.known: set[Path] = set()

    @rule(target=datasets, recipe=st.sampled_from(RECIPES), shards=st.lists(CLIPS, max_size=3))
    def build(self, recipe: str, shards: list[list[Clip]]) -> Path:
        self.made += 1
        url = self.folder / f"dataset-{self.made}"
        self._commit(url, recipe, shards)
        return url

    @rule(url=datasets, more=CLIPS)
    def grow(self, url: Path, more: list[Clip]) -> None:
        if url in self.live:
            recipe, shards = self.live[url]
            self._commit(url, recipe, [*shards, more])

    @rule(url=datasets, shards=st.lists(CLIPS, max_size=3))
    def build_another_in_its_place(self, url: Path, shards: list[list[Clip]]) -> None:
        if url in self.live:
            shutil.rmtree(url)
            self._commit(url, self.live[url][0], shards)

    def _commit(self, url: Path, recipe: str, shards: list[list[Clip]]) -> None:
        write_dataset(url, recipe, shards)
        self.catalog.add(Store(url), layer_of(recipe), recipe)
        self.live[url] = recipe, shards
        self.known.add(url)

    @rule(url=datasets)
    def delete(self, url: Path) -> None:
        shutil.rmtree(url, ignore_errors=True)
        self.live.pop(url, None)

    @rule(target=datasets, url=consumes(datasets), add=st.booleans())
    def move(self, url: Path, add: bool) -> Path:
        self.made += 1
        moved = self.folder / f"moved-{self.made}"
        if url in self.live:
            url.rename(moved)
            self.live[moved] = self.live.pop(url)
            if add:
                recipe, _ = self.live[moved]
                self.catalog.add(Store(moved), layer_of(recipe), recipe)
                self.known.add(moved)
        return moved

    @rule()
    def prune(self) -> None:
        gone = {Path(entry.url) for entry in self.catalog.prune()}
        assert gone == self.known - self.live.keys()
        self.known -= gone

    @rule(url=datasets)
    def forget(self, url: Path) -> None:
        for entry in list(self.catalog.entries()):
            if entry.url == str(url):
                self.catalog.forget(entry)
        self.known.discard(url)

    @rule(url=datasets)
    def damage_the_entry(self, url: Path) -> None:
        """And mend it by adding the dataset again."""
        for entry in list(self.catalog.entries()):
            if entry.url == str(url):
                Path(self.catalog.url, entry.file).write_bytes(b"PAR1 nonsense PAR1")
                assert self.catalog.find(entry.recipe, [source(0)]).warnings
                if url in self.live:
                    self.catalog.add(Store(url), entry.layer, entry.recipe)
                else:
                    Path(self.catalog.url, entry.file).unlink()
                    self.known.discard(url)

    @invariant()
    def all_known_live_flow_is_found_and_no_other(self) -> None:
        assert {Path(entry.url) for entry in self.catalog.entries()} == self.known
        for recipe in RECIPES:
            for number in range(5):
                assert places(self.catalog, recipe, number) == {
                    (str(url), shard, row, first)
                    for url, (made_by, shards) in self.live.items()
                    if made_by == recipe and url in self.known
                    for shard, clips in enumerate(shards)
                    for row, (clip_source, first) in enumerate(clips)
                    if clip_source == number
                }


def test_any_sequence_of_events_loses_nothing_and_finds_nothing_false(
    tmp_path_factory: pytest.TempPathFactory,
):
    class InAFolder(Laboratory):
        def __init__(self) -> None:
            super().__init__()
            self.folder = tmp_path_factory.mktemp("laboratory")
            self.catalog = Catalog(Store(self.folder / "catalog"))

    run_state_machine_as_test(
        InAFolder, settings=settings(max_examples=25, stateful_step_count=20, deadline=None)
    )


def test_many_writers_at_once_lose_nothing_and_readers_see_whole_files(tmp_path: Path):
    catalog, writers, each = Catalog(Store(tmp_path / "catalog")), 6, 8
    urls = [[tmp_path / f"{w}-{n}" for n in range(each)] for w in range(writers)]
    for url in (url for row in urls for url in row):
        write_dataset(url, RECIPES[0], [[(0, 0)]])
    done, seen = threading.Event(), []

    def write(mine: list[Path]) -> None:
        for url in random.Random(str(mine)).sample(mine * 2, 2 * each):
            write_dataset(url, RECIPES[0], [[(0, 0)], [(1, 1)]])
            catalog.add(Store(url), layer_of(RECIPES[0]), RECIPES[0])

    def read() -> None:
        while not done.is_set():
            found = catalog.find(RECIPES[0], [source(0)])
            assert not found.warnings
            seen.append(len(found.entries))

    threads = [threading.Thread(target=write, args=(mine,)) for mine in urls]
    reader = threading.Thread(target=read)
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert len(list(catalog.entries())) == writers * each
    assert len(places(catalog, RECIPES[0], 1)) == writers * each


def test_only_clips_that_reach_into_the_wanted_times_are_named(tmp_path: Path):
    write_dataset(tmp_path / "d", RECIPES[0], [[(0, 0), (0, 10), (0, 20), (1, 10)]])
    catalog = Catalog(Store(tmp_path / "catalog"))
    catalog.add(Store(tmp_path / "d"), layer_of(RECIPES[0]), RECIPES[0])
    assert {first for *_, first in places(catalog, RECIPES[0], 0, (14, 19))} == {10}
    assert {first for *_, first in places(catalog, RECIPES[0], 0, (14, 20))} == {10, 20}
    assert places(catalog, RECIPES[0], 0, (5, 9)) == set()


def test_folders_of_one_name_on_two_machines_are_two_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_dataset(tmp_path / "d", RECIPES[0], [[(0, 0)]])
    catalog = Catalog(Store(tmp_path / "catalog"))
    for host in ("one", "two"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        catalog.add(Store(tmp_path / "d"), layer_of(RECIPES[0]), RECIPES[0])
    assert len(list(catalog.entries())) == 2
    shutil.rmtree(tmp_path / "d")
    assert [entry.dataset for entry in catalog.prune()] == [f"file://two{tmp_path}/d"]
    assert [entry.is_elsewhere for entry in catalog.entries()] == [True]


def test_a_catalog_and_a_dataset_on_object_storage(tmp_path: Path):
    write_dataset(tmp_path / "d", RECIPES[0], [[(0, 0)]])
    catalog = Catalog(Store("memory://bucket/catalog"))
    assert catalog.find(RECIPES[0], [source(0)]).entries == ()
    catalog.add(Store(tmp_path / "d"), layer_of(RECIPES[0]), RECIPES[0])
    assert len(places(catalog, RECIPES[0], 0)) == 1
    (entry,) = catalog.entries()
    catalog.forget(entry)
    assert list(catalog.entries()) == []
    assert address_of(Store("memory://bucket/d/")) == "memory://bucket/d"


def test_a_layer_whose_index_is_not_the_manifests_is_not_entered(tmp_path: Path):
    write_dataset(tmp_path / "d", RECIPES[0], [[(0, 0)]])
    path = tmp_path / "d" / "flow" / layer_of(RECIPES[0]) / "000000.parquet"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match="is not the file that was written"):
        Catalog(Store(tmp_path / "catalog")).add(
            Store(tmp_path / "d"), path.parent.name, RECIPES[0]
        )


def test_the_default_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLUXSHARD_CACHE", "s3://bucket/flow")
    assert default_catalog() == "s3://bucket/flow"
    monkeypatch.delenv("FLUXSHARD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert "fluxshard" in default_catalog()


def test_an_unknown_protocol_is_refused_at_once():
    with pytest.raises(UsageError, match="flow cache nope://x"):
        open_catalog("nope://x")
