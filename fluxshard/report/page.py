"""One HTML page that shows what a dataset holds and how training on it went."""

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flow_cache import FIGURES
from fluxshard.report.accuracy import LayerScores, Truth, score_layer
from fluxshard.report.charts import data_uri, loss_chart
from fluxshard.report.gallery import Gallery, layer_names, px
from fluxshard.report.pictures import ERROR_RANGE_PX, exhibit_clip, exhibit_truth, png
from shards import Dataset, read_table
from shards.schema import CLIP_MEMBERS, CLIP_TABLE, member_columns

_MOST_ROWS = 30  # of a table
_MOST_SCORED = 64  # clips compared with the truth
_MOST_SHOWN = 6  # videos whose true flow is shown


def write_report(
    out: str | Path,
    url: str,
    run: str | Path | None = None,
    truth: Truth | None = None,
    *,
    seconds: Mapping[str, float] | None = None,
    samples: Path | None = None,
) -> dict[str, LayerScores]:
    """Write the page of a dataset; it holds all its pictures itself and needs no other file.

    Pictures show the flow layer that the build named first.

    Args:
        out: the HTML file.
        url: folder or URL of a dataset.
        run: folder of a training run, for its curves.
        truth: tells the true flow of any pair of slots of a clip, for a comparison.
        seconds: what took how long, to be listed.
        samples: video of clips that the run's model made.

    Returns:
        The comparison of each layer with the truth; empty without truth.
    """
    dataset = Dataset(url)
    galleries = [Gallery(dataset, name) for name in layer_names(dataset)]
    gallery = galleries[0] if galleries else Gallery(dataset)
    comparison = None if truth is None or not galleries else compare(galleries, truth)
    page = {
        "url": url,
        "manifest": dataset.manifest,
        "tiles": tiles(dataset, galleries),
        "sources": sources(gallery),
        "rejects": rejects(dataset),
        "clip": exhibit_clip(gallery.view(typical_clip(gallery))) if len(gallery) else None,
        "layers": [layer_figures(each) for each in galleries],
        "truth": comparison,
        "run": None if run is None else run_figures(Path(run)),
        "seconds": bars(seconds or {}),
        "samples": None if samples is None else samples.read_bytes(),
    }
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(render(page), encoding="utf-8")
    return {} if comparison is None else comparison["layers"]


def render(page: Mapping[str, Any]) -> str:
    """The HTML text."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "size": human_size,
        "figure": human_figure,
        "px": px,
        "png": lambda image: data_uri(png(image), "image/png"),
        "mp4": lambda data: data_uri(data, "video/mp4"),
    }
    template = files("fluxshard.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(page)


def tiles(dataset: Dataset, galleries: list[Gallery]) -> list[tuple[str, str]]:
    """(figure, what it counts) for the head of the page."""
    clips = dataset.clips
    video = sum(_column(clips, f"{member}_size") for member in CLIP_MEMBERS)
    flow = sum(_column(gallery.flow_rows, "flow_size") for gallery in galleries)
    durations = pc.divide(
        pc.multiply(clips["frames"], clips["fps_den"]).cast("float64"), clips["fps_num"]
    )
    refused = len(_rejects(dataset))
    return [
        (f"{pc.count_distinct(clips['path']).as_py()}", "source videos used"),
        (f"{refused}", "inputs refused" if refused != 1 else "input refused"),
        (f"{len(clips)}", "clips"),
        (f"{pc.sum(durations).as_py() or 0:.1f} s", "of video"),
        (f"{len(dataset.shards)}", "shards"),
        (human_size(video), "clips with captions"),
        (human_size(flow), f"flow in {len(galleries)} layer{'s' * (len(galleries) != 1)}"),
    ]


def _column(table: pa.Table | None, name: str) -> int:
    return 0 if table is None else pc.sum(table[name]).as_py() or 0


def sources(gallery: Gallery) -> dict[str, Any]:
    """A table of the source videos: clips, shots, motion, caption and the user's columns."""
    clips = gallery.dataset.clips
    known = {*CLIP_TABLE.names, *member_columns(CLIP_MEMBERS).names}
    users = [name for name in clips.column_names if name not in known]
    motion = [math.nan] * len(clips)
    if gallery.flow_rows is not None:
        motion = gallery.flow_rows["magnitude_mean"].to_pylist()
    rows = clips.select(["path", "shot", "caption", *users]).to_pylist()
    table = []
    for path, group in groupby(enumerate(rows), key=lambda item: item[1]["path"]):
        members = list(group)
        first = members[0][1]
        table.append(
            {
                "name": Path(path).name,
                "clips": len(members),
                "shots": len({row["shot"] for _, row in members}),
                "motion": float(np.mean([motion[number] for number, _ in members])),
                "caption": first["caption"],
                "users": [first[name] for name in users],
            }
        )
    return {"users": users, "rows": table[:_MOST_ROWS], "more": len(table[_MOST_ROWS:])}


