"""A filter takes what its expression says, and refuses what it cannot say."""

import pyarrow as pa
import pytest

from shards.store import UsageError
from trainer.stream.filter.where import Where

TABLE = pa.table(
    {
        "frames": [17, 33, None, 49],
        "caption": ["a Dog", "cat", None, "dogs"],
        "static": [0.1, None, 0.5, 0.05],
        "good": [True, False, None, True],
        "nothing": pa.nulls(4),
    }
)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", [0, 1, 2, 3]),
        (" True ", [0, 1, 2, 3]),
        ("False", []),
        ("frames >= 33", [1, 3]),
        ("frames > 17 and static is None", [1]),
        ("static is not None or good == False", [0, 1, 2, 3]),
        ("good", [0, 3]),
        ("not good", [1]),
        ("'dog' in lower(caption)", [0, 3]),
        ("'dog' not in lower(caption)", [1]),
        ("caption in ('cat', 'dogs')", [1, 3]),
        ("caption not in ['cat']", [0, 3]),
        ("10 < frames < 40", [0, 1]),
        ("frames / 2 > 10 and -frames < 0", [1, 3]),
        ("(frames - 1) * 2 + 1 == 65", [1]),
        ("abs(frames - 33) <= 16", [0, 1, 3]),
        ("matches(caption, '^d')", [3]),
        ("starts(caption, 'a')", [0]),
        ("len(caption) == 3", [1]),
        ("share(caption) < 0.5", [0, 1, 3]),
        ("share(caption) >= 0.5", []),
        ("share(frames) >= 0 and share(frames) < 1", [0, 1, 3]),
        ("share('cat') == share(caption)", [1]),
        ("share(absent) < 2", []),
        ("nothing is None", [0, 1, 2, 3]),
        ("absent is None", [0, 1, 2, 3]),
        ("absent == 3 or frames == 17", [0]),
        ("absent and frames > 1 or not absent", []),
        ("lower(absent) == 'a' or 'a' in absent or 'b' not in absent", []),
        ("absent + 1 > 2 or absent in (3, 4) or -absent < 1 or absent / 2 > 1", []),
    ],
)
def test_it_takes_the_rows_that_are_true(text: str, places: list[int]) -> None:
    assert Where(text).places(TABLE).tolist() == places
    assert Where(text).places(TABLE.slice(0, 0)).tolist() == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("frames >", "invalid syntax"),
        ("frames", "it gives int64, not true or false"),
        ("__import__('os')", r"__import__\(\) is no function"),
        ("caption.upper() == 'A'", r"caption.upper\(\) is no function"),
        ("caption.x == 1", "caption.x is not known"),
        ("frames ** 2 > 1", "frames \\*\\* 2 is not known"),
        ("frames[0] == 1", r"frames\[0\] is not known"),
        ("frames is 3", "compares with None only"),
        ("caption > 3", "cannot be used"),
        ("frames in ('a',)", "cannot be used"),
        ("starts(caption)", "cannot be used"),
        ("starts('a', caption)", "cannot be used"),
        ("lambda: 1", "is not known"),
        ("(yield)", "is not known"),
        ("x\0", "cannot be used"),
        ("-" * 3000 + "frames > 1", "recursion"),
        ("+".join(["frames"] * 3000) + " > 1", "recursion"),
    ],
)
def test_what_is_no_filter_is_refused_with_what_one_may_hold(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"{why}(?s:.)*It may hold columns, numbers"):
        Where(text).places(TABLE)


def test_a_sum_beyond_the_column_s_32_bits_is_refused_and_does_not_wrap() -> None:
    sides = pa.table({n: pa.array([v], pa.int32()) for n, v in (("height", 2160), ("width", 3840))})
    table = sides.append_column("frames", pa.array([300], pa.int32()))
    assert Where("height * width > 8000000").places(table).tolist() == [0]
    with pytest.raises(UsageError, match="overflow"):
        Where("frames * height * width > 2000000000").places(table)
    assert Where("1.0 * frames * height * width > 2000000000").places(table).tolist() == [0]


def test_its_columns_are_those_that_it_names() -> None:
    assert Where("frames > 1 and lower(caption) == 'x'").columns == ("caption", "frames")
    assert Where("").columns == ()


def test_one_filter_has_one_name_however_it_is_written() -> None:
    assert str(Where("frames>=33   and(good)")) == str(Where("frames >= 33 and good"))
    assert str(Where("")) == "all"
    long = [" or ".join(f"frames == {n}" for n in range(k)) for k in (90, 91)]
    names = [str(Where(text)) for text in long]
    assert names[0] != names[1]
    assert all(len(name) < 90 for name in names)


def test_a_share_is_of_values_and_not_of_rows() -> None:
    table = pa.table({"source": [f"video {n // 3}" for n in range(3000)]})
    taken = set(Where("share(source) < 0.1").places(table).tolist())
    assert all({3 * n, 3 * n + 1, 3 * n + 2} <= taken for n in range(1000) if 3 * n in taken)
    assert 3 * 70 < len(taken) < 3 * 130
    assert taken < set(Where("share(source) < 0.2").places(table).tolist())
    later = {row - 300 for row in taken if row >= 300}
    assert set(Where("share(source) < 0.1").places(table.slice(300)).tolist()) == later
