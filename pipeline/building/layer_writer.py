"""One shard of a flow layer: take the fields that exist, estimate the rest, write them."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, chain
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import UInt8

from flow_cache import (
    FIGURES,
    NATIVE,
    FlowEstimator,
    FlowField,
    FlowSpec,
    Pair,
    clip_quality,
    decode_field,
    encode_field,
    estimate_clip,
    field_bound,
    level_pairs,
    load_estimator,
    measure_round_trip,
    read_header,
    shortest_pairs,
)
from flow_cache.reuse.copying import StoredFields, frames_identity
from flow_cache.reuse.entries import StoredShard
from pipeline.building.costs import Costs
from pipeline.cluster import announces_gpu
from pipeline.makers import this_process
from pipeline.progress import tell_progress
from shards import Clip, Span, Stopwatch, Store, UsageError, read_manifest
from shards.manifest import Maker
from shards.schema import FLOW_MEMBERS, FLOW_TABLE, member_columns, span_columns
from shards.writer import ShardTar

_FEW = 8  # times two frames, there and back: they share what estimators prepare of the clip
_SCHEMA = pa.unify_schemas(
    [
        FLOW_TABLE,
        member_columns(FLOW_MEMBERS),
        pa.schema([(figure, pa.float64()) for figure in FIGURES]),
    ]
)


GivenFlow = Callable[[Clip], FlowEstimator]  # for each clip, what looks its flow up


class LayerWriter:
    """The shard of one flow layer while it is written.

    Args:
        spec: of the layer.
        tar: to write to.
        stored: where flow of its clips may be already.
        given: what knows the flow of each clip, where the estimator that the spec names does not.
    """

    def __init__(
        self,
        spec: FlowSpec,
        tar: ShardTar,
        stored: Sequence[StoredShard],
        given: GivenFlow | None = None,
    ) -> None:
        self.spec = spec
        self._tar = tar
        self._rows: list[dict[str, Any]] = []
        self._given = given
        self._estimator = None if given else load_estimator(spec.estimator, **spec.params)
        self._device = flow_device(spec)
        self._layer, self._digest = spec.layer, spec.field_digest  # each is hashed anew when asked
        self._watch = Stopwatch()
        with self._watch("copy"):
            whole_clip = self._estimator is None or self._estimator.whole_clip
            self._stored = StoredFields(spec, whole_clip, stored)
        self._warnings = self._stored.warnings
        self._reused: Counter[tuple[str, str]] = Counter()
        self._computed = 0

    @property
    def costs(self) -> Costs:
        """Of all clips added so far."""
        return Costs(
            reused=self._reused,
            computed=Counter({self._layer: self._computed}),
            seconds=dict(self._watch.seconds),
            warnings=self._warnings,
        )

    @property
    def makers(self) -> tuple[Maker, ...]:
        """What made its fields: this process what it computed, others what it copied."""
        here = [this_process(self._device)] if self._computed else []
        datasets = {url for _, url in self._reused}
        return (*here, *(m for url in sorted(datasets) for m in makers_of(self.spec, url)))

    def add(self, clip: Clip, frames: UInt8[np.ndarray, "t 3 h w"], video: Span) -> None:
        """Write KEY.flow of one clip; its row gets the place of every field.

        Args:
            frames: what the spec says that flow is made from.
            video: the place of the stored clip.
        """
        source, times = frames_identity(self.spec, clip, video)
        pairs = level_pairs(len(frames), self.spec.levels, self.spec.directions)
        images = torch.from_numpy(frames)
        with self._watch("copy"):
            copies = self._stored.take(source, times, pairs)
        missing = [pair for pair in pairs if pair not in copies.fields]
        with self._watch("flow"):
            estimates = self._estimate(clip, images, missing)
        with self._watch("store"):
            blobs = copies.fields | {pair: self._encode(pair, estimates) for pair in missing}
        blobs = {pair: blobs[pair] for pair in pairs}  # one order, wherever each came from
        with self._watch("figures"):
            figures = self._figures(images, blobs)
        self._reused += Counter({(self._layer, url): n for url, n in copies.origins.items()})
        self._computed += len(missing)
        self._warnings |= copies.warnings
        span = self._tar.add(clip.key, {"flow": b"".join(blobs.values())})["flow"]
        sizes = [len(blob) for blob in blobs.values()]
        self._rows.append(
            {
                "key": clip.key,
                "source_sha256": source,
                "pts": times,
                "pair_source": [start for start, _ in pairs],
                "pair_target": [target for _, target in pairs],
                "field_offset": list(accumulate(sizes[:-1], initial=span.offset)),
                "field_size": sizes,
                "field_crc32": [zlib.crc32(blob) for blob in blobs.values()],
                **span_columns({"flow": span}),
                **figures,
            }
        )

    @property
    def _returns(self) -> bool:
        """Whether each pair is estimated with its way back: a mask of consistency needs it anyway.

        Which directions a layer holds must not matter to a field's bound.
        """
        return self.spec.occlusion != NATIVE

    def _estimate(
        self, clip: Clip, images: torch.Tensor, pairs: Sequence[Pair]
    ) -> dict[Pair, FlowField]:
        """Flow of pairs and of their ways back; on a CPU a few at a time, telling of progress.

        A pair's flow does not depend on which come with it there (`FlowEstimator`).
        """
        seen, fields = images.to(self._device), dict[Pair, FlowField]()
        estimator = self._given(clip) if self._given else self._estimator
        assert estimator is not None, "flow is given or estimated"
        at_once = estimator.whole_clip or seen.is_cuda
        for some in [pairs] if at_once else in_parts(pairs, _FEW):
            back = [(j, i) for i, j in some] if self._returns else []
            ways = tuple(dict.fromkeys((*some, *back)))
            fields |= estimate_clip(estimator, seen, self.spec, ways)
            tell_progress()
        return fields

    def _encode(self, pair: Pair, estimates: Mapping[Pair, FlowField]) -> bytes:
        tell_progress()
        field = estimates[pair]
        trip = measure_round_trip(field, estimates[pair[::-1]].flow) if self._returns else None
        rms, mean = (trip.rms, trip.mean) if trip else (None, None)
        largest = field.flow.abs().max().item()
        return encode_field(
            field.flow[0],
            field.visible[0],
            pair=pair,
            max_error_px=field_bound(self.spec.max_error_px, rms, largest),
            spec_digest=self._digest,
            round_trip_px=mean,
        )

    def _figures(self, images: torch.Tensor, blobs: Mapping[Pair, bytes]) -> dict[str, float]:
        """Of the fields as they are stored, so that they are the same for copies and estimates."""
        stored = {pair: decode_field(blobs[pair]) for pair in shortest_pairs(blobs)}
        return clip_quality(
            images,
            {pair: decoded.field for pair, decoded in stored.items()},
            {pair: decoded.round_trip_px for pair, decoded in stored.items()},
            saturated=sum(read_header(blob).saturated for blob in blobs.values()),
        )

    def table(self) -> pa.Table:
        """The shard's Parquet, to be written once its tar is in place."""
        return pa.Table.from_pylist(self._rows, schema=_SCHEMA)


def in_parts(pairs: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
    """The pairs of so many times two frames after another; there and back stay together."""
    ways: dict[tuple[int, int], list[Pair]] = {}
    for i, j in pairs:
        ways.setdefault((min(i, j), max(i, j)), []).append((i, j))
    both = list(ways.values())
    for start in range(0, len(both), size):
        yield list(chain.from_iterable(both[start : start + size]))


def makers_of(spec: FlowSpec, url: str) -> Iterator[Maker]:
    """What made the layers of a dataset that fields are copied from, as far as it tells."""
    with suppress(OSError, ValueError):  # it has vanished since
        manifest = read_manifest(Store(url))
        for name, layer in manifest.layers.items():
            if FlowSpec.from_json(layer.spec).field_digest == spec.field_digest:
                yield from manifest.made_by.get(name, ())


def flow_device(spec: FlowSpec) -> torch.device:
    """Where a worker computes a layer: a network on the GPU that the worker announces, if any.

    Raises:
        UsageError: it announces one that torch does not see; the CPU would give other bytes.
    """
    if spec.weights_sha256 is None or not announces_gpu():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(
            "a worker announces a GPU, and torch sees none there: start it without the resource "
            "GPU, or install torch for CUDA"
        )
    return torch.device("cuda")
