"""A clip and its flow as one picture, to see at a glance whether a dataset is what it should be."""

import math
import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flow_cache import wheel_legend
from fluxshard.report.gallery import ClipView, Gallery, flow_image, hidden_image, px
from shards import Dataset, Layer, UsageError

_COLUMNS = 4
_CELL = 2.4  # inches: the longer side of a picture
_GAP, _LINE = 0.08, 0.26  # inches between columns, and between rows for the title of a picture
_LEFT, _HEAD, _SIDE, _FOOT = 0.7, 0.95, 3.2, 0.15  # inches round the pictures
_INK, _PALE = "#1c2430", "#68727f"


def inspect_figure(url: str, key: str | None = None, layer: str | None = None) -> Figure:
    """A figure of one clip: frames, flow over every stored distance, occlusion, key figures.

    Save it with `figure.savefig(path)`; it uses no global state of matplotlib.

    Args:
        url: folder or URL of a dataset.
        key: of the clip, or the start of it; default the first clip.
        layer: flow layer to show, by estimator or digest; default the one the build named first.

    Raises:
        UsageError: no such clip or layer; the message lists what there is.
    """
    gallery = Gallery(Dataset(url), layer)
    if not len(gallery):
        raise UsageError(f"{url} holds no clips; rejects.parquet says why each input was refused")
    view = gallery.view(0 if key is None else gallery.find(key))
    return clip_figure(view, gallery.layer)


def clip_figure(view: ClipView, layer: Layer | None) -> Figure:
    """The figure of a clip that has been read."""
    slots, levels = shown_slots(view), view.levels
    cell_height, cell_width = (_CELL * side / max(view.size) for side in view.size)
    rows = 1 + len(levels) + bool(levels)
    width = _LEFT + _COLUMNS * (cell_width + _GAP) + _SIDE
    height = max(_HEAD + rows * (cell_height + _LINE) + _FOOT, 3.0 + 2.0 * bool(levels))
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")

    def axes(row: int, column: int) -> Axes:
        left = _LEFT + column * (cell_width + _GAP)
        bottom = height - _HEAD - row * (cell_height + _LINE) - cell_height
        place = left / width, bottom / height, cell_width / width, cell_height / height
        return figure.add_axes(place)

    caption = textwrap.shorten(view.clip.caption, 150, placeholder=" ...") or "(no caption)"
    _write(figure, _LEFT, 0.2, view.clip.key, size=13, weight="bold")
    _write(figure, _LEFT, 0.46, caption, size=9.5, color=_PALE)
    for column, slot in enumerate(slots):
        _column([axes(row, column) for row in range(rows)], view, slot, first=column == 0)
    _side(figure, width - _SIDE + 0.25, view, layer)
    return figure


def shown_slots(view: ClipView) -> list[int]:
    """Up to four slots, spread over the clip, from which flow is stored over every distance."""
    last = len(view.frames) - 1
    usable = [
        slot
        for slot in range(last + 1)
        if all((slot, slot + level) in view.fields for level in view.levels)
    ] or [0]
    count = min(_COLUMNS, len(usable))
    return [usable[round(n * (len(usable) - 1) / max(count - 1, 1))] for n in range(count)]


def _column(axes: list[Axes], view: ClipView, slot: int, *, first: bool) -> None:
    """One frame, and below it where its pixels go and which of them are covered there."""
    image = view.image(slot)
    _picture(axes[0], image, f"frame {slot}", "stored clip" if first else "")
    speed = view.px_per_slot() if view.levels else 0.0
    for ax, level in zip(axes[1:], view.levels, strict=False):
        field = view.fields[slot, slot + level]
        side = f"flow to {level} later\nfull at {px(level * speed)}" if first else ""
        _picture(ax, flow_image(field, level * speed), f"{slot} → {slot + level}", side)
    if view.levels:
        field = view.fields[slot, slot + view.levels[-1]]
        share = 1 - field.visible.float().mean().item()
        title = f"hidden in {slot + view.levels[-1]}: {share:.1%}"
        _picture(axes[-1], hidden_image(image, field), title, "occlusion" if first else "")


def _picture(ax: Axes, image: Any, title: str, side: str) -> None:
    ax.imshow(image, interpolation="bicubic")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=8, color=_PALE, pad=3)
    ax.set_ylabel(side, fontsize=8.5, color=_INK, labelpad=6)


def _side(figure: Figure, left: float, view: ClipView, layer: Layer | None) -> None:
    """The colour wheel and the key figures, `left` inches from the left."""
    top = _HEAD
    if view.levels:
        _wheel(figure, left, top, 1.25)
        speed = px(view.px_per_slot())
        note = f"colour: direction\nedge: {speed} or more\nfor each frame\nof distance"
        _write(figure, left + 1.4, top + 0.3, note, size=8, color=_PALE)
        top += 1.5
    for name, value in key_figures(view, layer):
        _write(figure, left, top, name, size=8.5, color=_PALE)
        _write(figure, left + 0.95, top, value, size=8.5)
        top += 0.17 * (1 + value.count("\n")) + 0.03


def _wheel(figure: Figure, left: float, top: float, side: float) -> None:
    width, height = figure.get_size_inches()
    place = left / width, 1 - (top + side) / height, side / width, side / height
    ax = figure.add_axes(place)
    ax.imshow(wheel_legend(240), interpolation="bilinear")
    ax.set_axis_off()


def _write(
    figure: Figure,
    left: float,
    top: float,
    text: str,
    *,
    size: float,
    color: str = _INK,
    weight: str = "normal",
) -> None:
    """Text whose upper left corner is at a place in inches."""
    width, height = figure.get_size_inches()
    at = left / width, 1 - top / height
    figure.text(*at, text, fontsize=size, color=color, weight=weight, va="top", parse_math=False)


def key_figures(view: ClipView, layer: Layer | None) -> list[tuple[str, str]]:
    """(name, value) of what matters about a clip, for people to read."""
    clip, flow = view.clip, view.flow_row
    start, end = (float(pts * clip.time_base) for pts in (clip.pts[0], clip.pts[-1]))
    height, width = clip.size
    figures = [
        ("source", textwrap.fill(Path(clip.path).name[-60:], 30)),
        ("time", f"{start:.2f} s to {end:.2f} s, shot {clip.shot}"),
        ("clip", f"{len(clip.pts)} frames, {width}×{height}, {float(clip.fps):g} fps"),
        ("video", f"{len(view.video) / 1024:.0f} KiB"),
    ]
    if layer is None:
        return figures
    size = flow["flow_size"]
    return [
        *figures,
        ("flow", f"{layer.spec['estimator']}, within {layer.spec['max_error_px']:.2g} px"),
        ("", f"{len(view.fields)} fields, {size / 1024:.0f} KiB"),
        ("motion", f"mean {_px(flow['magnitude_mean'])}, p95 {_px(flow['magnitude_p95'])}"),
        ("hidden", f"{flow['occluded_share']:.1%} of pixels"),
        ("fwd-bwd gap", _px(flow["fb_error_mean"])),
        ("photometric", f"{flow['photometric_error']:.1f} grey levels"),
        ("", f"({flow['photometric_still']:.1f} without flow)"),
        ("saturated", f"{flow['saturated']:.0f} components"),
    ]


def _px(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f} px"
