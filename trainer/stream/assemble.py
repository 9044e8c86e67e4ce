"""One rank's share of a batch, before a byte of its clips is read: tensors, and who fills them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from flow_cache import DamagedField, packed_room
from shards import Cursor, DamagedClip, DamagedDataset, Exhausted, Stopwatch
from trainer.stream.batch import Batch, Damage, FlowTargets, PackedTargets
from trainer.stream.fill import FlowRequest, PackedRequest, SampleRequest
from trainer.stream.samples import Found, Samples
from trainer.temporal.plan import Supervision
from trainer.temporal.recipe import Recipe, SamplePlan
from trainer.temporal.stages import Stage

_DAMAGE = (DamagedDataset, DamagedClip, DamagedField, OSError)
Empty = Callable[..., Tensor]  # torch.empty, perhaps in pinned memory


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """One sample of a batch that is to be filled in.

    Attributes:
        found: the clip.
        request: what is shown of it, and where that goes.
    """

    found: Found
    request: SampleRequest


def assemble(
    clips: Sequence[Found],
    recipe: Recipe,
    stage: Stage,
    cursor: Cursor,
    empty: Empty = torch.empty,
    *,
    planes: bool = False,
    packed: bool = False,
) -> tuple[Batch, list[Part]]:
    """The batch of some clips, allocated, and the parts that fill it.

    Args:
        cursor: where the stream stands after it.
        planes: frames are decoded to their planes, for a device that makes RGB of them and shows
            what the plans say of it.
        packed: fields are not decoded, for a device that does so, where it does so exactly.

    Raises:
        ValueError: the recipe draws noise levels for some of the samples only, or shows them at
            several sizes or lengths.
    """
    plans = [recipe.sample(clip.position, clip.facts, stage) for clip in clips]
    slots, *size = _shape(clips, plans)
    height, width = clips[0].stored
    frame = (3 * height * width // 2,) if planes else (3, *size)
    packs = packed and _are_exact(clips, plans)
    batch = Batch(
        frames=empty(len(clips), slots, *frame, dtype=torch.uint8),
        levels=_levels(plans),
        flow=None if packs else _targets(plans, (size[0], size[1]), empty),
        packed=_packed(plans, clips[0].stored, empty) if packs else None,
        stage=stage,
        plans=tuple(plan.shown for plan in plans),
        spaces=tuple(plan.space for plan in plans),
        keys=tuple(clip.samples.key(clip.row) for clip in clips),
        captions=tuple(clip.samples.caption(clip.row, clip.position) for clip in clips),
        fps=clips[0].samples.fps,
        columns={
            name: tuple(clip.samples.value(clip.row, name) for clip in clips)
            for name in clips[0].samples.source.columns
        },
        positions=tuple(clip.position for clip in clips),
        damaged=tuple(
            replace(clip.damaged, position=clip.position) for clip in clips if clip.damaged
        ),
        cursor=cursor,
    )
    requests = _requests(batch, clips, plans)
    return batch, [
        Part(found=clip, request=request) for clip, request in zip(clips, requests, strict=True)
    ]


def _shape(clips: Sequence[Found], plans: Sequence[SamplePlan]) -> tuple[int, int, int]:
    """The one (slots, height, width) that the samples are shown at."""
    shapes = {
        (len(plan.shown), *(clip.stored if plan.space is None else plan.space.size))
        for clip, plan in zip(clips, plans, strict=True)
    }
    if len(shapes) != 1:
        raise ValueError(
            "a recipe shows the samples of a batch in one number of slots, height and width, not "
            f"{sorted(shapes)}"
        )
    return shapes.pop()


def _levels(plans: Sequence[SamplePlan]) -> Float32[Tensor, "b t"] | None:
    """The samples' noise levels; None where the recipe draws none."""
    drawn = [plan.levels for plan in plans if plan.levels is not None]
    if len(drawn) not in (0, len(plans)):
        raise ValueError(f"a recipe draws noise levels for all samples or none, not {len(drawn)}")
    return torch.from_numpy(np.stack(drawn)) if drawn else None


