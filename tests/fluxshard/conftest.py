"""A dataset of the demo's videos."""

from dataclasses import replace
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo_dataset(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of three of the demo's videos, with two flow layers, and two rejects."""
    from fluxshard.demo.videos import DEMO_CONFIG
    from pipeline.building.make_dataset import make_dataset
    from pipeline.cluster import connect
    from pipeline.source.inputs import find_sources
    from shards.store import Store

    names = {"h264.mp4", "fast.webm", "rotated.mp4", "not_a_video.mp4", "too_short.mp4"}
    sources = [s for s in find_sources(demo_videos)[0] if Path(s.path).name in names]
    url = str(tmp_path_factory.mktemp("demo") / "dataset")
    config = replace(DEMO_CONFIG, flow="variational,dis")
    with connect(None, 1) as client:
        make_dataset(sources, [], Store(url), config, client, lambda *_: None)
    return url
