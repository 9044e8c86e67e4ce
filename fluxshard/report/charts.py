"""The curves of a training run, as pictures for light and for dark pages."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

_STAGE_COLORS = ("#3b82f6", "#f59e0b", "#10b981", "#a855f7")
_FLOW_COLOR = "#ef4444"
_MOST_POINTS = 2000
_ORDINAL = {1: "every frame", 2: "every 2nd frame", 4: "every 4th frame"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A picture as data URIs.

    Attributes:
        light, dark: for light pages and for dark ones.
    """

    light: str
    dark: str


def loss_chart(records: Sequence[dict[str, Any]]) -> Chart:
    """The reconstruction loss by pyramid stage and the error of FlowLoss, over the steps.

    Args:
        records: lines of a run's metrics.jsonl, with `step`, `recon`, `stage` and, where the
            flow was compared, `flow_error`; `flow_floor` in one of them.
    """
    records = records[:: max(1, len(records) // _MOST_POINTS)]
    return Chart(light=_losses(records, "#475569"), dark=_losses(records, "#94a3b8"))


def _losses(records: Sequence[dict[str, Any]], ink: str) -> str:
    flow = [record for record in records if record.get("flow_error") is not None]
    floors = [record["flow_floor"] for record in records if record.get("flow_floor") is not None]
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots(1, 2 if flow else 1, squeeze=False)[0]
    for number, color in enumerate(_STAGE_COLORS, start=1):
        stage = [record for record in records if record["stage"] == number]
        if stage:
            rate = _ORDINAL.get(2 ** (number - 1), f"every {2 ** (number - 1)}th frame")
            _curve(axes[0], stage, "recon", color, f"stage {number}, {rate}")
    _dress(axes[0], "Reconstruction loss by pyramid stage", ink)
    if flow:
        _curve(axes[1], flow, "flow_error", _FLOW_COLOR, "denoised clips")
        for floor in floors[:1]:
            axes[1].axhline(floor, color=ink, linewidth=1, linestyle=(0, (4, 3)))
            axes[1].plot([], [], color=ink, linewidth=1, linestyle=(0, (4, 3)), label="floor")
        _dress(axes[1], "FlowLoss: squared error of flow, px²", ink)
    return _svg(figure)


def _curve(ax: Axes, records: Sequence[dict[str, Any]], name: str, color: str, label: str) -> None:
    steps = np.array([record["step"] for record in records])
    values = np.maximum([record[name] for record in records], 1e-12)
    ax.plot(steps, values, ".", color=color, alpha=0.5, markersize=5, markeredgewidth=0)
    ax.plot(steps, smoothed(values), color=color, linewidth=1.8, label=label)


def smoothed(values: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """Geometric mean over a window of a seventh of the series; shorter windows at its ends."""
    reach = max(1, len(values) // 14)
    logs = np.log(values)
    return np.exp([logs[max(0, n - reach) : n + reach + 1].mean() for n in range(len(values))])


def _dress(ax: Axes, title: str, ink: str) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_title(title, fontsize=10, color=ink, loc="left")
    ax.set_xlabel("step", fontsize=9, color=ink)
    ax.tick_params(which="both", colors=ink, labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(ink)
    ax.grid(axis="y", color=ink, alpha=0.2, linewidth=0.6)
    ax.legend(frameon=False, fontsize=8, labelcolor=ink)


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return data_uri(buffer.getvalue(), "image/svg+xml")


def data_uri(data: bytes, kind: str) -> str:
    """The data itself as an address, so that a page needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
