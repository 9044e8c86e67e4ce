"""Sources by URL are read like files of this machine; a server that fails is an event."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tenacity

from pipeline.planning.clips import ClipRule
from pipeline.planning.scan import scan_video
from pipeline.records import Reject, Source
from pipeline.source import files
from pipeline.source.clip_frames import read_clips
from pipeline.source.content import SourceChanged, content_sha256
from pipeline.source.files import file_state, is_there, open_bytes, states_of
from pipeline.source.inputs import find_sources
from shards import Clip, StorageFailure, Store, UsageError
from shards.storage import failures, web
from tests.servers import STALL_S, Proxy, web_server

RULE = ClipRule(frames=5, size=(32, 48), fps=None)


@pytest.fixture(scope="module")
def folder(
    write_video: Callable[..., str],
    moving_pictures: Callable[..., list[np.ndarray]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Of two videos."""
    folder = tmp_path_factory.mktemp("remote")
    for seed in range(2):
        path = write_video(f"remote-{seed}.mp4", moving_pictures(30, seed=seed))
        shutil.copy(path, folder / f"{seed}.mp4")
    return folder


@pytest.fixture
def proxy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    monkeypatch.setattr(web, "TIMEOUT_S", STALL_S / 6)
    with web_server(folder) as url, Proxy(url).running() as proxy:
        yield proxy


@pytest.fixture(params=["http", "s3"])
def remote(request: pytest.FixtureRequest, folder: Path) -> str:
    """The folder's URL on a web server or in a bucket."""
    if request.param == "http":
        return request.getfixturevalue("proxy").url
    store = Store(request.getfixturevalue("bucket") + "/videos")
    for path in folder.iterdir():
        store.write(path.name, path.read_bytes())
    return store.url


def clips_of(path: str) -> Sequence[Clip]:
    found = scan_video(Source(path=path), RULE, detector="none")
    assert not isinstance(found, Reject), found
    return found[1]


def test_bytes_are_those_of_the_file_whatever_is_read(
    remote: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "_BLOCK", 1000)
    data = (folder / "0.mp4").read_bytes()
    with closing(open_bytes(f"{remote}/0.mp4")) as opened:
        assert opened.size == len(data)
        for offset, size in ((0, 8), (990, 20), (999, 3002), (len(data) - 5, 100), (10**9, 1)):
            assert opened.read_at(offset, size) == data[offset : offset + size]
    assert content_sha256(f"{remote}/0.mp4") == hashlib.sha256(data).hexdigest()


def test_memory_is_that_of_a_few_blocks(proxy: Proxy, folder: Path, monkeypatch):
    """And blocks that are kept are not fetched again."""
    monkeypatch.setattr(files, "_BLOCK", 1000)
    with closing(open_bytes(f"{proxy.url}/0.mp4")) as opened:
        before = len(proxy.met)
        for number in (0, 1, 2, 3, 0, 1, 2, 3, 4, 0):
            opened.read_at(number * 1000, 10)
    assert len(proxy.met) - before == 4 + 1 + 1


def test_clips_and_frames_are_those_of_the_local_file(remote: str, folder: Path):
    local = clips_of(str(folder / "0.mp4"))
    there = clips_of(f"{remote}/0.mp4")
    assert [(c.pts, c.source_sha256) for c in there] == [(c.pts, c.source_sha256) for c in local]
    for one, other in zip(read_clips(local), read_clips(there), strict=True):
        assert not isinstance(one, Reject)
        assert not isinstance(other, Reject)
        assert (one == other).all()


def test_a_source_that_changes_is_noticed(bucket: str, folder: Path):
    store = Store(bucket)
    store.write("a.mp4", (folder / "0.mp4").read_bytes())
    clips = clips_of(f"{bucket}/a.mp4")
    store.write("a.mp4", (folder / "1.mp4").read_bytes())
    with pytest.raises(SourceChanged, match="is not the video"):
        next(read_clips(clips))
    store.delete("a.mp4")
    with pytest.raises(SourceChanged, match="is gone"):
        next(read_clips(clips))


@pytest.mark.parametrize(
    ("fault", "after"), [("500", 0), ("drop", 0), ("stall", 4), ("half", 4), ("503", 8)]
)
def test_a_server_that_fails_is_an_event_and_no_verdict(
    proxy: Proxy, fault: str, after: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "_BLOCK", 1000)
    proxy.faults = lambda number, *_: fault if number >= after else None
    with pytest.raises(OSError, match=rf"{proxy.url}/0.mp4: .* \(tried 8 times\)"):
        scan_video(Source(path=f"{proxy.url}/0.mp4"), RULE, detector="none")
    proxy.faults = lambda *_: None
    assert clips_of(f"{proxy.url}/0.mp4")


def test_states_change_with_the_file(bucket: str):
    store, url = Store(bucket), f"{bucket}/a.bin"
    store.write("a.bin", b"x")
    first = file_state(url)
    assert first == file_state(url)
    store.write("a.bin", b"y")
    assert file_state(url) != first
    assert states_of([url, f"{bucket}/none"]) == [file_state(url), None]
    assert is_there(url)
    assert not is_there(f"{bucket}/none")


def test_a_file_whose_changes_cannot_be_noticed_is_not_read(proxy: Proxy, monkeypatch):
    def untold(url: str, answer: object) -> dict:
        return {"name": url, "type": "file", "size": 5, "ETag": ""}

    monkeypatch.setattr(web, "_facts", untold)
    with pytest.raises(StorageFailure, match="tells no ETag or time"):
        file_state(f"{proxy.url}/0.mp4")


def test_folders_in_buckets_are_listed_and_files_are_taken_as_they_are(
    bucket: str, folder: Path, tmp_path: Path
):
    store = Store(f"{bucket}/videos")
    for name in ("b.mp4", "deep/a.webm", "notes.txt", "odd.bin", ".hidden.mp4"):
        store.write(name, b"x")
    names = ["b.mp4", "deep/a.webm"]
    for url in (store.url, store.url + "/"):
        found, missing = find_sources([url])
        assert [source.path for source in found] == [f"{store.url}/{name}" for name in names]
        assert missing == []
    assert [s.path for s in find_sources([store.at("odd.bin")])[0]] == [store.at("odd.bin")]
    listed = tmp_path / "list.csv"
    listed.write_text(f"video,caption\n{store.at('b.mp4')},a thing\n")
    assert find_sources([str(listed)])[0] == [
        Source(path=store.at("b.mp4"), caption="a thing", columns={})
    ]
    for url, says in (
        (f"{bucket}/none", "no video found"),
        (store.at("list.csv"), "a manifest is local"),
    ):
        with pytest.raises(UsageError, match=says):
            find_sources([url])


def test_a_web_address_without_a_file_is_wrong_usage(proxy: Proxy):
    with pytest.raises(UsageError, match="no such file"):
        find_sources([f"{proxy.url}/none.mp4"])
    assert [s.path for s in find_sources([f"{proxy.url}/0.mp4"])[0]] == [f"{proxy.url}/0.mp4"]
