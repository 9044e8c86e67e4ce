"""Clips and rejects survive their tables; shards are filled in the order of the clips."""

from fractions import Fraction

from pipeline.planning.clip_table import clip_table, reject_table, rejects_of_table
from pipeline.records import Reject
from shards.schema import CLIP_TABLE, Clip, Scalar, clips_of


def clip(number: int, columns: dict[str, Scalar] | None = None) -> Clip:
    return Clip(
        key=f"a-{number}",
        path="/a.mp4",
        source_sha256="0" * 64,
        numbers=(2 * number, 2 * number + 1),
        pts=(80 * number, 80 * number + 40),
        time_base=Fraction(1, 1000),
        fps=Fraction(30000, 1001),
        size=(32, 48),
        shot=0,
        repeated=0,
        decode_errors=0,
        seekable=True,
        caption="a dog",
        columns=columns or {},
    )


def test_clips_are_read_back_and_shards_filled_in_order():
    clips = [clip(n) for n in range(5)]
    table = clip_table(clips, 2, taken={0, 2})
    assert clips_of(table) == clips
    assert table["shard"].to_pylist() == [1, 1, 3, 3, 4]
    assert table.schema.equals(CLIP_TABLE)


def test_users_columns_may_be_missing_in_some_clips_and_give_way_to_ours():
    table = clip_table([clip(0, {"label": 3}), clip(1, {"shot": "close-up"}), clip(2)], 8)
    assert table["label"].to_pylist() == [3, None, None]
    assert table["user_shot"].to_pylist() == [None, "close-up", None]
    assert table["shot"].to_pylist() == [0, 0, 0]


def test_no_clips_are_an_empty_table():
    assert clip_table([], 8).schema.equals(CLIP_TABLE)


def test_rejects_are_read_back():
    rejects = [
        Reject(path="/a", sha256=None, stage="probe", reason="empty", detail="no bytes"),
        Reject(path="/b", sha256="1" * 64, stage="clips", reason="too_short", detail="3 frames"),
    ]
    assert rejects_of_table(reject_table(rejects)) == rejects
    assert rejects_of_table(reject_table([])) == []
