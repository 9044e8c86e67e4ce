"""Opening datasets: the manifest proves itself, layers are chosen by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from shards.index import Dataset
from shards.manifest import DamagedDataset, read_manifest, write_manifest
from shards.store import Store


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
    other = replace(manifest.shards["000001"], sha256="0" * 64)
    write_manifest(store, replace(manifest, shards={**manifest.shards, "000001": other}))
    assert Dataset(dataset_url).digest != before
