"""Faults of files and servers: only what is damaged is lost, and resume stays aligned."""

import itertools
import re
import shutil
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import tenacity
import torch

from shards.index import Dataset
from shards.manifest import DamagedDataset, sha256_of, write_manifest
from shards.storage import failures, web
from shards.store import Store
from shards.writer import write_table
from tests.servers import STALL_S, Proxy, web_server
from trainer.config import StreamConfig
from trainer.stream.batch import Batch
from trainer.stream.engine import Stream
from trainer.temporal.recipe import PlainRecipe

CONFIG = StreamConfig(frames=8, batch=2, threads=2, window=2)
EPOCH = 3  # batches


def flip(folder: Path) -> None:
    place = Dataset(folder).clips["mp4_offset"][1].as_py()
    tar = folder / "clips" / "000000.tar"
    data = bytearray(tar.read_bytes())
    data[place + 100] ^= 4
    tar.write_bytes(data)


def truncate(folder: Path) -> None:
    """In the middle of the second clip."""
    tar = folder / "clips" / "000000.tar"
    tar.write_bytes(tar.read_bytes()[: Dataset(folder).clips["mp4_offset"][1].as_py() + 50])


def lose_tar(folder: Path) -> None:
    (folder / "clips" / "000001.tar").unlink()


def lose_index(folder: Path) -> None:
    (folder / "clips" / "000001.parquet").unlink()


def no_video(folder: Path) -> None:
    """A clip that no decoder reads, whose checksum is right."""
    dataset, store = Dataset(folder), Store(folder)
    (row,) = dataset.rows("000002").to_pylist()
    tar = folder / "clips" / "000002.tar"
    data = bytearray(tar.read_bytes())
    offset, size = row["mp4_offset"], row["mp4_size"]
    data[offset : offset + size] = bytes(size)
    tar.write_bytes(data)
    row["mp4_crc32"] = zlib.crc32(bytes(size))
    write_table(store, "clips/000002.parquet", pa.Table.from_pylist([row]))
    digest = sha256_of((folder / "clips" / "000002.parquet").read_bytes())
    shards = dataset.manifest.shards
    shards = {**shards, "000002": replace(shards["000002"], sha256=digest)}
    write_manifest(store, replace(dataset.manifest, shards=shards))


def take(stream: Stream, count: int) -> list[Batch]:
    batches = iter(stream)
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def stream_of(where: Path | str, **options) -> Stream:
    return Stream(Dataset(where), CONFIG, PlainRecipe(8), seed=1, **options)


@pytest.fixture
def copy(made, tmp_path: Path) -> Path:
    """The dataset once more, to do harm to."""
    folder = Path(shutil.copytree(made.dataset.url, tmp_path / "copy"))
    told = {"size": [48, 64], "frames": 9}
    write_manifest(Store(folder), replace(made.dataset.manifest, config=told))
    return folder


@pytest.mark.parametrize(
    ("harm", "lost", "reason"),
    [
        (flip, {1}, r"clip-1 \(mp4\) differs from what was written"),
        (truncate, {1, 2}, r"\(mp4\) differs from what was written"),
        (lose_tar, {3, 4}, "No such file"),
        (lose_index, {3, 4}, "000001.parquet is missing"),
        (no_video, {5}, "not a readable clip video"),
    ],
)
def test_only_what_is_damaged_is_lost(
    copy: Path, harm: Callable[[Path], None], lost: set[int], reason: str
) -> None:
    harm(copy)
    stream = stream_of(copy)
    batches, states = [], [stream.state_dict()]
    for batch in itertools.islice(stream, 2 * EPOCH):
        batches.append(batch)
        states.append(stream.state_dict())
    for epoch in (batches[:EPOCH], batches[EPOCH:]):
        own = [
            key
            for batch in epoch
            for key, position in zip(batch.keys, batch.positions, strict=True)
            if position not in {damage.position for damage in batch.damaged}
        ]
        assert sorted(own) == sorted(f"clip-{row}" for row in {*range(6)} - lost)
    met = [damage for batch in batches for damage in batch.damaged]
    assert len(met) == 2 * len(lost)
    assert all(re.search(reason, damage.reason) for damage in met)
    assert stream.cursor.skips == len(lost)
    for done in (1, 4):
        tails = []
        for rank in (0, 1):
            again = stream_of(copy, rank=rank, ranks=2)
            again.load_state_dict(states[done])
            tails.append(take(again, 2 * EPOCH - done))
        for whole, *shares in zip(batches[done:], *tails, strict=True):
            assert whole.keys == tuple(share.keys[0] for share in shares)
            assert torch.equal(whole.frames, torch.cat([share.frames for share in shares]))


