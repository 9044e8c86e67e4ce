"""What one training step works on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from flow_cache import PackedFields
from shards import Cursor
from trainer.codec.pixels import to_signal
from trainer.spatial.transform import SpatialTransform
from trainer.temporal.plan import TemporalPlan
from trainer.temporal.stages import Stage


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowTargets:
    """Stored motion of those samples of a batch for which the recipe wants it.

    What says which pairs there are stays on the CPU, where it is decided what to estimate; to look
    at it on a GPU would wait for all work queued there.

    Attributes:
        rows: the sample in the batch; rising.
        slots: the slots that form each pair, first to second.
        hops: stored fields that the pair's flow is composed of; 0: not supervised.
        flow: from the first to the second slot's frame, pixels.
        visible: True where a pixel of the first frame is visible in the second.
    """

    rows: Int64[Tensor, " g"]
    slots: Int64[Tensor, "g n 2"]
    hops: Int64[Tensor, "g n"]
    flow: Float32[Tensor, "g n 2 h w"]
    visible: Bool[Tensor, "g n h w"]

    def pixels(self) -> list[Tensor]:
        """What is large."""
        return [self.flow, self.visible]

    def of_rows(self, first: int, end: int) -> "FlowTargets | None":
        """Those of the samples from `first` up to `end`, counted from `first`; None if none."""
        low, high = torch.searchsorted(self.rows, torch.tensor([first, end])).tolist()
        if low == high:
            return None
        names = ("slots", "hops", "flow", "visible")
        cut = {name: getattr(self, name)[low:high] for name in names}
        return replace(self, rows=self.rows[low:high] - first, **cut)

    def to(self, device: torch.device) -> "FlowTargets":
        """The same with flow and visibility on `device`."""
        flow, visible = (x.to(device, non_blocking=True) for x in self.pixels())
        return replace(self, flow=flow, visible=visible)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedTargets:
    """Stored motion on its way to the device that makes `FlowTargets` of it.

    Attributes:
        rows, slots, hops: those of the targets; no pair is composed of several fields.
        fields: one for each pair, sample after sample; without motion where it is not supervised.
        escapes: of the fields' escapes, how many each sample uses, from the start of its part of
            them; on the CPU.
    """

    rows: Int64[Tensor, " g"]
    slots: Int64[Tensor, "g n 2"]
    hops: Int64[Tensor, "g n"]
    fields: PackedFields
    escapes: Int64[Tensor, " g"]

    def pixels(self) -> list[Tensor]:
        """What is large."""
        return self.fields.tensors()

    def to(self, device: torch.device) -> "PackedTargets":
        """The same with its fields on `device`, and of their escapes those in use."""
        parts = zip(self.fields.split(len(self.rows)), self.escapes.tolist(), strict=True)
        used = [part.escapes[:count] for part, count in parts]
        codes, bits, steps, *used = (
            tensor.to(device, non_blocking=True)
            for tensor in (self.fields.codes, self.fields.bits, self.fields.steps, *used)
        )
        fields = replace(self.fields, codes=codes, bits=bits, steps=steps, escapes=torch.cat(used))
        return replace(self, fields=fields)


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """A clip that cannot be read.

    Attributes:
        key: of the clip.
        reason: what is wrong with it, and where.
        position: of the stream, at which another clip stands in for it.
    """

    key: str
    reason: str
    position: int = -1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Clips of one pyramid stage, in slot order, with all that was decided about them.

    Attributes:
        frames: RGB. On their way to the device that makes RGB of them: Y, U and V of each frame.
        levels: the noise level of each slot; None where the recipe draws none.
        flow: None where no sample wants flow.
        packed: flow on its way to the device that decodes it; None in a batch that is given out.
        stage: of the pyramid.
        plans, keys, captions: one for each sample.
        spaces: what each sample shows of the stored pictures; None: all, as they are stored.
        fps: frames a second of the full rate; None: as clips are stored.
        columns: values of the columns that the source was asked for, one for each sample.
        positions: of the samples in the order; all their randomness derives from these.
        damaged: clips that others of the batch stand in for.
        cursor: where the stream stands after this batch; what a checkpoint stores.
        seconds: spent on this batch by the stream's threads, by kind, and `stall`, the time that
            the consumer waited for it.
    """

    frames: UInt8[Tensor, "b t 3 h w"] | UInt8[Tensor, "b t p"]
    levels: Float32[Tensor, "b t"] | None
    flow: FlowTargets | None
    stage: Stage
    plans: tuple[TemporalPlan, ...]
    keys: tuple[str, ...]
    captions: tuple[str | None, ...]
    positions: tuple[int, ...]
    cursor: Cursor
    packed: PackedTargets | None = None
    spaces: tuple[SpatialTransform | None, ...] = ()
    fps: float | None = None
    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    damaged: tuple[Damage, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def nbytes(self) -> int:
        """Of its pixels and flow."""
        return sum(tensor.nbytes for tensor in self.pixels())

    @property
    def time(self) -> Float32[Tensor, " t"]:
        """When each slot is shown, in slots of the full rate. Shuffling does not move slots."""
        return self.stage.stride * torch.arange(self.frames.shape[1], dtype=torch.float32)

    @property
    def moved(self) -> float:
        """Share of slots that FluxFlow changed."""
        return sum(plan.moved for plan in self.plans) / len(self.plans)

    def clean(self) -> Float32[Tensor, "b t 3 h w"]:
        """The frames as the model's signal."""
        return to_signal(self.frames)

    def split(self, parts: int) -> "list[Batch]":
        """The batch in as many equal parts, views of it; the cursor of each is the whole's."""
        size, rest = divmod(len(self), parts)
        if rest:
            raise ValueError(f"a batch of {len(self)} clips has no {parts} equal parts")
        return [self._of_rows(first, first + size) for first in range(0, len(self), size)]

    def _of_rows(self, first: int, end: int) -> "Batch":
        names = ("frames", "plans", "keys", "captions", "positions", "spaces")
        positions = self.positions[first:end]
        return replace(
            self,
            **{name: getattr(self, name)[first:end] for name in names},
            levels=None if self.levels is None else self.levels[first:end],
            columns={name: values[first:end] for name, values in self.columns.items()},
            flow=None if self.flow is None else self.flow.of_rows(first, end),
            damaged=tuple(damage for damage in self.damaged if damage.position in positions),
        )

    def pixels(self) -> list[Tensor]:
        """What is large: frames, flow and visibility."""
        motion = [targets.pixels() for targets in (self.flow, self.packed) if targets is not None]
        return [self.frames, *chain.from_iterable(motion)]

    def to(self, device: torch.device) -> "Batch":
        """The batch with its pixels on `device`; copies from pinned memory do not block.

        What was decided, the noise levels with it, stays on the CPU.
        """
        flow = None if self.flow is None else self.flow.to(device)
        packed = None if self.packed is None else self.packed.to(device)
        frames = self.frames.to(device, non_blocking=True)
        return replace(self, frames=frames, flow=flow, packed=packed)
