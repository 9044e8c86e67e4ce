"""The report holds everything itself and says what the dataset and the run say."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fluxshard.demo.truth import true_flow
from fluxshard.demo.videos import DEMO_CONFIG
from fluxshard.report.gallery import Gallery
from fluxshard.report.page import bars, human_figure, human_size, typical_clip, write_report
from pipeline.building.make_dataset import make_dataset
from pipeline.source.inputs import find_sources
from shards.index import Dataset
from shards.store import Store
from tests.clusters import in_this_process


@pytest.fixture(scope="module")
def run(records: list[dict], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    lines = "".join(f"{json.dumps(record)}\n" for record in records)
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
    with in_this_process() as client:
        make_dataset(sources, [], Store(url), config, client, lambda *_: None)
    assert write_report(tmp_path / "report.html", url, truth=true_flow) == {}
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert headings(html) == ["A clip", "What was built", "What was refused, and why"]
    assert "Nothing: every input gave clips" in html
    assert "<b>bold</b>" not in html


def test_the_typical_clip_has_the_median_motion(demo_dataset: str):
    gallery = Gallery(Dataset(demo_dataset))
    assert gallery.flow_rows is not None
    motion = gallery.flow_rows["magnitude_mean"].to_numpy()
    middle = motion[typical_clip(gallery)]
    assert (motion < middle).sum() == len(motion) // 2


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