def rejects(dataset: Dataset) -> dict[str, Any]:
    """A table of what was refused and why, and how often each reason came up."""
    rows = _rejects(dataset)
    reasons = sorted({row["reason"] for row in rows})
    counts = [(reason, sum(row["reason"] == reason for row in rows)) for reason in reasons]
    shown = [{**row, "name": Path(row["path"]).name} for row in rows[:_MOST_ROWS]]
    return {"counts": counts, "rows": shown, "more": len(rows[_MOST_ROWS:])}


def _rejects(dataset: Dataset) -> list[dict[str, Any]]:
    return read_table(dataset.store, "rejects.parquet").to_pylist()


def typical_clip(gallery: Gallery) -> int:
    """The clip whose motion is the median of all; the first where no flow is stored."""
    if gallery.flow_rows is None:
        return 0
    order = np.argsort(gallery.flow_rows["magnitude_mean"].to_numpy(), kind="stable")
    return int(order[len(order) // 2])


def layer_figures(gallery: Gallery) -> dict[str, Any]:
    """A flow layer: how it was made, what it takes, and the means of its figures over clips."""
    assert gallery.layer is not None
    assert gallery.flow_rows is not None
    rows, spec = gallery.flow_rows, gallery.layer.spec
    fields = pc.sum(pc.list_value_length(rows["pair_source"])).as_py() or 0
    size = _column(rows, "flow_size")
    pixels = fields * spec["size"][0] * spec["size"][1]
    return {
        "name": gallery.layer.name,
        "spec": spec,
        "fields": fields,
        "bytes": size,
        "bits_per_pixel": 8 * size / pixels if pixels else math.nan,
        "figures": {name: _mean(rows[name]) for name in FIGURES},
    }


def _mean(column: pa.ChunkedArray) -> float:
    values = column.to_numpy()
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


def compare(galleries: list[Gallery], truth: Truth) -> dict[str, Any]:
    """Stored against true flow: scores of every layer, and pictures from some of the videos."""
    first = galleries[0]
    rows = sorted({int(n) for n in np.linspace(0, len(first) - 1, min(len(first), _MOST_SCORED))})
    one_of_each = {first.clip(number).path: number for number in reversed(rows)}
    shown = [first.view(number) for number in sorted(one_of_each.values())[:_MOST_SHOWN]]
    return {
        "layers": {gallery.name: score_layer(gallery, rows, truth) for gallery in galleries},
        "shown": first.name,
        "exhibits": [exhibit_truth(view, truth) for view in shown if view.levels],
        "range": ERROR_RANGE_PX,
    }


def run_figures(run: Path) -> dict[str, Any]:
    """A training run: its curves, the floor of FlowLoss, and where the time of a step went."""
    with (run / "metrics.jsonl").open() as file:
        records = [json.loads(line) for line in file]
    if not records:
        return {"steps": 0}
    tail = records[-max(1, len(records) // 4) :]
    kinds = dict.fromkeys(kind for record in records for kind in record["seconds"])
    means = {kind: np.mean([r["seconds"].get(kind, 0.0) for r in records]) for kind in kinds}
    floors = [r["flow_floor"] for r in records if r.get("flow_floor") is not None]
    errors = [r["flow_error"] for r in tail if r.get("flow_error") is not None]
    return {
        "steps": records[-1]["step"],
        "samples": records[-1]["clips"],
        "chart": loss_chart(records),
        "floor": floors[0] if floors else None,
        "flow_error": float(np.mean(errors)) if errors else None,
        "moved": float(np.mean([r["moved"] for r in records])),
        "stages": sorted({r["stage"] for r in records}),
        "timings": bars({kind: float(mean) for kind, mean in means.items()}),
    }


def bars(seconds: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """(name, seconds, share of the longest) of each."""
    longest = max(seconds.values(), default=0.0) or 1.0
    return [(name, value, value / longest) for name, value in seconds.items()]


def human_size(count: float) -> str:
    """A number of bytes with three digits that count."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def human_figure(value: float | None, digits: int = 2) -> str:
    """A number with so many digits after the point; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"
