"""Reads by byte range return what was written, or raise."""

import gc
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from shards.index import Dataset
from shards.manifest import DamagedDataset
from shards.reader import ShardReader, coalesce
from tests.shards.conftest import PAIRS, payload


def test_members_and_fields_are_read_back(dataset_url: str):
    dataset = Dataset(dataset_url)
    reader = ShardReader(dataset, dataset.layer())
    assert dataset.shard_rows == (3, 2)
    assert reader.member(1, "mp4") == payload(0, 1)
    assert reader.member(4, "mp4") == payload(1, 1)
    assert reader.member(4, "txt") == b""
    wanted = [PAIRS[3], PAIRS[0]]
    assert reader.fields(3, wanted) == [payload(1, 0, 3), payload(1, 0, 0)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_the_same_samples(dataset_url: str):
    dataset = Dataset(dataset_url)
    reader = ShardReader(dataset, dataset.layer())
    urls = [f"{dataset_url}/clips/{shard}.tar" for shard in dataset.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == dataset.clips["key"].to_pylist()
    assert [sample["mp4"] for sample in samples] == [reader.member(row, "mp4") for row in range(5)]
    flow_url = f"{dataset_url}/flow/toy-0123456789ab/000000.tar"
    flow = next(iter(webdataset.WebDataset(flow_url, shardshuffle=False)))
    assert flow["flow"] == b"".join(reader.fields(0, PAIRS))
    gc.collect()  # webdataset 1.0 leaves its files open; the warnings belong to this test


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
