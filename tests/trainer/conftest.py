"""A real little dataset: scenes of known motion, H.264 clips, flow by the variational estimator."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from flow_cache.coding.codec import encode_field
from flow_cache.estimators import load_estimator
from flow_cache.estimators.estimate import estimate_clip
from flow_cache.field import FlowField
from flow_cache.spec import FlowSpec, Pair, level_pairs
from fluxshard.demo.scenes import random_scene
from shards.clip_video import decode_rgb, encode_clip
from shards.index import Dataset
from shards.manifest import Layer, Manifest, Shard, sha256_of, write_manifest
from shards.reader import ShardReader
from shards.schema import shard_name, span_columns
from shards.store import Store
from shards.writer import ShardTar, shard_tar, write_table
from trainer.codec.pixels import to_signal
from trainer.config import ModelConfig, OptimConfig, StreamConfig, TrainConfig
from trainer.stream.batch import FlowTargets
from trainer.stream.fill import FlowRequest, answer_pairs
from trainer.temporal.plan import PairOrder, TemporalPlan, supervise

SIZE, FRAMES, MAX_ERROR = (48, 64), 9, 1 / 32
SHARDS = (3, 2, 1)


def small_spec() -> FlowSpec:
    live = load_estimator("variational")
    return FlowSpec(
        estimator=live.name,
        revision=live.revision,
        params=live.params,
        weights_sha256=live.weights_sha256,
        size=SIZE,
        occlusion="fb-sundaram2010",
        levels=(1, 2, 4),
        max_error_px=MAX_ERROR,
        frames_from="source",
    )


@dataclass(frozen=True, kw_only=True)
class Made:
    """A dataset and what it was made of: source frames and unquantised flow, by row."""

    dataset: Dataset
    spec: FlowSpec
    sources: list[np.ndarray]
    fields: list[dict[Pair, FlowField]]

    def source(self, row: int, plan: TemporalPlan) -> torch.Tensor:
        """The source frames that a plan shows, as the model's signal [t, 3, h, w]."""
        return to_signal(torch.from_numpy(self.sources[row][plan.src_index]))

    def stored(self, row: int, plan: TemporalPlan) -> torch.Tensor:
        """The same frames of the stored clip."""
        reader = ShardReader(self.dataset)
        out = torch.empty(len(plan), 3, *SIZE, dtype=torch.uint8)
        decode_rgb(reader.member(row, "mp4"), plan.src_index.tolist(), out.numpy())
        return to_signal(out)

    def targets(
        self, plans: Mapping[int, TemporalPlan], order: PairOrder = "restored"
    ) -> FlowTargets:
        """Stored flow of several rows' plans, as the loader would give it."""
        reader = ShardReader(self.dataset, self.dataset.layer("variational"))
        pairs = level_pairs(FRAMES, self.spec.levels, self.spec.directions)
        found = [supervise(plan, pairs, order, 8) for plan in plans.values()]
        shape = (len(found), len(found[0].chains))
        flow, visible = torch.empty(*shape, 2, *SIZE), torch.empty(*shape, *SIZE, dtype=torch.bool)
        for n, (row, supervision) in enumerate(zip(plans, found, strict=True)):
            request = FlowRequest(supervision=supervision, flow=flow[n], visible=visible[n])
            answer_pairs(request, reader.fields(row, supervision.fields))
        return FlowTargets(
            rows=torch.arange(len(found)),
            slots=torch.from_numpy(np.stack([s.slots for s in found])),
            hops=torch.tensor([[len(chain) for chain in s.chains] for s in found]),
            flow=flow,
            visible=visible,
        )


@dataclass(frozen=True, kw_only=True)
class Times:
    """When the frames of a clip were taken."""

    pts: Sequence[int]
    base: Fraction = Fraction(1, 12)
    fps: Fraction = Fraction(12)