def _are_exact(clips: Sequence[Found], plans: Sequence[SamplePlan]) -> bool:
    """Whether all of the flow can be decoded on any device to the same bits.

    What interpolates is rounded as each device likes (chains of fields, resized pictures), and
    fields of the first layout are decoded on the host. A tensor has fields of one size.
    """
    chains = (c for p in plans if p.supervision is not None for c in p.supervision.chains)
    return (
        all(clip.samples.packs for clip in clips)
        and len({clip.stored for clip in clips}) == 1
        and all(len(chain) < 2 for chain in chains)
        and not any(plan.space and plan.space.resizes for plan in plans)
    )


def _wanted(plans: Sequence[SamplePlan]) -> dict[str, Tensor] | None:
    """The samples that want flow, their pairs, and how many fields answer each; None if none do."""
    wanted = {row: p.supervision for row, p in enumerate(plans) if p.supervision is not None}
    if not wanted:
        return None
    return {
        "rows": torch.tensor(list(wanted)),
        "slots": torch.from_numpy(np.stack([found.slots for found in wanted.values()])),
        "hops": torch.tensor([list(map(len, found.chains)) for found in wanted.values()]),
    }


def _targets(
    plans: Sequence[SamplePlan], size: tuple[int, int], empty: Empty
) -> FlowTargets | None:
    """Flow targets of the samples that want some, with the fields still to be filled in."""
    wanted = _wanted(plans)
    if wanted is None:
        return None
    shape = wanted["hops"].shape
    return FlowTargets(
        **wanted,
        flow=empty(*shape, 2, *size, dtype=torch.float32),
        visible=empty(*shape, *size, dtype=torch.bool),
    )


def _packed(
    plans: Sequence[SamplePlan], stored: tuple[int, int], empty: Empty
) -> PackedTargets | None:
    """The same, for a device to decode."""
    wanted = _wanted(plans)
    if wanted is None:
        return None
    return PackedTargets(
        **wanted,
        fields=packed_room(wanted["hops"].numel(), stored, empty),
        escapes=torch.zeros(len(wanted["rows"]), dtype=torch.int64),
    )


def _requests(
    batch: Batch, clips: Sequence[Found], plans: Sequence[SamplePlan]
) -> list[SampleRequest]:
    """One request for each sample, with views of the batch's tensors to write to."""
    flow = _flow_requests(batch, [p.supervision for p in plans if p.supervision is not None])
    return [
        SampleRequest(
            row=clip.row,
            src_index=plan.shown.src_index,
            frames=frames,
            flow=None if plan.supervision is None else next(flow),
            space=plan.space,
        )
        for clip, plan, frames in zip(clips, plans, batch.frames, strict=True)
    ]


def _flow_requests(
    batch: Batch, wanted: Sequence[Supervision]
) -> Iterator[FlowRequest | PackedRequest]:
    """One for each sample that wants flow."""
    if batch.flow is not None:
        for sample, flow, visible in zip(wanted, *batch.flow.pixels(), strict=True):
            yield FlowRequest(supervision=sample, flow=flow, visible=visible)
    elif batch.packed is not None:
        places = batch.packed.fields.split(len(wanted)), batch.packed.escapes
        for sample, fields, escapes in zip(wanted, *places, strict=True):
            yield PackedRequest(supervision=sample, fields=fields, escapes=escapes)


def gather(
    parts: Sequence[Part],
    waits: Sequence[Callable[[], Stopwatch]],
    seconds: dict[str, float],
    avoid: dict[Samples, dict[int, Damage]],
) -> bool:
    """Wait for all parts, add up their times; whether any is damaged, which `avoid` then has."""
    damaged = False
    for part, wait in zip(parts, waits, strict=True):
        samples, number = part.found.samples, part.found.number
        try:
            for kind, duration in wait().seconds.items():
                seconds[kind] = seconds.get(kind, 0) + duration
        except Exhausted:
            raise
        except _DAMAGE as error:
            damage = Damage(key=samples.key(part.found.row), reason=str(error))
            avoid[samples][number] = damage
            if not isinstance(error, OSError):  # which may have passed when it is met again
                samples.bad[number] = damage
            damaged = True
    return damaged
