"""Reads by byte range return what was written, or raise."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.index import Dataset
from shards.manifest import DamagedDataset, write_manifest
from shards.reader import Held, ShardReader, coalesce
from shards.store import Store
from tests.shards.conftest import PAIRS, payload


def test_members_and_fields_are_read_back(dataset_url: str):
    dataset = Dataset(dataset_url)
    reader = ShardReader(dataset, dataset.layer())
    assert dataset.shard_rows == (3, 2)
    assert reader.member(1, "mp4") == payload(0, 1)
    assert reader.member(4, "mp4") == payload(1, 1)
    assert (reader.member(3, "txt"), reader.member(4, "txt")) == (b"", b"caption 1")
    wanted = [PAIRS[3], PAIRS[0]]
    assert reader.fields(3, wanted) == [payload(1, 0, 3), payload(1, 0, 0)]


def test_a_flipped_byte_is_an_error_that_names_the_clip(dataset_url: str):
    dataset = Dataset(dataset_url)
    path = Path(dataset_url, "clips", "000000.tar")
    data = bytearray(path.read_bytes())
    data[dataset.clips["mp4_offset"][1].as_py()] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedDataset, match=r"clip-0-1 \(mp4\)"):
        ShardReader(dataset).member(1, "mp4")


def test_a_truncated_tar_is_an_error(dataset_url: str):
    dataset = Dataset(dataset_url)
    path = Path(dataset_url, "flow", "toy-0123456789ab", "000001.tar")
    path.write_bytes(path.read_bytes()[:1200])
    with pytest.raises(DamagedDataset, match=r"clip-1-1 \(flow, pair"):
        ShardReader(dataset, dataset.layer()).fields(4, PAIRS)


def test_flow_needs_a_layer_and_a_stored_pair(dataset_url: str):
    dataset = Dataset(dataset_url)
    with pytest.raises(ValueError, match="without a flow layer"):
        ShardReader(dataset).fields(0, PAIRS)
    with pytest.raises(KeyError):
        ShardReader(dataset, dataset.layer()).fields(0, [(0, 9)])


spans = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 20)), max_size=12)


@given(spans, st.integers(0, 30))
def test_coalesced_groups_hold_every_span_once_and_lie_apart(spans: list, gap: int):
    groups = coalesce(spans, gap=gap)
    assert sorted(span for group in groups for span in group) == sorted(set(spans))
    ends = [max(offset + size for offset, size in group) for group in groups]
    assert all(group[0][0] - end > gap for end, group in zip(ends, groups[1:], strict=False))


def test_the_index_is_read_by_shard_once_and_few_are_held(dataset_url: str, reads: list[str]):
    reads.clear()
    dataset = Dataset(dataset_url)
    reader = ShardReader(dataset, dataset.layer(), held=1)
    reads.clear()
    first = ["clips/000000.parquet", "flow/toy-0123456789ab/000000.parquet"]
    reader.load(0)
    for row in (0, 2):
        assert reader.member(row, "mp4") == payload(0, row)
        assert reader.fields(row, PAIRS[:1]) == [payload(0, row, 0)]
    assert reads == first
    assert reader.value(4, "key") == "clip-1-1"
    assert reader.value(0, "key") == "clip-0-0"
    assert reads[4:] == first, "the first was not held any more"
    with pytest.raises(IndexError, match=r"row 5: .* has 5 clips"):
        reader.value(5, "key")


def test_flow_of_other_clips_is_refused_when_its_shard_is_read(dataset_url: str):
    store, dataset = Store(dataset_url), Dataset(dataset_url)
    layer = dataset.layer()
    turned = {"000000": layer.shards["000000"], "000001": layer.shards["000000"]}
    name = f"flow/{layer.name}/00000"
    store.write(f"{name}1.parquet", store.read(f"{name}0.parquet"))
    layers = {layer.name: replace(layer, shards=turned)}
    write_manifest(store, replace(dataset.manifest, layers=layers))
    reader = ShardReader(Dataset(dataset_url), Dataset(dataset_url).layer())
    assert reader.fields(0, PAIRS[:1])
    with pytest.raises(DamagedDataset, match="does not hold the clips"):
        reader.fields(3, PAIRS[:1])


def test_what_is_asked_for_at_once_is_worked_out_once_and_errors_are_not_held():
    calls, gate = [], threading.Event()

    def slow(number: int) -> int:
        calls.append(number)
        assert gate.wait(10)
        if len(calls) == 1:
            raise OSError("for a while")
        return number * 10

    held = Held(slow, most=4)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(held, 7) for _ in range(3)]
        gate.set()
        failed = [answer for answer in answers if isinstance(answer.exception(), OSError)]
    assert failed
    assert len(calls) <= 2
    assert held(7) == held(7) == 70
    assert calls == [7, 7]
