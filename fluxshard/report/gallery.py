"""One clip of a dataset as it is stored: frames, flow, row; and as pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import UInt8

from flow_cache import FlowField, Pair, decode_field, flow_to_rgb, is_named
from shards import Clip, Dataset, Layer, ShardReader, UsageError, decode_clip

RGB = UInt8[np.ndarray, "h w 3"]  # RGB

_HIDDEN = np.array((255, 90, 0), np.uint8)  # what is seen in one frame and not in the other

_MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipView:
    """A clip of a dataset.

    Attributes:
        clip: which source frame stands in which slot, captions, columns.
        flow_row: its row of the flow layer, with the figures of its flow; empty without a layer.
        frames: RGB, decoded from the stored clip.
        video: the stored clip, as mp4.
        fields: the stored flow by pair of slots; empty without a layer.
    """

    clip: Clip
    flow_row: dict[str, Any]
    frames: UInt8[np.ndarray, "t 3 h w"]
    video: bytes
    fields: dict[Pair, FlowField]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.frames.shape[2], self.frames.shape[3]

    @property
    def levels(self) -> list[int]:
        """Distances of the forward pairs, ascending."""
        return sorted({j - i for i, j in self.fields if j > i})

    def image(self, slot: int) -> RGB:
        """The frame in a slot."""
        return self.frames[slot].transpose(1, 2, 0)

    def px_per_slot(self) -> float:
        """A speed that hardly any visible pixel exceeds, the 99th percentile; at least 0.1."""
        speeds = [
            torch.linalg.vector_norm(field.flow, dim=1)[field.visible] / (j - i)
            for (i, j), field in self.fields.items()
            if j > i
        ]
        visible = torch.cat(speeds).numpy()
        return max(float(np.percentile(visible, 99)), 0.1) if visible.size else 0.1


def layer_names(dataset: Dataset) -> list[str]:
    """The flow layers, in the order in which the build named their estimators."""
    layers = dataset.manifest.layers
    named = dataset.manifest.config.get("flow", "").split(",")

    def place(name: str) -> int:
        """Of the name that says most about the layer; layers that were added later go last."""
        spec = layers[name].spec
        fitting = [text for text in named if is_named(text, spec["estimator"], spec["params"])]
        return named.index(max(fitting, key=len)) if fitting else len(named)

    return sorted(layers, key=place)


class Gallery:
    """Looks up clips of a dataset.

    Args:
        dataset: an opened dataset.
        layer: the flow layer to show; None shows the first of `layer_names`, if there is one.

    Raises:
        UsageError: there is no such layer.
    """

    def __init__(self, dataset: Dataset, layer: str | None = None) -> None:
        self.dataset = dataset
        name = layer or next(iter(layer_names(dataset)), None)
        self.layer: Layer | None = None if name is None else dataset.layer(name)
        self._reader = ShardReader(dataset, self.layer)

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def flow_rows(self) -> pa.Table | None:
        """All rows of the layer; None without one."""
        return None if self.layer is None else self.dataset.fields(self.layer)

    @property
    def name(self) -> str:
        """Of the layer, as in the dataset's manifest; empty without one."""
        return "" if self.layer is None else self.layer.name

    def clip(self, number: int) -> Clip:
        """Clip `number` of the dataset."""
        return Clip.from_row(self._reader.row(number))

    def find(self, key: str) -> int:
        """Row of the clip whose key is, or is the only one to start with, `key`, or UsageError."""
        tables = self.dataset.each(["key"])
        keys = enumerate(name for table in tables for name in table["key"].to_pylist())
        first, found = list(islice(keys, 5)), {}
        for number, name in chain(first, keys):
            if name == key:
                return number
            if name.startswith(key):
                found[number] = name
        if len(found) != 1:
            some = ", ".join(list(found.values())[:_MOST_LISTED] or [name for _, name in first])
            problem = "is the start of several keys" if found else "is no clip"
            raise UsageError(f"{key!r} {problem} of {self.dataset.url}; there are {some}, ...")
        return next(iter(found))

    def view(self, number: int) -> ClipView:
        """Read and decode clip `number` with all its flow."""
        flow_row: dict[str, Any] = {}
        pairs: list[Pair] = []
        if self.layer is not None:
            flow_row = self._reader.row(number, self.layer)
            pairs = list(zip(flow_row["pair_source"], flow_row["pair_target"], strict=True))
        video = self._reader.member(number, "mp4")
        return ClipView(
            clip=self.clip(number),
            flow_row=flow_row,
            frames=decode_clip(video),
            video=video,
            fields=self._fields(number, pairs),
        )

    def _fields(self, number: int, pairs: list[Pair]) -> dict[Pair, FlowField]:
        blobs: Iterable[bytes] = self._reader.fields(number, pairs) if pairs else ()
        return {pair: decode_field(blob).field for pair, blob in zip(pairs, blobs, strict=True)}


def flow_image(field: FlowField, max_px: float) -> RGB:
    """Flow in the Middlebury colours; `max_px` is full colour."""
    return flow_to_rgb(field.flow[0], max_px)


def hidden_image(image: RGB, field: FlowField) -> RGB:
    """The source frame in grey, and orange what is not visible in the target frame."""
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    picture = np.broadcast_to(255 - 0.75 * (255 - grey), image.shape).astype(np.uint8)
    return np.where(field.visible[0].numpy()[..., None], picture, _HIDDEN)


def px(length: float) -> str:
    """A length in pixels with two digits that count."""
    return f"{length:.2g} px" if length < 99.5 else f"{length:.0f} px"
