"""The demo's videos, scanned as a build scans them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fluxshard.demo.videos import DEMO_CONFIG
from pipeline.planning.scan import Scan, scan_video
from pipeline.records import Reject
from pipeline.source.inputs import find_sources
from shards import Clip


@pytest.fixture(scope="session")
def scans(demo_videos: list[str]) -> dict[str, Scan]:
    sources, missing = find_sources(demo_videos)
    assert not missing
    return {
        Path(source.path).name: scan_video(source, DEMO_CONFIG.clip_rule, detector="adaptive")
        for source in sources
    }


@pytest.fixture(scope="session")
def clips_of(scans: dict[str, Scan]) -> Callable[[str], tuple[Clip, ...]]:
    """`clips_of(name)`: the clips of the video in a file of that name."""

    def clips(name: str) -> tuple[Clip, ...]:
        scan = scans[name]
        assert not isinstance(scan, Reject), scan
        return scan[1]

    return clips
