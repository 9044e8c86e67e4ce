"""Datasets in a bucket, from the command line: built, killed, gone on with, read; as on a disk."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tenacity
import torch

from fluxshard.main import main
from pipeline.cluster import connect
from shards import Dataset, ShardReader, Store, decode_clip, encode_clip, verify
from shards.storage import failures, locks
from tests.servers import (
    FAULTS,
    STALL_S,
    Proxy,
    every,
    make_bucket,
    s3_settings,
    use_s3,
    web_server,
)
from trainer.config import FluxFlowConfig, StreamConfig, TrainConfig
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import TrainRecipe

OPTIONS = ["--size=32x48", "--frames=5", "--levels=1,2", "--shots=none", "--clips-per-shard=4"]
OPTIONS += ["--no-flow-cache"]
HASTEN = "import tenacity, shards.storage.failures as f; f.PAUSE = tenacity.wait_none()"
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def server(s3_endpoint: str) -> Iterator[Proxy]:
    """What all processes of this module take for S3; nobody waits long for it."""
    with pytest.MonkeyPatch.context() as patch, Proxy(s3_endpoint).running() as proxy:
        waits = {"config_kwargs": {"read_timeout": STALL_S / 3}}
        use_s3(patch, s3_settings(proxy.url, **waits))
        yield proxy


@pytest.fixture(scope="module")
def cluster(server: Proxy) -> Iterator[str]:
    """The option that has commands run on one cluster."""
    with connect(None, 1) as client:
        client.run(exec, HASTEN)
        assert client.scheduler is not None
        yield f"--scheduler={client.scheduler.address}"


@pytest.fixture
def home(server: Proxy) -> Iterator[str]:
    """The URL of a new bucket."""
    server.faults = lambda *_: None
    yield make_bucket()
    server.faults = lambda *_: None


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two short videos, of five and of four clips."""
    folder = tmp_path_factory.mktemp("two")
    noise = np.random.default_rng(0).integers(0, 256, (3, 12, 24), np.uint8).repeat(4, 1)
    for name, frames in (("a.mp4", 25), ("b.mp4", 20)):
        picture = noise.repeat(4, 2)[::-1] if name == "a.mp4" else noise.repeat(4, 2)
        shown = np.stack([picture[:, :, i : i + 64] for i in range(frames)])
        (folder / name).write_bytes(encode_clip(shown, Fraction(10), crf=18))
    return folder