@pytest.fixture(scope="session", autouse=True)
def one_compute_thread() -> Iterator[None]:
    """Small tensors gain nothing from more, and lose much where other processes are at work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, one_compute_thread: None) -> Made:
    url, spec = tmp_path_factory.mktemp("data") / "dataset", small_spec()
    estimator = load_estimator("variational")
    times = [float(t) for t in range(FRAMES)]
    sources = [random_scene(seed, SIZE, speed=2.0).clip(times) for seed in range(sum(SHARDS))]
    fields = [estimate_clip(estimator, torch.from_numpy(clip), spec) for clip in sources]
    dataset = write_dataset(url, spec, sources, fields, SHARDS)
    return Made(dataset=dataset, spec=spec, sources=sources, fields=fields)


def write_dataset(
    url: Path,
    spec: FlowSpec,
    sources: Sequence[np.ndarray],
    fields: Sequence[Mapping[Pair, FlowField]],
    shards_of: Sequence[int],
    times: Sequence[Times] = (),
) -> Dataset:
    """Clips [t, 3, h, w] and their flow, as many in each shard as `shards_of` says.

    Args:
        times: of the frames of each clip; none: 12 a second.
    """
    times = times or [Times(pts=range(len(clip))) for clip in sources]
    store, shards, layers, row = Store(url), {}, {}, 0
    for shard, count in enumerate(shards_of):
        name, rows = shard_name(shard), range(row, row + count)
        row += count
        with shard_tar(store, f"clips/{name}.tar") as tar:
            clip_rows = [add_clip(tar, n, sources[n], times[n]) for n in rows]
        write_table(store, f"clips/{name}.parquet", pa.Table.from_pylist(clip_rows))
        with shard_tar(store, f"flow/{spec.layer}/{name}.tar") as tar:
            flow_rows = [add_flow(tar, n, fields[n], spec) for n in rows]
        write_table(store, f"flow/{spec.layer}/{name}.parquet", pa.Table.from_pylist(flow_rows))
        digest = sha256_of(Path(f"{url}/clips/{name}.parquet").read_bytes())
        shards[name] = Shard(clips=count, sha256=digest)
        layers[name] = sha256_of(Path(f"{url}/flow/{spec.layer}/{name}.parquet").read_bytes())
    layer = Layer(name=spec.layer, spec=spec.to_json(), shards=layers)
    manifest = Manifest(state="complete", config={}, shards=shards, layers={spec.layer: layer})
    write_manifest(store, manifest)
    return Dataset(str(url))


def add_clip(tar: ShardTar, number: int, frames: np.ndarray, times: Times) -> dict:
    key, caption = f"clip-{number}", f"scene {number}"
    height, width = frames.shape[-2:]
    members = {"mp4": encode_clip(frames, times.fps), "txt": caption.encode(), "json": b"{}"}
    facts: dict[str, Any] = {
        "frames": len(frames),
        "height": height,
        "width": width,
        "caption": caption,
    }
    facts |= {
        "pts": list(times.pts),
        "time_base_num": times.base.numerator,
        "time_base_den": times.base.denominator,
        "fps_num": times.fps.numerator,
        "fps_den": times.fps.denominator,
    }
    return {"key": key, **facts, **span_columns(tar.add(key, members))}


def add_flow(tar: ShardTar, number: int, fields: Mapping[Pair, FlowField], spec: FlowSpec) -> dict:
    """A clip's fields, in the order of `level_pairs`."""
    key, pairs = f"clip-{number}", list(fields)
    blobs = [
        encode_field(
            fields[pair].flow[0],
            fields[pair].visible[0],
            pair=pair,
            max_error_px=spec.max_error_px,
            spec_digest=spec.field_digest,
        )
        for pair in pairs
    ]
    span = tar.add(key, {"flow": b"".join(blobs)})["flow"]
    sizes = [len(blob) for blob in blobs]
    return {
        "key": key,
        **span_columns({"flow": span}),
        "pair_source": [a for a, _ in pairs],
        "pair_target": [b for _, b in pairs],
        "field_offset": (span.offset + np.cumsum([0, *sizes[:-1]])).tolist(),
        "field_size": sizes,
        "field_crc32": [zlib.crc32(blob) for blob in blobs],
    }


@pytest.fixture
def config() -> TrainConfig:
    """A run small enough for tests."""
    return TrainConfig(
        clips=12,
        device="cpu",
        log_steps=1,
        checkpoint_clips=6,
        stream=StreamConfig(frames=8, batch=2, threads=2, window=2),
        model=ModelConfig(dim=16, depth=1, heads=2, patch=8),
        optim=OptimConfig(learning_rate=1e-3, warmup_clips=4, ema_clips=4),
    )