@pytest.fixture
def proxy(made, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The dataset on a web server that fails as it is told, and tries that follow at once."""
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    with web_server(Path(made.dataset.url)) as target, Proxy(target).running() as proxy:
        yield proxy


@pytest.mark.parametrize("fault", ["500", "drop", "half", "stall"])
def test_a_server_that_fails_for_a_while_costs_a_while_and_no_clip(
    made, proxy: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "stall":
        monkeypatch.setattr(web, "TIMEOUT_S", STALL_S / 3)
    reference = take(stream_of(made.dataset.url), EPOCH)
    seen: Counter[str] = Counter()

    def faults(number: int, method: str, path: str) -> str | None:
        seen[path] += 1
        return fault if path.endswith("000000.tar") and seen[path] % 3 == 1 else None

    proxy.faults = faults
    for ours, theirs in zip(take(stream_of(proxy.url), EPOCH), reference, strict=True):
        assert (ours.keys, ours.damaged) == (theirs.keys, ())
        assert torch.equal(ours.frames, theirs.frames)
    assert any(met == fault for *_, met in proxy.met)


def test_a_server_that_does_not_give_one_tar_loses_its_clips_until_it_does(
    made, proxy: Proxy
) -> None:
    reference = take(stream_of(made.dataset.url), 2 * EPOCH)
    proxy.faults = lambda number, method, path: "500" if path.endswith("000001.tar") else None
    batches = iter(stream_of(proxy.url))
    first = list(itertools.islice(batches, EPOCH))
    damaged = {damage.key: damage.reason for batch in first for damage in batch.damaged}
    assert {*damaged} == {"clip-3", "clip-4"}
    assert all("000001.tar: the server answers 500" in reason for reason in damaged.values())
    proxy.faults = lambda *_: None
    list(itertools.islice(batches, EPOCH))  # what was asked for before it was well
    later = list(itertools.islice(batches, EPOCH))
    batches.close()
    assert not any(batch.damaged for batch in later)
    assert Counter(key for batch in later for key in batch.keys) == Counter(
        key for batch in reference[:EPOCH] for key in batch.keys
    )


def test_a_server_that_gives_nothing_any_more_ends_the_run(made, proxy: Proxy) -> None:
    batches = iter(
        Stream(Dataset(proxy.url), replace(CONFIG, max_damaged=3), PlainRecipe(8), seed=1)
    )
    next(batches)
    proxy.faults = lambda *_: "500"
    with pytest.raises(DamagedDataset, match=r"max_damaged = 3 allows.*answers 500"):
        list(itertools.islice(batches, 4 * EPOCH))


@pytest.mark.timeout(100)
def test_a_stream_ends_while_its_threads_wait_to_try_again(
    made, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_fixed(1000))
    failed, tars = threading.Event(), itertools.count()

    def faults(number: int, method: str, path: str) -> str | None:
        if not path.endswith(".tar") or next(tars) < CONFIG.batch:
            return None
        failed.set()
        return "500"

    proxy.faults = faults
    batches = iter(stream_of(proxy.url))
    next(batches)
    assert failed.wait(60)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream")]
