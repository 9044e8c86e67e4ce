"""Tables of clips come back from any tool: in other types, with other columns, and broken."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.source.given_clips import BATCH, CLIPS_FILE, CONFIG_KEY, OURS, GivenClips
from shards import Clip, UsageError
from shards.schema import CLIP_TABLE

SIZE, FRAMES = (32, 48), 3
Save = Callable[..., str]


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "key": f"k-{number}",
        "path": "/videos/a.mp4",
        "source_sha256": "a" * 64,
        "numbers": [0, 1, 1],
        "pts": [0, 2, 2],
        "time_base_num": 1,
        "time_base_den": 50,
        "fps_num": 25,
        "fps_den": 1,
        "frames": FRAMES,
        "height": SIZE[0],
        "width": SIZE[1],
        "shot": 0,
        "repeated": 1,
        "decode_errors": 0,
        "seekable": True,
        "caption": "a dog",
    } | changes


def table(*rows: dict[str, Any]) -> pa.Table:
    """As a scan writes it, without the columns that may be missing."""
    kinds = {field.name: field.type for field in OURS}
    names = list(rows[0])
    columns = [pa.array([r[name] for r in rows], kinds.get(name)) for name in names]
    return pa.table(columns, names=names)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(given: pa.Table) -> str:
        pq.write_table(given, tmp_path / "table.parquet")
        return str(tmp_path / "table.parquet")

    return write


def read(path: str) -> pa.Table:
    given = GivenClips(path)
    return pa.concat_tables(given.check(SIZE, FRAMES))


def recast(given: pa.Table, **kinds: pa.DataType) -> pa.Table:
    for name, kind in kinds.items():
        place = given.column_names.index(name)
        given = given.set_column(place, name, given[name].cast(kind))
    return given


def test_a_table_comes_out_as_a_scan_writes_it(save: Save):
    found = read(save(table(row())))
    assert found.schema == pa.schema(OURS)
    (clip,) = (Clip.from_row(r) for r in found.to_pylist())
    assert clip.to_row(0).items() >= row().items()
    assert clip.codec is None


@pytest.mark.parametrize(
    "kinds",
    [
        {"path": pa.large_string(), "numbers": pa.large_list(pa.int64()), "frames": pa.int64()},
        {"key": pa.dictionary(pa.int8(), pa.string()), "width": pa.float64()},
        {"key": pa.dictionary(pa.uint32(), pa.large_string()), "pts": pa.list_(pa.float64())},
        {"pts": pa.list_(pa.int64(), 3), "height": pa.uint64(), "path": pa.string_view()},
    ],
    ids=["polars", "pandas", "categories", "arrays"],
)
def test_the_types_of_other_tools_fit(save: Save, kinds: dict[str, pa.DataType]):
    plain = table(row(0), row(1))
    edited = recast(plain, **kinds)
    assert edited.schema != plain.schema
    assert read(save(edited)).equals(read(save(plain)))


def test_columns_may_be_turned_around_and_others_are_the_user_s(save: Save):
    extra = {
        "note": pa.array(["x", None], pa.large_string()),
        "weight": pa.array([1, 2], pa.decimal128(3)),
        "rank": pa.array([1, 2], pa.uint8()),
        "good": pa.array([True, None]),
        "none": pa.nulls(2),
        "shard": pa.array([7, 8]),
        "mp4_offset": pa.array([7, 8]),
        "__index_level_0__": pa.array([7, 8]),
    }
    given = table(row(0), row(1))
    for name, column in extra.items():
        given = given.add_column(0, name, column)
    given = given.replace_schema_metadata({"pandas": "{}"})
    found = read(save(given))
    users = [field for field in found.schema if field.name not in CLIP_TABLE.names]
    assert [*found.schema] == [*OURS, *users]
    assert {field.name: field.type for field in users} == {
        "none": pa.null(),
        "good": pa.bool_(),
        "rank": pa.int64(),
        "weight": pa.float64(),
        "note": pa.string(),
    }
    assert GivenClips(save(given)).users.schema == pa.schema(users)


def test_an_empty_caption_is_none(save: Save):
    assert read(save(table(row(caption=None))))["caption"].to_pylist() == [""]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": "a.b"}, "column 'key': 'a.b', but a key is 1 to 80"),
        ({"key": ""}, "a key is 1 to 80"),
        ({"source_sha256": "A" * 64}, "64 hex digits"),
        ({"path": "a.mp4"}, "an absolute path or a URL"),
        ({"height": 64}, r"column 'height': 64, but --size asks for 32x48"),
        ({"width": 64}, r"column 'width': 64, but --size asks for 32x48"),
        ({"frames": 4}, r"column 'frames': 4, but --frames asks for 3"),
        ({"numbers": [0, 1]}, "has as many numbers"),
        ({"pts": [0, 1, 2, 3]}, "has as many pts"),
        ({"numbers": [0, 2, 1]}, "numbers never fall"),
        ({"pts": [0, 2, 1]}, "pts never fall"),
        ({"pts": [-(2**63), 2**63 - 1, 0]}, "pts never fall"),
        ({"numbers": [-1, 0, 0]}, "counted from 0"),
        ({"pts": [0, 1, 2]}, "rise exactly where"),
        ({"time_base_den": 0}, "a time base is positive"),
        ({"fps_num": 0}, "no rate that a clip can be stored with"),
    ],
)
def test_a_row_that_is_no_clip_is_named(save: Save, changes: dict[str, Any], words: str):
    path = save(table(*(row(n) for n in range(BATCH)), row(BATCH, **changes)))
    with pytest.raises(UsageError, match=rf"table.parquet, row {BATCH + 1}, .*{words}"):
        read(path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.drop_columns(["pts", "fps_den"]), "lacks the columns pts, fps_den"),
        (lambda t: t.append_column("key", t["key"]), "column 'key' is there twice"),
        (lambda t: t.append_column("x", [[[1]]]), "column 'x' holds list.* only text, numbers"),
        (lambda t: recast(t, shot=pa.string()).set_column(12, "shot", [["x"]]), "does not fit"),
        (lambda t: t.set_column(12, "shot", [[0.5]]), "'shot' holds double, which does not fit"),
        (lambda t: t.set_column(0, "key", [pa.array([b"\xff"])]), "'key'.* does not fit"),
        (lambda t: t.set_column(12, "shot", [pa.array([None], pa.int32())]), "has empty cells"),
        (lambda t: t.set_column(3, "numbers", [pa.array([[0, None, 1]])]), "has empty cells"),
    ],
)
def test_columns_that_do_not_fit_are_named(
    save: Save, edit: Callable[[pa.Table], pa.Table], words: str
):
    with pytest.raises(UsageError, match=words):
        read(save(edit(table(row()))))


def test_what_is_no_table_is_refused(tmp_path: Path):
    (tmp_path / "x.parquet").write_text("key,path")
    with pytest.raises(UsageError, match="not readable as a Parquet table"):
        GivenClips(str(tmp_path / "x.parquet"))
    with pytest.raises(UsageError, match="not readable as a Parquet table"):
        GivenClips(str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=r"holds no clips.parquet: make it with `fluxshard scan"):
        GivenClips(str(tmp_path))
    with pytest.raises(UsageError, match="download it"):
        GivenClips("s3://bucket/clips.parquet")


def test_a_table_tells_size_and_frames_and_the_rest_if_it_still_knows(save: Save, tmp_path: Path):
    plain = table(row())
    assert GivenClips(save(plain)).config() == {"size": [32, 48], "frames": 3, "fps": None}
    with pytest.raises(UsageError, match="has no rows"):
        GivenClips(save(plain.slice(0, 0))).config()
    told = plain.replace_schema_metadata({CONFIG_KEY: b'{"fps": "12", "frames": 99}'})
    pq.write_table(told, tmp_path / CLIPS_FILE)
    assert GivenClips(str(tmp_path)).config() == {"size": [32, 48], "frames": 3, "fps": "12"}
