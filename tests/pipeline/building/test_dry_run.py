"""Dry runs: what they foretell is what a build then makes."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from distributed import Client

from flow_cache.reuse.catalog import Catalog
from pipeline.building.costs import Costs
from pipeline.building.dry_run import (
    Built,
    Prediction,
    chosen_runs,
    extrapolated,
    predict,
    uncertainty,
)
from pipeline.building.make_dataset import Build
from pipeline.planning.config import BuildConfig
from pipeline.source.inputs import find_sources
from shards import Dataset, Store, UsageError
from tests.clusters import in_this_process

CONFIG = BuildConfig(
    size=(48, 64), frames=9, fps=Fraction(12), flow="dis", clips_per_shard=6, levels=(1,)
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with in_this_process() as client:
        yield client


def test_a_dry_run_foretells_the_build_and_then_that_nothing_is_left_to_do(
    demo_videos: list[str], client: Client, tmp_path: Path
):
    build = Build(
        store=Store(tmp_path / "dataset"),
        config=CONFIG,
        client=client,
        progress=lambda *_: None,
        catalog=Catalog(Store(tmp_path / "catalog")),
    )
    given = find_sources(demo_videos)
    inputs, _ = build.take(given)
    told = predict(build, inputs)
    assert {name.partition("/")[0] for name in build.store.files()} == {"scans"}
    outcome = build.make(given)
    assert (told.clips, told.shards) == (outcome.clips, outcome.built)
    dataset = Dataset(build.store)
    (layer,) = dataset.manifest.layers.values()
    sizes = {
        "clips": sum(sum(dataset.clips[f"{m}_size"].to_pylist()) for m in ("json", "mp4", "txt")),
        layer.name: sum(dataset.fields(layer)["flow_size"].to_pylist()),
    }
    assert told.bytes == pytest.approx(sizes, rel=0.3)
    assert told.fields[layer.name] == pytest.approx(outcome.costs.computed[layer.name])
    assert told.copied == {layer.name: 0}
    assert told.core_seconds > 0
    assert told.sampled < told.clips
    assert 0 < told.error <= 0.06

    assert predict(build, inputs) == Prediction(), "the dataset has all of them"
    elsewhere = Build(
        store=Store(tmp_path / "next"),
        config=CONFIG,
        client=client,
        progress=lambda *_: None,
        catalog=build.catalog,
    )
    again = predict(elsewhere, inputs)
    assert again.copied == {layer.name: 1}
    assert again.bytes == pytest.approx(told.bytes), "the same clips are drawn each time"


def test_what_a_build_would_refuse_is_refused(
    demo_videos: list[str], client: Client, tmp_path: Path
):
    (tmp_path / "notes.txt").touch()
    build = Build(store=Store(tmp_path), config=CONFIG, client=client, progress=lambda *_: None)
    inputs, _ = build.take(find_sources([str(Path(demo_videos[-1], "slow.mp4"))]))
    with pytest.raises(UsageError, match="is not empty"):
        predict(build, inputs)


def clip_rows(videos: str) -> pa.Table:
    return pa.table({"source_sha256": [*videos], "seekable": [True] * len(videos)})


def test_runs_are_neighbours_in_a_video_and_come_in_the_order_of_the_draw():
    tables = [clip_rows("aaab"), clip_rows("bb")]
    runs = chosen_runs(iter(tables), np.array([3, 0, 2, 1]))
    assert [run["source_sha256"].to_pylist() for run in runs] == [[*"bb"], [*"aa"], ["b"], ["a"]]


def run_of(clips: int, size: int, flow: int = 0) -> Built:
    return Built(clips=clips, bytes={"clips": size, "dis": flow}, costs=Costs())


def test_a_sample_is_enough_when_runs_are_alike_or_all_are_built():
    alike = [run_of(2, 200), run_of(1, 100), run_of(2, 200)]
    assert uncertainty(alike, 1000) == 0
    unlike = [run_of(1, 100), run_of(1, 300)]
    assert uncertainty(unlike, 2) == 0
    assert uncertainty(unlike, 10**9) == pytest.approx(0.5)
    assert uncertainty([run_of(1, 9, 100), run_of(1, 9, 300)], 10**9) == pytest.approx(0.5)


def test_the_standard_error_is_that_of_repeated_samples():
    """Of a made-up set of runs; its sizes are drawn again and again."""
    random = np.random.default_rng(0)
    runs = [
        run_of(int(n), int(n * s))
        for n, s in zip(random.integers(1, 3, 400), random.lognormal(8, 0.6, 400), strict=True)
    ]
    clips = sum(run.clips for run in runs)
    true = sum(run.bytes["clips"] for run in runs)
    found, claimed = [], []
    for _ in range(300):
        sample = [runs[n] for n in random.choice(400, 40, replace=False)]
        found.append(extrapolated(sample, clips).bytes["clips"] / true)
        claimed.append(uncertainty(sample, 400))
    assert np.mean(found) == pytest.approx(1, abs=0.02)
    assert np.mean(claimed) == pytest.approx(np.std(found), rel=0.15)


def test_costs_are_those_of_all_clips():
    costs = Costs(
        computed=Counter({"dis": 6}),
        reused=Counter({("dis", "/a"): 1, ("dis", "/b"): 1}),
        seconds={"flow": 2.0, "decode": 1.0},
    )
    told = extrapolated([Built(clips=2, bytes={"clips": 10, "dis": 70}, costs=costs)], 20)
    assert told == Prediction(
        clips=20,
        bytes={"clips": 100, "dis": 700},
        fields={"dis": 80},
        copied={"dis": 0.25},
        core_seconds=30,
        sampled=2,
    )
    assert extrapolated([], 20) == Prediction(clips=20)
