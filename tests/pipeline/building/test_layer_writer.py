"""A layer's shard: every field where its row says, copied where it exists, estimated elsewhere."""

import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flow_cache import DIRECTIONS, FlowSpec, level_pairs
from flow_cache.coding.codec import decode_field
from flow_cache.reuse.entries import StoredShard
from fluxshard.demo.scenes import random_scene
from pipeline.building import layer_writer
from pipeline.building.layer_writer import LayerWriter, flow_device, in_parts
from pipeline.planning.config import BuildConfig, flow_specs
from shards import UsageError
from shards.manifest import sha256_of
from shards.schema import Clip, Span
from shards.store import Store
from shards.writer import shard_tar, write_table

CONFIG = BuildConfig(size=(48, 64), frames=5, flow="dis", levels=(1, 2))
VIDEO = Span(offset=512, size=1000, crc32=7)
CLIP = Clip(
    key="a-0",
    path="/a.mp4",
    source_sha256="ab" * 32,
    numbers=tuple(range(5)),
    pts=tuple(range(0, 200, 40)),
    time_base=Fraction(1, 1000),
    fps=Fraction(25),
    size=(48, 64),
    shot=0,
    repeated=0,
    decode_errors=0,
    seekable=True,
)


@pytest.fixture(scope="module")
def spec() -> FlowSpec:
    (spec,) = flow_specs(CONFIG)
    return spec


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return random_scene(3, (48, 64), speed=2.0).clip([float(t) for t in range(5)])


def write(
    folder: Path, spec: FlowSpec, frames: np.ndarray, stored: tuple[StoredShard, ...] = ()
) -> LayerWriter:
    store = Store(folder)
    with shard_tar(store, "x.tar") as tar:
        writer = LayerWriter(spec, tar, stored)
        writer.add(CLIP, frames, VIDEO)
    write_table(store, "x.parquet", writer.table())
    return writer


def test_every_field_is_where_its_row_says(tmp_path: Path, spec: FlowSpec, frames: np.ndarray):
    writer = write(tmp_path, spec, frames)
    (row,) = pq.read_table(tmp_path / "x.parquet").to_pylist()
    tar = (tmp_path / "x.tar").read_bytes()
    pairs = list(zip(row["pair_source"], row["pair_target"], strict=True))
    assert tuple(pairs) == level_pairs(5, CONFIG.levels, CONFIG.directions)
    for pair, offset, size, crc32 in zip(
        pairs, row["field_offset"], row["field_size"], row["field_crc32"], strict=True
    ):
        blob = tar[offset : offset + size]
        assert zlib.crc32(blob) == crc32
        assert decode_field(blob).pair == pair
    assert row["flow_size"] == sum(row["field_size"])
    assert (row["key"], row["source_sha256"], row["pts"]) == (
        CLIP.key,
        CLIP.source_sha256,
        list(CLIP.pts),
    )
    assert 0 < row["magnitude_mean"] < row["magnitude_p95"]
    assert writer.costs.computed == {spec.layer: len(pairs)}


def test_what_is_stored_is_copied_and_gives_the_same_bytes(
    tmp_path: Path, spec: FlowSpec, frames: np.ndarray
):
    write(tmp_path / "one", spec, frames)
    one = Store(tmp_path / "one")
    place = StoredShard(dataset=one, stem="x", sha256=sha256_of(one.read("x.parquet")), rows=(0,))
    writer = write(tmp_path / "two", spec, frames, (place,))
    for name in ("x.tar", "x.parquet"):
        assert Store(tmp_path / "two").read(name) == one.read(name)
    assert writer.costs.computed.total() == 0
    assert writer.costs.reused == {
        (spec.layer, one.url): len(level_pairs(5, CONFIG.levels, CONFIG.directions))
    }


def test_both_ways_between_two_frames_come_together_and_parts_decide_no_byte(
    tmp_path: Path, spec: FlowSpec, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    spec, pairs = replace(spec, directions=DIRECTIONS), level_pairs(5, CONFIG.levels)
    parts = list(in_parts(pairs, 2))
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)
    assert all({*part} == {(j, i) for i, j in part} and len(part) <= 4 for part in parts)
    told: list[bool] = []
    monkeypatch.setattr(layer_writer, "tell_progress", lambda: told.append(True))
    write(tmp_path / "whole", spec, frames)
    whole = len(told)
    monkeypatch.setattr(layer_writer, "_FEW", 1)
    write(tmp_path / "parts", spec, frames)
    assert len(told) - whole == whole + len(pairs) // 2 - 1
    assert whole == len(pairs) + 1
    tars = [(tmp_path / name / "x.tar").read_bytes() for name in ("whole", "parts")]
    assert tars[0] == tars[1]


def test_a_network_runs_on_the_gpu_that_its_worker_announces(monkeypatch: pytest.MonkeyPatch):
    (plain,) = flow_specs(CONFIG)
    network = replace(plain, weights_sha256="0" * 64)
    assert flow_device(network).type == "cpu"
    monkeypatch.setattr(layer_writer, "announces_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert flow_device(network).type == "cuda"
    assert flow_device(plain).type == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="announces a GPU, and torch sees none"):
        flow_device(network)