@pytest.fixture(scope="module")
def local(videos: Path, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The dataset as it is built on a disk."""
    out = tmp_path_factory.mktemp("local") / "dataset"
    assert main(["build", str(videos), str(out), *OPTIONS, "--flow=dis", cluster]) == 0
    return Store(out)


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.files()}


def test_a_bucket_behind_a_failing_server_gets_the_bytes_of_a_disk(
    videos: Path, local: Store, home: str, server: Proxy, cluster: str
):
    """One request of five fails, each in another way."""
    out, before = f"{home}/dataset", len(server.met)
    server.faults = every(5, FAULTS)
    assert main(["build", str(videos), out, *OPTIONS, "--flow=dis", cluster]) == 0
    server.faults = lambda *_: None
    assert {fault for *_, fault in server.met[before:]} == {*FAULTS, None}
    assert contents(Store(out)) == contents(local)
    assert Store(out)._found("") == local.files()


def test_a_flow_cache_in_a_bucket_finds_the_flow_of_a_dataset_in_another(
    videos: Path, local: Store, home: str, cluster: str, capsys: pytest.CaptureFixture[str]
):
    for name in ("one", "two"):
        cache = f"--flow-cache={home}/cache"
        build = ["build", str(videos), f"{home}/{name}", *OPTIONS[:-1], "--flow=dis", cache]
        assert main([*build, cluster]) == 0
    said = capsys.readouterr().err
    assert re.search(rf": 0 fields computed, \d+ copied from {home}/one", said)
    assert contents(Store(f"{home}/two")) == contents(local)


def test_a_server_that_stays_down_fails_the_shards_and_a_rerun_makes_them(
    videos: Path, local: Store, home: str, server: Proxy, cluster: str, capsys
):
    out = f"{home}/dataset"
    server.faults = lambda number, method, path: (
        "503" if method == "PUT" and path.endswith("000001.tar") else None
    )
    build = ["build", str(videos), out, *OPTIONS, "--flow=none", cluster]
    assert main(build) == 1
    said = capsys.readouterr().err
    assert f"shard 000001 failed: StorageFailure: {out}/clips/000001.tar: " in said
    assert "(tried 8 times): see whether the server can be reached" in said
    server.faults = lambda *_: None
    assert main(build) == 0
    assert list(verify(Store(out))) == []


KILLED = """
import sys
from fluxshard.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_build_goes_on_in_a_bucket_and_the_rest_works_there(
    videos: Path,
    local: Store,
    home: str,
    server: Proxy,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Sources come from the bucket, too; one flow layer is added after the build."""
    sources, out = Store(f"{home}/videos"), f"{home}/dataset"
    for path in videos.iterdir():
        sources.write(path.name, path.read_bytes())
    build = ["build", sources.url, out, *OPTIONS, "--flow=none"]
    server.faults = lambda number, method, path: (
        "stall" if method == "PUT" and path.endswith("000001.tar") else None
    )
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *build, "--workers=1"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
    ) as process:
        while not any(path == f"/{out[5:]}/clips/000001.tar" for _, path, _ in server.met):
            assert process.poll() is None
            time.sleep(0.05)  # the servers are threads of this process
        os.killpg(process.pid, signal.SIGKILL)
    server.faults = lambda *_: None
    assert Store(out).exists(locks.LOCK)
    assert main(["info", out]) == 2, "it has not finished"
    monkeypatch.setattr(locks, "PATIENCE_S", 1.0)
    assert main([*build, cluster]) == 0
    assert "1 kept" in capsys.readouterr().err
    assert main(["flow", out, "--estimator=dis", "--no-flow-cache", cluster]) == 0
    assert main(["verify", out]) == 0
    assert main(["info", out, "--json"]) == 0
    assert list(verify(Store(out))) == []

    dataset, on_disk = Dataset(out), Dataset(local)
    reader = ShardReader(dataset, dataset.layer("dis"))
    expected = ShardReader(on_disk, on_disk.layer("dis"))
    assert len(dataset.clips) == len(on_disk.clips)
    for row in range(len(dataset.clips)):
        video = reader.member(row, "mp4")
        assert decode_clip(video).shape == (5, 3, 32, 48)
        assert video == expected.member(row, "mp4")
        assert reader.fields(row, [(0, 1), (0, 2)]) == expected.fields(row, [(0, 1), (0, 2)])


def test_training_streams_from_a_bucket_what_it_streams_from_a_disk(
    local: Store, home: str, server: Proxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    remote = Store(f"{home}/dataset")
    for name, data in contents(local).items():
        remote.write(name, data)
    config = TrainConfig(
        device="cpu",
        stream=StreamConfig(frames=4, batch=2, threads=2, window=2),
        fluxflow=FluxFlowConfig(mode="off"),
    )
    batches = []
    for store in (local, remote):
        dataset = Dataset(store)
        server.faults = every(7, ("500", "drop", "half"))
        recipe, layer = TrainRecipe(config), dataset.layer("dis")
        source = Source(dataset=dataset, layer=layer)
        stream = iter(Stream(source, config.stream, recipe, seed=config.seed))
        batches.append(list(itertools.islice(stream, 4)))
        stream.close()
    assert any(fault for *_, fault in server.met)
    for one, other in zip(*batches, strict=True):
        assert one.keys == other.keys
        assert torch.equal(one.frames, other.frames)
        assert (one.flow is None) == (other.flow is None)
        if one.flow is not None:
            assert torch.equal(one.flow.flow, other.flow.flow)


def test_a_video_on_a_web_server_is_built_from(
    videos: Path, local: Store, cluster: str, tmp_path: Path
):
    with web_server(videos) as url:
        urls = [f"{url}/{path.name}" for path in sorted(videos.iterdir())]
        out = tmp_path / "dataset"
        assert main(["build", *urls, str(out), *OPTIONS, "--flow=none", cluster]) == 0
    tars = [name for name in local.files("clips") if name.endswith(".tar")]
    for name in tars:
        assert len(Store(out).read(name)) == local.size(name)
    assert Dataset(str(out)).clips["path"].unique().to_pylist() == urls


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda endpoint: s3_settings(endpoint), "The specified bucket does not exist"),
        (lambda _: s3_settings("http://127.0.0.1:9"), "Could not connect to the endpoint"),
        (lambda _: s3_settings("http://nowhere.invalid"), "Could not connect to the endpoint"),
        (lambda endpoint: s3_settings(endpoint, profile="nobody"), "nobody"),
        (lambda _: None, "injected"),
    ],
    ids=["bucket", "port", "host", "profile", "credentials"],
)
def test_an_output_that_cannot_be_written_to_is_refused_before_any_work(
    wrong: Callable[[str], dict | None],
    says: str,
    videos: Path,
    s3_endpoint: str,
    server: Proxy,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    if settings := wrong(s3_endpoint):
        use_s3(monkeypatch, settings)
    server.faults = lambda *_: "403"
    assert main(["build", str(videos), "s3://no-such-bucket/dataset", *OPTIONS]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


def test_memory_is_no_place_for_workers(videos: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["build", str(videos), "memory://dataset", *OPTIONS]) == 2
    assert "seen by one process alone" in capsys.readouterr().err


def test_a_merged_dataset_refers_to_parts_in_buckets(
    videos: Path, home: str, cluster: str, capsys: pytest.CaptureFixture[str]
):
    parts = [f"{home}/{name}" for name in ("a", "b")]
    for part, video in zip(parts, sorted(videos.iterdir()), strict=True):
        assert main(["build", str(video), part, *OPTIONS, "--flow=none", cluster]) == 0
    assert main(["merge", *parts, f"{home}/both"]) == 0
    assert main(["verify", f"{home}/both"]) == 0
    both = Dataset(f"{home}/both")
    assert both.manifest.merged == tuple(parts)
    assert len(both.clips) == sum(len(Dataset(part).clips) for part in parts)
    assert ShardReader(both).member(len(both.clips) - 1, "mp4")
    assert main(["build", str(videos), f"{home}/a/clips", *OPTIONS, cluster]) == 2
    assert "is not empty and holds no dataset" in capsys.readouterr().err
