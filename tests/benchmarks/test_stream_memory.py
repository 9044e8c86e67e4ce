"""What the script calls growth."""

import pytest

from benchmarks.stream_memory import ALLOWED_MIB, ROWS, Row, grown


def rows(last: Row) -> list[Row]:
    """Footprints of which the first is of a stream that has just begun."""
    steady = {"rss_MiB": 300.0, "threads": 4.0, "files": 9.0}
    return [{"rss_MiB": 100.0, "threads": 1.0, "files": 2.0}, *[steady] * (ROWS - 2), steady | last]


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ({}, []),
        ({"rss_MiB": 300.0 + ALLOWED_MIB}, []),
        ({"rss_MiB": 301.0 + ALLOWED_MIB}, ["rss_MiB"]),
        ({"threads": 5.0, "files": 10.0}, ["threads", "files"]),
        ({"threads": 3.0, "files": 8.0}, []),
    ],
)
def test_what_comes_on_top_after_the_start_is_growth(last: Row, found: list[str]) -> None:
    assert grown(rows(last)) == found
