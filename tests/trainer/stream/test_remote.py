"""A remote dataset whose bytes are kept on this machine: fewer requests, the same batches."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tenacity
import torch

from shards.index import Dataset
from shards.storage import failures
from tests.servers import Proxy, web_server
from trainer.config import StreamConfig
from trainer.stream.batch import Batch
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import PlainRecipe

EPOCH = 3  # batches
CONFIG = StreamConfig(frames=8, batch=2, threads=2, window=2)


@pytest.fixture
def proxy(made, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    with web_server(Path(made.dataset.url)) as target, Proxy(target).running() as proxy:
        yield proxy


def stream_of(url: str, cache: Path | str, size: int = 10**9) -> Stream:
    dataset = Dataset(url)
    source = Source(dataset=dataset, layer=dataset.layer("variational"))
    config = replace(CONFIG, cache=str(cache), cache_gb=size / 1e9)
    return Stream(source, config, PlainRecipe(8, flow=True), seed=1)


def take(stream: Stream, count: int) -> list[Batch]:
    batches = iter(stream)
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    return all(
        a.keys == b.keys and all(map(torch.equal, a.pixels(), b.pixels()))
        for a, b in zip(ours, theirs, strict=True)
    )


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def test_what_was_read_once_is_not_asked_for_again(made, proxy: Proxy, tmp_path: Path) -> None:
    reference = take(stream_of(made.dataset.url, tmp_path / "unused"), 2 * EPOCH)
    assert not (tmp_path / "unused").exists(), "local datasets are read where they lie"
    first = stream_of(proxy.url, tmp_path / "cache")
    assert same(take(first, 2 * EPOCH), reference)
    tars = [path for _, path, _ in proxy.met if "clips/" in path and path.endswith(".tar")]
    assert len(tars) == 6, "each clip once, in two epochs"
    later = stream_of(proxy.url, tmp_path / "cache")
    proxy.met.clear()
    assert same(take(later, 2 * EPOCH), reference)
    assert proxy.met == []
    facts = later.totals.facts()
    assert (facts["cache_misses"], facts["cache_damaged"], facts["read_MB_per_s"]) == (0, 0, 0)
    assert facts["cache_hits"] > 2 * EPOCH * CONFIG.batch


def test_a_cache_that_is_too_small_keeps_its_bound_and_the_batches(
    made, proxy: Proxy, tmp_path: Path
) -> None:
    reference = take(stream_of(proxy.url, tmp_path / "whole"), EPOCH)
    limit = on_disk(tmp_path / "whole") // 2
    stream = stream_of(proxy.url, tmp_path / "half", limit)
    assert same(take(stream, 2 * EPOCH)[:EPOCH], reference)
    assert 0 < on_disk(tmp_path / "half") <= limit
    assert stream.totals.facts()["cache_hits"] > 0


def test_what_is_damaged_in_the_cache_is_read_anew(made, proxy: Proxy, tmp_path: Path) -> None:
    reference = take(stream_of(proxy.url, tmp_path), EPOCH)
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        path.write_bytes(bytes(byte ^ 128 if byte else 0 for byte in data))
    again = stream_of(proxy.url, tmp_path)
    assert same(take(again, EPOCH), reference)
    assert again.totals.facts()["cache_damaged"] > 0
    assert all(batch.damaged == () for batch in reference)
    healed = stream_of(proxy.url, tmp_path)
    take(healed, EPOCH)
    assert healed.totals.facts()["cache_misses"] == 0


def test_a_dataset_that_changed_is_another(made, proxy: Proxy, tmp_path: Path) -> None:
    """Bytes go by the digest of the index that names them."""
    take(stream_of(proxy.url, tmp_path), EPOCH)
    dataset = made.dataset
    own = {dataset.digest_of(shard) for shard in dataset.shards}
    own |= {dataset.digest_of(shard, dataset.layer()) for shard in dataset.shards}
    assert {path.stem for path in tmp_path.iterdir()} == own
