"""The report holds everything itself and says what the dataset and the run say."""

import base64
import io
import json
import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fluxshard.demo.truth import true_flow
from fluxshard.demo.videos import DEMO_CONFIG
from fluxshard.report.charts import loss_chart, smooth
from fluxshard.report.gallery import Gallery
from fluxshard.report.page import bars, human_figure, human_size, typical_clip, write_report
from fluxshard.report.pictures import error_image, exhibit_truth, film, png
from pipeline.building.make_dataset import make_dataset
from pipeline.cluster import connect
from pipeline.source.inputs import find_sources
from shards.clip_video import decode_clip
from shards.index import Dataset
from shards.store import Store

RECORDS = [
    {
        "step": step,
        "samples": 4 * step,
        "stage": 1 + step % 3,
        "moved": 0.125,
        "recon": 1 / step,
        "flow_error": 2 / step if step % 3 == 0 else None,
        "seconds": {"read": 0.001, "step": 0.5} | ({"flow": 0.2} if step % 3 == 0 else {}),
    }
    | ({"flow_floor": 0.0123} if step == 3 else {})
    for step in range(1, 21)
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    lines = "".join(f"{json.dumps(record)}\n" for record in RECORDS)
    (folder / "metrics.jsonl").write_text(lines)
    return folder


@pytest.fixture(scope="module")
def html(demo_dataset: str, run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    scores = write_report(out, demo_dataset, run, true_flow, seconds={"build": 12.5})
    assert [name.partition("-")[0] for name in scores] == ["variational", "dis"]
    return out.read_text(encoding="utf-8")


def headings(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_it_needs_nothing_but_itself(html: str):
    addresses = re.findall(r'(?:src|srcset|href)="([^"]*)"', html)
    assert len(addresses) > 20
    assert all(address.startswith("data:") for address in addresses)
    assert "url(" not in html
    assert "@import" not in html
    assert "<script" not in html


def test_all_sections_are_there(html: str):
    assert headings(html) == [
        "A clip with its flow and occlusion",
        "What was built",
        "What was refused, and why",
        "True flow beside stored flow",
        "Quality of the stored flow",
        "Training",
        "What took how long",
    ]


def test_sources_rejects_and_columns_are_listed(html: str):
    for text in ("h264.mp4", "fast.webm", "rotated.mp4", "not_a_video.mp4", "speed_px"):
        assert text in html
    for reason in ("unreadable", "too_short"):
        assert f'<span class="tag">{reason}</span>' in html


def test_figures_of_the_run_are_those_of_its_metrics(html: str):
    assert "20 steps, 80 clips seen, 12.5 % of the frames" in html
    assert "0.0123 px²" in html
    assert "12.5 s" in html


def test_without_truth_and_run_these_sections_are_left_out(demo_dataset: str, tmp_path: Path):
    write_report(tmp_path / "report.html", demo_dataset)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert headings(html) == [
        "A clip with its flow and occlusion",
        "What was built",
        "What was refused, and why",
        "Quality of the stored flow",
    ]


def test_a_dataset_without_flow_and_rejects_is_shown(demo_videos: list[str], tmp_path: Path):
    video = Path(demo_videos[1]) / "cuts.mp4"
    sources = [replace(s, caption="<b>bold</b>") for s in find_sources([video])[0]]
    url, config = str(tmp_path / "plain"), replace(DEMO_CONFIG, flow="none")
    with connect(None, 1) as client:
        make_dataset(sources, [], Store(url), config, client, lambda *_: None)
    assert write_report(tmp_path / "report.html", url, truth=true_flow) == {}
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert headings(html) == ["A clip", "What was built", "What was refused, and why"]
    assert "Nothing: every input gave clips" in html
    assert "<b>bold</b>" not in html


def test_the_typical_clip_has_the_median_motion(demo_dataset: str):
    gallery = Gallery(Dataset(demo_dataset))
    motion = gallery.flow_rows["magnitude_mean"].to_numpy()
    middle = motion[typical_clip(gallery)]
    assert (motion < middle).sum() == len(motion) // 2


def test_the_film_plays_the_clip_beside_its_flow(demo_dataset: str):
    view = Gallery(Dataset(demo_dataset)).view(0)
    data = film(view, view.px_per_slot())
    frames = decode_clip(data)
    assert frames.shape == (16, 3, 192, 3 * 256)  # enlarged twice; the last frame has no next
    shown = frames[5, :, ::2, :256:2].astype(float)
    assert np.abs(shown - view.frames[5]).mean() < 4
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].average_rate == Fraction(12)


def test_truth_is_shown_for_a_stored_pair(demo_dataset: str):
    view = Gallery(Dataset(demo_dataset)).view(0)
    exhibit = exhibit_truth(view, true_flow)
    assert exhibit.pair in view.fields
    assert exhibit.score.end_point_error > 0
    np.testing.assert_array_equal(exhibit.image, view.image(exhibit.pair[0]))
    assert exhibit.true.shape == exhibit.stored.shape == exhibit.error.shape == (96, 128, 3)


def test_errors_go_from_black_to_bright_and_hidden_pixels_are_grey():
    picture = error_image(np.array([[0.0, 2.0, 50.0, 1.0]]), np.array([[True, True, True, False]]))
    assert picture[0, 0].sum() < 10
    assert picture[0, 1].sum() > 500
    np.testing.assert_array_equal(picture[0, 1], picture[0, 2])
    np.testing.assert_array_equal(picture[0, 3], [128] * 3)


def test_pictures_keep_their_colours():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = (255, 10, 20)
    with av.open(io.BytesIO(png(image)), format="png_pipe") as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    np.testing.assert_array_equal(decoded, image)


def test_curves_are_drawn_for_light_and_dark_pages():
    chart = loss_chart(RECORDS)
    assert chart.light != chart.dark
    kind, _, data = chart.light.partition(",")
    assert kind == "data:image/svg+xml;base64"
    svg = base64.b64decode(data).decode()
    assert svg.count("<!-- ") > 10
    for label in ("stage 1, every frame", "stage 3, every 4th frame", "floor"):
        assert f"<!-- {label} -->" in svg


def test_a_run_without_flow_has_one_curve():
    plain = [{**record, "flow_error": None} for record in RECORDS]
    svg = base64.b64decode(loss_chart(plain).light.partition(",")[2]).decode()
    assert "<!-- Reconstruction loss by pyramid stage -->" in svg
    assert "FlowLoss" not in svg


def test_smoothing_keeps_a_straight_line_in_the_logarithm():
    values = np.exp(np.linspace(0, 3, 50))
    np.testing.assert_allclose(smooth(values)[5:-5], values[5:-5])
    np.testing.assert_allclose(smooth(np.array([7.0])), [7.0])


def test_an_empty_run_is_said_to_be_empty(demo_dataset: str, tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    write_report(tmp_path / "report.html", demo_dataset, tmp_path)
    assert "not finished a step" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_numbers_are_written_for_people():
    assert human_size(0) == "0 B"
    assert human_size(1023) == "1023 B"
    assert human_size(1536) == "1.5 KiB"
    assert human_size(5.57 * 2**20) == "5.57 MiB"
    assert human_size(3 * 2**40) == "3 TiB"
    assert human_figure(math.nan) == human_figure(None) == "–"
    assert human_figure(0.12345, 3) == "0.123"
    assert bars({"a": 2.0, "b": 1.0}) == [("a", 2.0, 1.0), ("b", 1.0, 0.5)]
    assert bars({}) == []
