"""A small dataset written with the package's own writers: two shards, one flow layer."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shards.manifest import Layer, Manifest, Shard, sha256_of, write_manifest
from shards.schema import REJECTS, shard_name, span_columns
from shards.store import Store
from shards.writer import shard_tar, write_table

PAIRS = [(0, 1), (1, 0), (1, 2), (2, 1)]


def payload(*seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(200 + 37 * seed[-1])


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[[str], str]:
    """`make_dataset(prefix) -> url`: keys begin with the prefix.

    Three clips in shard 000000 and two in 000001; layer `toy-0123456789ab`.
    """

    def make(prefix: str) -> str:
        write_dataset(f"{tmp_path}/{prefix}", prefix)
        return f"{tmp_path}/{prefix}"

    return make


@pytest.fixture
def dataset_url(make_dataset: Callable[[str], str]) -> str:
    return make_dataset("clip")


def write_dataset(url: str, prefix: str) -> None:
    store, shards, layer = Store(url), {}, {}
    for shard, count in enumerate((3, 2)):
        name = shard_name(shard)
        keys = [f"{prefix}-{shard}-{n}" for n in range(count)]
        with shard_tar(store, f"clips/{name}.tar") as tar:
            rows = []
            for n, key in enumerate(keys):
                caption = f"caption {n}" * (n > 0)  # the first has none
                members = {"mp4": payload(shard, n), "json": b"{}", "txt": caption.encode()}
                looks = {"height": 48, "width": 64, "caption": caption}
                rows.append({"key": key, **looks, **span_columns(tar.add(key, members))})
        write_table(store, f"clips/{name}.parquet", pa.Table.from_pylist(rows))
        with shard_tar(store, f"flow/toy-0123456789ab/{name}.tar") as tar:
            rows = [flow_row(tar, shard, n, key) for n, key in enumerate(keys)]
        write_table(store, f"flow/toy-0123456789ab/{name}.parquet", pa.Table.from_pylist(rows))
        digest = sha256_of(Path(f"{url}/clips/{name}.parquet").read_bytes())
        shards[name] = Shard(clips=count, sha256=digest)
        layer[name] = sha256_of(Path(f"{url}/flow/toy-0123456789ab/{name}.parquet").read_bytes())
    rejects = pa.Table.from_pylist([{"path": prefix, "reason": "too_short"}], schema=REJECTS)
    write_table(store, "rejects.parquet", rejects)
    name = "toy-0123456789ab"
    manifest = Manifest(
        state="complete",
        config={"frames": 17, "name": prefix},
        shards=shards,
        layers={name: Layer(name=name, spec={"estimator": "toy"}, shards=layer)},
    )
    write_manifest(store, manifest)


def flow_row(tar, shard: int, n: int, key: str) -> dict:
    blobs = [payload(shard, n, k) for k in range(len(PAIRS))]
    span = tar.add(key, {"flow": b"".join(blobs)})["flow"]
    sizes = [len(blob) for blob in blobs]
    return {
        "key": key,
        **span_columns({"flow": span}),
        "pair_source": [a for a, _ in PAIRS],
        "pair_target": [b for _, b in PAIRS],
        "field_offset": (span.offset + np.cumsum([0, *sizes[:-1]])).tolist(),
        "field_size": sizes,
        "field_crc32": [zlib.crc32(blob) for blob in blobs],
    }
