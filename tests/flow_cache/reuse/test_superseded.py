"""Flow of shards that are not planned any more is found until the dataset is finished."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from flow_cache.reuse.superseded import SUPERSEDED, supersede, superseded_flow
from shards import Store, shard_tar, table_bytes
from shards.schema import span_columns
from tests.flow_cache.reuse.test_copying import SPEC


def store_shard(store: Store, number: int, source: str) -> None:
    """One clip of a source, and a layer's flow of it."""
    stem = f"flow/{SPEC.layer}/{number:06d}"
    with shard_tar(store, f"{stem}.tar") as tar:
        places = span_columns(tar.add("key", {"flow": source.encode()}))
    row = {"key": "key", "source_sha256": source, "pts": [0, 40, 80], **places}
    store.write(f"{stem}.parquet", table_bytes(pa.Table.from_pylist([row])))
    for suffix in ("tar", "parquet"):
        store.write(f"clips/{number:06d}.{suffix}", b"clips")


def found(store: Store, source: str) -> set[bytes]:
    """What the tars hold that may have flow of a source."""
    catalog, spans = superseded_flow(store, [SPEC]), {source: (0, 80)}
    assert catalog is not None
    shards = catalog.find(SPEC.field_digest, spans).near(spans)
    return {shard.dataset.read_range(f"{shard.stem}.tar", 512, 64) for shard in shards}


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path if request.param == "local" else request.getfixturevalue("bucket"))


def test_flow_is_set_aside_and_found_whatever_numbers_its_shards_had(store: Store):
    assert superseded_flow(store, [SPEC]) is None
    first, second = "a" * 64, "b" * 64
    for source in (first, second):
        store_shard(store, 7, source)
        store_shard(store, 8, "c" * 64)
        kept = store.files("clips")[2:] + store.files("flow")[2:]
        supersede(store, lambda shard: shard == 7)
        assert store.files("clips") + store.files("flow") == kept
    for source in (first, second):
        assert found(store, source) == {source.encode()}
    assert found(store, "c" * 64) == set()
    assert superseded_flow(store, [replace(SPEC, estimator="other")]) is None


def test_killed_between_two_files_it_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch):
    store_shard(store, 0, "a" * 64)
    move = Store.move

    def move_one(self: Store, name: str, to: str) -> None:
        move(self, name, to)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "move", move_one)
        with pytest.raises(KeyboardInterrupt):
            supersede(store, lambda _: True)
    assert superseded_flow(store, [SPEC]) is None
    supersede(store, lambda _: True)
    assert store.files("clips") + store.files("flow") == []
    assert found(store, "a" * 64) == {b"a" * 64}


def test_half_of_a_shard_is_not_used(store: Store):
    store_shard(store, 0, "a" * 64)
    store.write(f"flow/{SPEC.layer}/000000.tar", b"half")
    supersede(store, lambda _: True)
    assert len(store.files(SUPERSEDED)) == 2
    assert superseded_flow(store, [SPEC]) is None


def test_index_files_of_other_readers_go_with_their_shard_and_no_other_file_is_touched(
    tmp_path: Path,
):
    store = Store(tmp_path)
    others = ["clips/.nv-meta/.info.json", "clips/.nv-meta/index.sqlite", "clips/000003.tar.idx"]
    for name in (*others, "clips/000007.tar.idx", "clips/000007.idx", "flow/x/000007.json"):
        store.write(name, b"x")
    supersede(store, lambda shard: shard == 7)
    assert store.files() == others
