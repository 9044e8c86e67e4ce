"""The manifest proves itself, and is the same whatever writes it."""

import json
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from shards.manifest import (
    DamagedDataset,
    Layer,
    Manifest,
    NoDataset,
    Shard,
    canonical_json,
    content_name,
    is_named_after,
    read_manifest,
    write_manifest,
)
from shards.store import Store, UsageError

MANIFEST = Manifest(
    state="complete",
    config={"frames": 17, "size": [48, 64], "fps": None},
    inputs="ab" * 32,
    shards={"000000": Shard(clips=3, sha256="c" * 64)},
    layers={"dis-01": Layer(name="dis-01", spec={"estimator": "dis"}, shards={"000000": "d" * 64})},
    tables={"clips.parquet": "e" * 64},
    made_by={"clips": ({"torch": "1"}, {"torch": "2"})},
)


@pytest.mark.parametrize(
    "manifest",
    [
        MANIFEST,
        Manifest(state="building", config={}),
        replace(
            MANIFEST,
            inputs=None,
            merged=("/a", "/b"),
            shards={"000000": Shard(clips=1, sha256="f" * 64, url="/a", name="000007")},
        ),
    ],
)
def test_what_is_written_is_read_back(manifest: Manifest, tmp_path: Path):
    store = Store(tmp_path)
    write_manifest(store, manifest)
    assert read_manifest(store) == manifest
    assert json.loads((tmp_path / "manifest.json").read_text())["digest"] == manifest.digest


def test_it_does_not_change_and_travels():
    assert pickle.loads(pickle.dumps(MANIFEST)) == MANIFEST
    with pytest.raises(FrozenInstanceError):
        MANIFEST.state = "building"  # type: ignore[misc]


@pytest.mark.parametrize(
    "changed",
    [
        replace(MANIFEST, state="building"),
        replace(MANIFEST, config={"frames": 9}),
        replace(MANIFEST, inputs=None),
        replace(MANIFEST, shards={}),
        replace(MANIFEST, layers={}),
        replace(MANIFEST, tables={}),
        replace(MANIFEST, made_by={"clips": ({"torch": "1"},)}),
        replace(MANIFEST, merged=("/a",)),
    ],
)
def test_every_field_is_in_the_digest(changed: Manifest):
    assert changed.digest != MANIFEST.digest


def test_another_format_is_refused_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_manifest(Store(tmp_path), MANIFEST)
    monkeypatch.setattr("shards.manifest.FORMAT_VERSION", 99)
    with pytest.raises(UsageError, match="has format 1, this version reads 99"):
        read_manifest(Store(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1, "digest": "x"}'])
def test_what_is_no_manifest_is_damage(text: str, tmp_path: Path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DamagedDataset, match=r"manifest\.json is damaged"):
        read_manifest(Store(tmp_path))


def test_no_manifest_is_no_dataset(tmp_path: Path):
    with pytest.raises(NoDataset, match="holds no dataset"):
        read_manifest(Store(tmp_path / "nothing"))


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": [1.5, None]}) == b'{"a":[1.5,null],"b":1}'


def test_a_file_is_named_after_its_content():
    name = content_name("plan", 7, b"rows")
    assert name == content_name("plan", 7, b"rows") != content_name("plan", 7, b"other rows")
    assert name.startswith("plan/000007-")
    assert name.endswith(".parquet")
    assert is_named_after(name, b"rows")
    assert not is_named_after(name, b"other rows")
