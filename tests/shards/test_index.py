"""Opening datasets: the manifest proves itself, layers are chosen by name."""

import json
from pathlib import Path

import pytest

from shards.index import Dataset, canonical_json, read_manifest, write_manifest


def test_a_layer_is_found_by_estimator_name_or_digest(dataset_url: str):
    dataset = Dataset(dataset_url)
    names = [dataset.layer(name).name for name in (None, "toy", "toy-0123456789ab", "0123")]
    assert names == ["toy-0123456789ab"] * 4


def test_a_missing_or_ambiguous_layer_lists_what_there_is(dataset_url: str):
    dataset = Dataset(dataset_url)
    with pytest.raises(ValueError, match=r"'dis' does not exist.*there: toy-0123456789ab"):
        dataset.layer("dis")
    dataset.manifest["layers"]["toy-fff"] = {"spec": {"estimator": "toy"}, "shards": {}}
    with pytest.raises(ValueError, match=r"'toy' is ambiguous.*toy-0123456789ab, toy-fff"):
        dataset.layer("toy")


def test_a_missing_a_damaged_and_an_unfinished_dataset_are_told_apart(dataset_url: str):
    with pytest.raises(FileNotFoundError, match="holds no dataset"):
        Dataset(f"{dataset_url}/nothing")
    path = Path(dataset_url, "manifest.json")
    intact = path.read_text()
    path.write_text(intact.replace('"clips": 3', '"clips": 4'))
    with pytest.raises(ValueError, match="damaged: its digest"):
        Dataset(dataset_url)
    path.write_text("[]")
    with pytest.raises(ValueError, match="damaged"):
        Dataset(dataset_url)
    write_manifest(dataset_url, {**json.loads(intact), "state": "building"})
    with pytest.raises(ValueError, match="has not finished; run the same command again"):
        Dataset(dataset_url)


def test_another_format_is_refused_by_number(dataset_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shards.index.FORMAT_VERSION", 99)
    with pytest.raises(ValueError, match="has format 1, this version reads 99"):
        read_manifest(dataset_url)


def test_the_dataset_digest_changes_with_the_clips_only(dataset_url: str):
    before = Dataset(dataset_url).digest
    manifest = read_manifest(dataset_url)
    write_manifest(dataset_url, {**manifest, "layers": {}})
    assert Dataset(dataset_url).digest == before
    manifest["shards"]["000001"]["sha256"] = "0" * 64
    write_manifest(dataset_url, manifest)
    assert Dataset(dataset_url).digest != before


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": [1.5, None]}) == b'{"a":[1.5,null],"b":1}'
