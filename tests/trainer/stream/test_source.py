"""A survey of a source, and the samples that its filter and windows leave."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import platformdirs
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shards.store import UsageError
from tests.trainer.stream.conftest import Index
from trainer.config import StreamConfig
from trainer.stream import source
from trainer.stream.filter.where import Where
from trainer.stream.source import Source, draw_caption, survey

CONFIG = StreamConfig(frames=4)


def test_the_manifest_tells_all_where_nothing_is_filtered() -> None:
    index = Index([3, 2])
    index.manifest = SimpleNamespace(config={"size": [16, 32], "frames": 9})
    index.damaged = {"000000", "000001"}  # the index is not read
    found = survey(Source(dataset=index), CONFIG)
    assert (found.samples, found.sizes, found.shortest) == (((3, 2),), ((16, 32),), 9)


def test_a_filter_counts_what_it_takes_of_each_shard() -> None:
    index = Index([3, 2, 4], frames=[4, 9, 9, 9, 9, 5, 9, 9, 7])
    found = survey(Source(dataset=index, where="number >= 4"), CONFIG)
    assert (found.samples, found.sizes, found.shortest) == (((0, 1, 4),), ((2, 2),), 5)


class Uneven(Index):
    """Shards of which some have a column of the user's, as whole numbers or as fractions."""

    def each(self, columns=None, layer=None) -> Iterator[pa.Table]:
        for number, table in enumerate(super().each(columns, layer)):
            kind = (None, pa.int64(), pa.float64())[number // 3 % 3]
            score = pa.array(range(len(table)), kind or pa.int64())
            yield table.append_column("score", score) if kind else table


@settings(max_examples=12)
@given(rows=st.lists(st.integers(1, 9), min_size=1, max_size=30), at_once=st.integers(1, 9))
def test_shards_are_counted_together_as_each_alone(rows: list[int], at_once: int) -> None:
    index = Uneven(rows, frames=[4 + 3 * n % 7 for n in range(sum(rows))])
    where = "abs(frames - 7) < 2 or score > 1"
    expected = [len(Where(where).places(one)) for one in index.each()]
    assume(any(expected) and len(rows) > 3)
    with patch.object(source, "_AT_ONCE", at_once):
        found = survey(Source(dataset=index, where=where), CONFIG)
    assert found.samples == (tuple(expected),)


def test_a_large_dataset_is_counted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    monkeypatch.setattr(source, "_WORTH_KEEPING", 2)
    reads: list[Index] = []

    class Counted(Index):
        def each(self, columns=None, layer=None) -> Iterator[pa.Table]:
            reads.append(self)
            return super().each(columns, layer)

    first, other = Counted([3, 2, 4]), Counted([3, 2, 5])
    windows = replace(CONFIG, windows="all")
    asked = [
        (first, "number >= 4", CONFIG),
        (first, "number >= 5", CONFIG),
        (first, "number >= 4", windows),
        (first, "number >= 4", replace(windows, frames=2)),
        (first, "number >= 4", replace(CONFIG, buckets=("2x2x4",))),
        (first, "number >= 4", replace(CONFIG, buckets=("2x2x4",), fill="all")),
        (other, "number >= 4", CONFIG),
    ]
    found = [survey(Source(dataset=index, where=where), how) for index, where, how in asked]
    assert found[0].samples == ((0, 1, 4),)
    assert len(reads) == len(asked)
    again = [survey(Source(dataset=index, where=where), how) for index, where, how in asked]
    assert (again, len(reads)) == (found, len(asked))


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("number > 99", "leaves no clip of memory: widen it"),
        ("score > 1", "names score, which the clips of memory do not have; there are .*caption"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(where: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        survey(Source(dataset=Index([3]), where=where), CONFIG)


def test_clips_of_several_sizes_need_a_filter() -> None:
    index = Index([2, 2])
    heights = pa.array([2, 2, 4, 4])
    index.table = index.table.set_column(3, "height", heights)
    with pytest.raises(UsageError, match=r"heights \[2, 4\] and widths \[2\]; .*filter"):
        survey(Source(dataset=index), CONFIG)
    found = survey(Source(dataset=index, where="height == 4"), CONFIG)
    assert (found.samples, found.sizes) == (((0, 2),), ((4, 2),))


@pytest.mark.parametrize(
    ("told", "texts"),
    [
        ("a dog", {"a dog"}),
        (["a dog", "a cat", "an owl"], {"a dog", "a cat", "an owl"}),
        ('["a dog", "a cat"]', {"a dog", "a cat"}),
        ("[music] a crowd sings", {"[music] a crowd sings"}),
        ("[1, 2]", {"[1, 2]"}),
        ("", {""}),
        ("[]", {None}),
        (None, {None}),
    ],
)
def test_each_position_shows_one_of_the_captions(told: Any, texts: set[str | None]) -> None:
    drawn = [draw_caption(told, 5, position, 0.0) for position in range(300)]
    assert {*drawn} == texts
    assert drawn == [draw_caption(told, 5, position, 0.0) for position in range(300)]
    if len(texts) > 1:
        assert min(Counter(drawn).values()) > 60
        assert drawn != [draw_caption(told, 6, position, 0.0) for position in range(300)]


def test_a_share_of_the_captions_is_left_empty_by_position() -> None:
    told = ["a dog", "a cat"]
    whole = [draw_caption(told, 5, position, 0.0) for position in range(2000)]
    some = [draw_caption(told, 5, position, 0.2) for position in range(2000)]
    dropped = [position for position, text in enumerate(some) if text == ""]
    assert abs(len(dropped) - 400) < 5 * (2000 * 0.2 * 0.8) ** 0.5
    kept = [p for p in range(2000) if p not in {*dropped}]
    assert [some[p] for p in kept] == [whole[p] for p in kept], "dropping changes no other draw"
    assert {draw_caption(told, 5, position, 1.0) for position in range(50)} == {""}
    assert draw_caption(None, 5, 0, 1.0) is None
