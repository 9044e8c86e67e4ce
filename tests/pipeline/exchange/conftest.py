"""A small dataset with a flow layer, and a cluster in this process."""

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from distributed import Client

from pipeline.building.make_dataset import make_dataset
from pipeline.planning.config import BuildConfig
from pipeline.source.inputs import find_sources
from shards import Store

CONFIG = BuildConfig(
    size=(48, 64),
    frames=5,
    fps=Fraction(12),
    flow="dis",
    clips_per_shard=4,
    levels=(1, 2),
    directions=("forward", "backward"),
)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    settings = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with Client(processes=False, **settings) as client:
        yield client


@pytest.fixture(scope="session")
def built(demo_videos: list[str], client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    url = tmp_path_factory.mktemp("built") / "dataset"
    sources, _ = find_sources([str(Path(demo_videos[-1], "h264.mp4"))])
    outcome = make_dataset(sources, [], Store(url), CONFIG, client, lambda *_: None)
    assert outcome.built > 1
    return url


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "dataset"))
