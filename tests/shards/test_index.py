"""Opening datasets: the manifest proves itself, layers are chosen by name."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from shards.index import Dataset
from shards.manifest import DamagedDataset, read_manifest, sha256_of, write_manifest
from shards.merge import merge
from shards.store import Store
from shards.writer import write_table


def test_a_layer_is_found_by_estimator_name_or_digest(dataset_url: str):
    dataset = Dataset(dataset_url)
    names = [dataset.layer(name).name for name in (None, "toy", "toy-0123456789ab", "0123")]
    assert names == ["toy-0123456789ab"] * 4


def test_a_missing_or_ambiguous_layer_lists_what_there_is(dataset_url: str):
    store, dataset = Store(dataset_url), Dataset(dataset_url)
    with pytest.raises(ValueError, match=r"'dis' does not exist.*there: toy-0123456789ab"):
        dataset.layer("dis")
    (toy,) = dataset.manifest.layers.values()
    twin = replace(toy, name="toy-fff")
    manifest = replace(dataset.manifest, layers={toy.name: toy, twin.name: twin})
    write_manifest(store, manifest)
    with pytest.raises(ValueError, match=r"'toy' is ambiguous.*toy-0123456789ab, toy-fff"):
        Dataset(dataset_url).layer("toy")


def test_a_missing_a_damaged_and_an_unfinished_dataset_are_told_apart(dataset_url: str):
    with pytest.raises(FileNotFoundError, match="holds no dataset"):
        Dataset(f"{dataset_url}/nothing")
    path = Path(dataset_url, "manifest.json")
    intact = path.read_text()
    path.write_text(intact.replace('"clips": 3', '"clips": 4'))
    with pytest.raises(DamagedDataset, match="damaged: its digest"):
        Dataset(dataset_url)
    path.write_text("[]")
    with pytest.raises(DamagedDataset, match="damaged"):
        Dataset(dataset_url)
    path.write_text(intact)
    store = Store(dataset_url)
    write_manifest(store, replace(read_manifest(store), state="building"))
    with pytest.raises(ValueError, match="has not finished; run the same command again"):
        Dataset(dataset_url)


def test_the_dataset_digest_changes_with_the_clips_only(dataset_url: str):
    store, before = Store(dataset_url), Dataset(dataset_url).digest
    manifest = read_manifest(store)
    write_manifest(store, replace(manifest, layers={}))
    assert Dataset(dataset_url).digest == before
    write_table(store, "clips/000001.parquet", pa.table({"key": ["other"]}))
    sha256 = sha256_of(store.read("clips/000001.parquet"))
    other = replace(manifest.shards["000001"], sha256=sha256)
    write_manifest(store, replace(manifest, shards={**manifest.shards, "000001": other}))
    assert Dataset(dataset_url).digest != before


@pytest.mark.parametrize("harm", ["another", "gone"])
def test_an_index_that_is_not_the_recorded_one_is_refused_and_named(dataset_url: str, harm: str):
    """Also where it is a sound Parquet file: it would give other rows."""
    for folder in ("flow/toy-0123456789ab", "clips"):
        path = Path(dataset_url, folder, "000001.parquet")
        if harm == "gone":
            path.unlink()
        else:
            write_table(Store(dataset_url), f"{folder}/000001.parquet", pa.table({"key": ["x"]}))
        with pytest.raises(DamagedDataset, match=rf"{path} is .*`fluxshard verify {dataset_url}`"):
            Dataset(dataset_url).fields(Dataset(dataset_url).layer())


def test_a_merged_dataset_whose_part_was_made_anew_is_refused(
    make_dataset: Callable[[str], str], tmp_path: Path
):
    parts, merged = [make_dataset("one"), make_dataset("two")], f"{tmp_path}/merged"
    merge([Store(part) for part in parts], Store(merged))
    shutil.rmtree(parts[1])
    Path(make_dataset("three")).rename(parts[1])
    assert len(Dataset(parts[1]).clips) == 5, "the part itself is sound"
    opened = Dataset(merged)
    opened.rows("000001")
    with pytest.raises(DamagedDataset, match=rf"{parts[1]}/clips/000000.* merge {merged} again"):
        opened.rows("000002")


def test_a_dataset_opens_without_its_rows_and_reads_those_that_are_asked_for(
    dataset_url: str, reads: list[str]
):
    reads.clear()
    dataset = Dataset(dataset_url)
    assert (len(dataset), dataset.shard_rows) == (5, (3, 2))
    assert reads == ["manifest.json"]
    assert dataset.rows("000001", ["key"]).to_pydict() == {"key": ["clip-1-0", "clip-1-1"]}
    assert dataset.rows("000001", ["flow_size"], dataset.layer()).num_rows == 2
    assert reads[1:] == ["clips/000001.parquet", "flow/toy-0123456789ab/000001.parquet"]


def test_rows_come_shard_by_shard_in_order_and_few_are_read_ahead(
    dataset_url: str, reads: list[str]
):
    store, dataset = Store(dataset_url), Dataset(dataset_url)
    names = [f"{n:06d}" for n in range(200)]
    shards = {name: dataset.manifest.shards[f"{n % 2:06d}"] for n, name in enumerate(names)}
    for n, name in enumerate(names[2:]):
        store.write(f"clips/{name}.parquet", store.read(f"clips/{n % 2:06d}.parquet"))
    write_manifest(store, replace(dataset.manifest, shards=shards))
    reads.clear()
    tables = Dataset(dataset_url).each(["key"])
    assert [len(next(tables)) for _ in range(4)] == [3, 2, 3, 2]
    assert 4 < len(reads) < 50
    assert sum(map(len, tables)) == 490
