"""Entries of the catalog: their files, and which shards a lookup names."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_cache.reuse.entries import (
    EMPTY_ROWS,
    NO_RECORDS,
    Entry,
    Found,
    by_source,
    entry_table,
    layer_rows,
    read_entry,
    read_records,
)

ENTRY = Entry(
    dataset="memory://bucket/d",
    layer="toy-0123",
    spec={"estimator": "toy"},
    recipe="ab" * 32,
    shards=(("000000", "1" * 64), ("000001", "2" * 64)),
    clips=3,
    bytes=300,
)
A, B = "aa" * 32, "bb" * 32


def index_of(sources: list[str], first: int) -> pa.Table:
    return pa.table(
        {
            "source_sha256": sources,
            "pts": [[first + 10 * n, first + 10 * n + 5] for n in range(len(sources))],
        }
    )


def file_of(entry: Entry) -> bytes:
    rows = [layer_rows(index_of([B, A], 0), 0), layer_rows(index_of([A], 100), 1)]
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(entry_table(entry, pa.concat_tables([EMPTY_ROWS, *rows])), sink)
    return sink.getvalue().to_pybytes()


def wanted(*sources: str) -> np.ndarray:
    return np.sort(np.frombuffer(bytes.fromhex("".join(sources)), "S32"))


def found(*sources: str) -> Found:
    records = read_records(file_of(ENTRY), wanted(*sources))
    records["entry"] = 0
    return Found(entries=(ENTRY,), records=by_source([records]), warnings=())


def test_an_entry_is_read_back_with_the_rows_of_the_wanted_sources():
    assert read_entry(file_of(ENTRY)) == ENTRY
    assert [r["pts"].tolist() for r in read_records(file_of(ENTRY), wanted(B))] == [[0, 5]]
    assert len(read_records(file_of(ENTRY), wanted(A, B))) == 3
    assert len(read_records(file_of(ENTRY), wanted("cc" * 32))) == 0


def test_shards_near_the_wanted_times_are_named_with_their_rows():
    (shard,) = found(A).near({A: (12, 20)})
    assert (shard.stem, shard.sha256, shard.rows) == ("flow/toy-0123/000000", "1" * 64, (1,))
    assert shard.dataset.url == ENTRY.url
    both = found(A, B).near({A: (0, 200), B: (0, 200)})
    assert [(s.stem[-6:], s.rows) for s in both] == [("000000", (0, 1)), ("000001", (0,))]
    assert found(A).near({A: (16, 99)}) == ()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_entry_are_refused(data: bytes):
    with pytest.raises(ValueError, match="not an entry of a flow catalog"):
        read_entry(data)
    with pytest.raises(ValueError, match="not an entry of a flow catalog"):
        read_records(data, wanted(A))


def test_records_of_several_entries_are_sorted_by_source():
    parts = [read_records(file_of(ENTRY), wanted(A)), read_records(file_of(ENTRY), wanted(B))]
    merged = by_source(parts[::-1])
    assert merged.dtype == NO_RECORDS.dtype
    assert merged["source"].tolist() == sorted(merged["source"].tolist())
