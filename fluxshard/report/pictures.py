"""Pictures of a report: a clip with its flow and occlusion, true flow beside stored flow."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from flow_cache import Pair, flow_to_rgb, wheel_legend
from fluxshard.report.accuracy import Score, Truth, error_map, score
from fluxshard.report.clip_figure import shown_slots
from fluxshard.report.gallery import RGB, ClipView, flow_image, hidden_image, px
from shards import Clip, encode_clip

ERROR_RANGE_PX = 2.0  # full colour of an error map
_MIN_VIDEO_PX = 240  # clips narrower than this are enlarged for the page

Strip = tuple[str, list[tuple[str, RGB]]]  # title, and pictures with theirs


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipExhibit:
    """A clip with its flow, for the page.

    Attributes:
        clip: which it is.
        film: mp4 of the clip; beside it, flow and occlusion to the next frame if stored.
        strips: frames, flow over each distance, occlusion.
        wheel: the colour wheel; None without flow.
        speed: pixels per frame of distance at full colour.
    """

    clip: Clip
    film: bytes
    strips: list[Strip]
    wheel: UInt8[np.ndarray, "side side 3"] | None
    speed: float


def exhibit_clip(view: ClipView) -> ClipExhibit:
    """A clip as a film and as strips of pictures."""
    slots, speed = shown_slots(view), view.px_per_slot() if view.levels else 0.0
    strips: list[Strip] = [
        ("Stored clip", [(f"frame {slot}", view.image(slot)) for slot in slots]),
        *(_flow_strip(view, slots, level, level * speed) for level in view.levels),
    ]
    if view.levels:
        strips.append(_hidden_strip(view, slots, view.levels[-1]))
    return ClipExhibit(
        clip=view.clip,
        film=film(view, speed),
        strips=strips,
        wheel=wheel_legend(160) if view.levels else None,
        speed=speed,
    )


def _flow_strip(view: ClipView, slots: list[int], level: int, max_px: float) -> Strip:
    pictures = [
        (f"{slot} → {slot + level}", flow_image(view.fields[slot, slot + level], max_px))
        for slot in slots
    ]
    return f"Flow, {level} frame{'s' * (level > 1)} on: full colour at {px(max_px)}", pictures


def _hidden_strip(view: ClipView, slots: list[int], level: int) -> Strip:
    pictures = []
    for slot in slots:
        field = view.fields[slot, slot + level]
        share = 1 - field.visible.float().mean().item()
        title = f"{share:.1%} of {slot} hidden in {slot + level}"
        pictures.append((title, hidden_image(view.image(slot), field)))
    return f"Occlusion, {level} frame{'s' * (level > 1)} on", pictures


def film(view: ClipView, px_per_slot: float) -> bytes:
    """An mp4 of the clip; beside it, flow and occlusion to the next frame where they are stored."""
    steps = [slot for slot in range(len(view.frames) - 1) if (slot, slot + 1) in view.fields]
    pictures = [view.image(slot) for slot in steps or range(len(view.frames))]
    if steps:
        fields = [view.fields[slot, slot + 1] for slot in steps]
        pictures = [
            np.hstack((image, flow_image(field, px_per_slot), hidden_image(image, field)))
            for image, field in zip(pictures, fields, strict=True)
        ]
    scale = -(-_MIN_VIDEO_PX // view.size[1])
    enlarged = np.stack(pictures).repeat(scale, axis=1).repeat(scale, axis=2)
    return encode_clip(enlarged.transpose(0, 3, 1, 2), view.clip.fps, crf=14)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TruthExhibit:
    """True and stored flow of one pair of slots, in the same colours.

    Attributes:
        name: of the source video.
        pair: (source, target) slots.
        max_px: length of full colour.
        image, true, stored, error: pictures of the source frame, both flows, and `error_image`.
        score: of the pair.
    """

    name: str
    pair: Pair
    max_px: float
    image: RGB
    true: RGB
    stored: RGB
    error: RGB
    score: Score


def exhibit_truth(view: ClipView, truth: Truth) -> TruthExhibit:
    """A pair of slots from the middle of a clip that stores flow, over a middling distance."""
    level = view.levels[len(view.levels) // 2]
    slots = shown_slots(view)
    pair = slots[len(slots) // 2], slots[len(slots) // 2] + level
    stored, true = view.fields[pair], truth(view.clip, pair)
    max_px = max(float(np.percentile(true.flow.norm(dim=1).numpy(), 99)), 0.1)
    return TruthExhibit(
        name=Path(view.clip.path).name,
        pair=pair,
        max_px=max_px,
        image=view.image(pair[0]),
        true=flow_to_rgb(true.flow[0], max_px),
        stored=flow_to_rgb(stored.flow[0], max_px),
        error=error_image(error_map(stored, true).numpy(), true.visible[0].numpy()),
        score=score(stored, true),
    )


def error_image(error_px: Float[np.ndarray, "h w"], visible: Bool[np.ndarray, "h w"]) -> RGB:
    """End-point error from black to yellow; grey where the pixel is hidden."""
    level = np.clip(error_px / ERROR_RANGE_PX * 255, 0, 255).astype(np.uint8)
    colors = cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.where(visible[..., None], colors, np.uint8(128))


def png(image: RGB) -> bytes:
    """A picture as a file."""
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()
