"""Datasets in a bucket, from the command line: built, killed, gone on with, read; as on a disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tenacity

from fluxshard.main import main
from shards import Dataset, ShardReader, Store, decode_clip, verify
from shards.storage import failures, locks
from tests.servers import Proxy, every, s3_settings, use_s3, web_server

OPTIONS = ["--size=32x48", "--frames=5", "--fps=8", "--levels=1,2", "--clips-per-shard=4"]
OPTIONS += ["--workers=1", "--no-flow-cache"]
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def videos(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two short videos."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("slow.mp4", "vp9.webm"):
        shutil.copy(Path(demo_videos[-1], name), folder)
    return folder


@pytest.fixture(scope="module")
def local(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The dataset as it is built on a disk."""
    out = tmp_path_factory.mktemp("local") / "dataset"
    assert main(["build", str(videos), str(out), *OPTIONS, "--flow=dis"]) == 0
    return Store(out)


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.files()}


def test_a_bucket_behind_a_failing_server_gets_the_bytes_of_a_disk(
    videos: Path, local: Store, bucket: str, s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    """One request of four fails, each in another way."""
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_fixed(0.01))
    s3_proxy.faults = every(4, ("500", "503", "drop", "half", "lost", "stall"))
    out = f"{bucket}/dataset"
    assert main(["build", str(videos), out, *OPTIONS, "--flow=dis"]) == 0
    assert {fault for *_, fault in s3_proxy.met} >= {"500", "503", "drop", "lost", "stall"}
    s3_proxy.faults = lambda *_: None
    assert contents(Store(out)) == contents(local)
    assert Store(out)._found("") == local.files()


KILLED = """
import sys
from fluxshard.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_build_goes_on_in_a_bucket_and_the_rest_works_there(
    videos: Path,
    local: Store,
    bucket: str,
    s3_endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Sources come from the bucket, too; one flow layer is added after the build."""
    sources, out = Store(f"{bucket}/videos"), f"{bucket}/dataset"
    for path in videos.iterdir():
        sources.write(path.name, path.read_bytes())
    build = ["build", sources.url, out, *OPTIONS, "--flow=none"]
    with Proxy(s3_endpoint).running() as proxy:
        environment = {**os.environ, "FSSPEC_S3": json.dumps(s3_settings(proxy.url))}
        proxy.faults = lambda number, method, path: (
            "stall" if method == "PUT" and path.endswith("000001.tar") else None
        )
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, *build],
            env=environment | {"PYTHONPATH": str(REPOSITORY)},
            start_new_session=True,
        ) as process:
            while not any(fault for *_, fault in proxy.met):
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
    assert Store(out).exists(locks.LOCK)
    assert main(["info", out]) == 2, "it has not finished"
    monkeypatch.setattr(locks, "PATIENCE_S", 1.0)
    assert main(build) == 0
    assert "1 kept" in capsys.readouterr().err
    assert main(["flow", out, "--estimator=dis", "--levels=1,2", *OPTIONS[-2:]]) == 0
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
        assert reader.fields(row, [(0, 1), (2, 0)]) == expected.fields(row, [(0, 1), (2, 0)])


def test_a_video_on_a_web_server_is_built_from(videos: Path, local: Store, tmp_path: Path):
    with web_server(videos) as url:
        urls = [f"{url}/{path.name}" for path in sorted(videos.iterdir())]
        out = tmp_path / "dataset"
        assert main(["build", *urls, str(out), *OPTIONS, "--flow=none"]) == 0
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
    ],
    ids=["bucket", "port", "host", "profile"],
)
def test_an_output_that_cannot_be_written_to_is_refused_before_any_work(
    wrong: Callable[[str], dict],
    says: str,
    videos: Path,
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    use_s3(monkeypatch, wrong(s3_endpoint))
    assert main(["build", str(videos), "s3://no-such-bucket/dataset", *OPTIONS]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


def test_memory_is_no_place_for_workers(videos: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["build", str(videos), "memory://dataset", *OPTIONS]) == 2
    assert "seen by one process alone" in capsys.readouterr().err


def test_a_merged_dataset_refers_to_parts_in_buckets(
    videos: Path, bucket: str, capsys: pytest.CaptureFixture[str]
):
    parts = [f"{bucket}/{name}" for name in ("a", "b")]
    for part, video in zip(parts, sorted(videos.iterdir()), strict=True):
        assert main(["build", str(video), part, *OPTIONS, "--flow=none"]) == 0
    assert main(["merge", *parts, f"{bucket}/both"]) == 0
    assert main(["verify", f"{bucket}/both"]) == 0
    both = Dataset(f"{bucket}/both")
    assert both.manifest.merged == tuple(parts)
    assert len(both.clips) == sum(len(Dataset(part).clips) for part in parts)
    assert ShardReader(both).member(len(both.clips) - 1, "mp4")
    assert main(["build", str(videos), f"{bucket}/a/clips", *OPTIONS]) == 2
    assert "is not empty and holds no dataset" in capsys.readouterr().err
