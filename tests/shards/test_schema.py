"""Rows as types, and names that WebDataset readers take as they are meant."""

import pickle
from dataclasses import replace
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.schema import (
    CLIP_MEMBERS,
    CLIP_TABLE,
    Clip,
    Span,
    clips_of,
    member_columns,
    shard_name,
    span_columns,
    spans_of,
    user_name,
    valid_key,
)

int64s = st.integers(-(2**62), 2**62)
fractions = st.builds(Fraction, st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1))
clips = st.builds(
    Clip,
    key=st.from_regex(r"[A-Za-z0-9_-]{1,80}", fullmatch=True),
    path=st.text(),
    source_sha256=st.just("ab" * 32),
    numbers=st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=4).map(tuple),
    pts=st.lists(int64s, min_size=2, max_size=4).map(tuple),
    time_base=fractions,
    fps=fractions,
    size=st.tuples(st.integers(16, 4096), st.integers(16, 4096)),
    shot=st.integers(0, 9),
    repeated=st.integers(0, 9),
    decode_errors=st.integers(0, 9),
    seekable=st.booleans(),
    caption=st.text(),
    codec=st.none() | st.just("h264"),
    transfer=st.none() | st.integers(0, 255),
    interlaced=st.none() | st.booleans(),
    letterbox=st.none() | st.floats(0, 1),
    static=st.none() | st.floats(0, 1),
    phash=st.none() | st.just("00ff" * 4),
    columns=st.dictionaries(
        st.sampled_from(
            ["label", "user_id", "path", "user_path", "user_user_path", "mp4_size", "json_offset"]
        )
        | st.text(min_size=1),
        st.integers() | st.text(),
    ),
)


@given(clip=clips, shard=st.integers(0, 99))
def test_a_clip_is_its_row(clip: Clip, shard: int):
    row = clip.to_row(shard)
    assert list(row)[: len(CLIP_TABLE.names)] == CLIP_TABLE.names
    assert len(row) == len(CLIP_TABLE.names) + len(clip.columns), "no column takes another's place"
    assert not row.keys() & set(member_columns(CLIP_MEMBERS).names)
    assert Clip.from_row(row) == clip
    assert pickle.loads(pickle.dumps(clip)) == clip


def test_clips_survive_a_table_with_the_places_of_their_members():
    clip = Clip(
        key="a",
        path="/a.mp4",
        source_sha256="0" * 64,
        numbers=(0, 1),
        pts=(0, 40),
        time_base=Fraction(1, 1000),
        fps=Fraction(25),
        size=(32, 48),
        shot=0,
        repeated=0,
        decode_errors=0,
        seekable=True,
        columns={"shot": "close-up"},
    )
    spans = {name: Span(offset=512 * n, size=n, crc32=n) for n, name in enumerate(CLIP_MEMBERS)}
    row = clip.to_row(0)
    assert row["user_shot"] == "close-up"
    schema = pa.unify_schemas([CLIP_TABLE, member_columns(CLIP_MEMBERS)])
    schema = schema.append(pa.field("user_shot", pa.string()))
    table = pa.Table.from_pylist([row | span_columns(spans)], schema=schema)
    (read,) = clips_of(table)
    assert read.columns == {"shot": "close-up"}
    assert read.to_row(0) == row
    assert spans_of(table, "mp4") == [spans["mp4"]]


YOUNGER = ["codec", "transfer", "interlaced", "letterbox", "static", "phash"]


@given(clip=clips)
def test_a_row_without_the_younger_columns_is_a_clip(clip: Clip):
    row = {name: value for name, value in clip.to_row(0).items() if name not in YOUNGER}
    assert Clip.from_row(row) == replace(
        clip, codec=None, transfer=None, interlaced=None, letterbox=None, static=None, phash=None
    )


def test_names():
    assert (user_name("label"), user_name("pts")) == ("label", "user_pts")
    assert (shard_name(0), shard_name(1234567)) == ("000000", "1234567")
    assert valid_key("a-B_9") == "a-B_9"
    with pytest.raises(ValueError, match="WebDataset cuts names at dots"):
        valid_key("a.b")
