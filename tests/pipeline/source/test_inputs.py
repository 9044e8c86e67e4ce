import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Source
from pipeline.source.inputs import _typed, find_sources, read_listed, with_sidecar_caption
from shards import UsageError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str = "x") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def names(found: tuple[list[Source], list]) -> list[str]:
    return [os.path.basename(source.path) for source in found[0]]


def test_folders_are_searched_for_videos_only(tmp_path: Path, write: Write) -> None:
    for name in ("b.mp4", "a.MKV", "sub/deep/c.webm", "notes.txt", "shots.json", ".hidden.mp4"):
        write(name)
    assert names(find_sources([tmp_path])) == ["a.MKV", "b.mp4", "c.webm"]


def test_linked_folders_are_followed_once(tmp_path: Path, write: Write) -> None:
    write("in/a.mp4")
    write("elsewhere/b.mp4")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    assert names(find_sources([tmp_path / "in"])) == ["a.mp4", "b.mp4"]


def test_files_are_taken_whatever_their_name(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = ["-dash.dat", "with space [1].mp4", "Ünï 視頻.gif", "noname"]
    for name in strange:
        write(name)
    monkeypatch.chdir(tmp_path)
    found, rejects = find_sources(strange)
    assert [source.path for source in found] == [str(tmp_path / name) for name in strange]
    assert not rejects


def test_globs_are_sorted_and_filtered(tmp_path: Path, write: Write) -> None:
    for name in ("2.mp4", "1.mp4", "1.txt", "d/3.mp4"):
        write(name)
    assert names(find_sources([f"{tmp_path}/*"])) == ["1.mp4", "2.mp4"]
    assert names(find_sources([f"{tmp_path}/**/*.mp4"])) == ["1.mp4", "2.mp4", "3.mp4"]


def test_arguments_keep_their_order_and_videos_count_once(tmp_path: Path, write: Write) -> None:
    a, b = write("a.mp4"), write("b.mp4")
    assert names(find_sources([b, tmp_path, a])) == ["b.mp4", "a.mp4"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [("nowhere", "no such file"), ("*.mp4", "no video found"), ("empty", "known suffixes")],
)
def test_arguments_that_match_nothing(tmp_path: Path, argument: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=words):
        find_sources([tmp_path / argument])


ROWS = [
    {"video": "a.mp4", "caption": "a cat, asleep", "label": 3, "score": 0.5, "id": "007"},
    {"video": "sub/b.mp4", "caption": "", "label": None, "score": 2.0, "id": "7"},
]
CSV = 'video,caption,label,score,id\na.mp4,"a cat, asleep",3,0.5,007\nsub/b.mp4,,,2,7\n'


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_manifests(tmp_path: Path, write: Write, kind: str) -> None:
    for name in ("a.mp4", "sub/b.mp4"):
        write(name)
    path = tmp_path / f"list.{kind}"
    if kind == "csv":
        path.write_text("\ufeff" + CSV, encoding="utf-8")
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    (a, b), rejects = find_sources([path])
    assert not rejects
    assert (a.path, b.path) == (str(tmp_path / "a.mp4"), str(tmp_path / "sub/b.mp4"))
    assert (a.caption, b.caption) == ("a cat, asleep", None)
    assert a.columns == {"label": 3, "score": 0.5, "id": "007"}
    assert b.columns == {"label": None, "score": 2.0, "id": "7"}


def test_a_text_column_is_the_caption_where_there_is_no_other(write: Write) -> None:
    one = read_listed(str(write("1.csv", "video,text\na.mp4,7\n")))[0]
    assert (one.caption, one.columns) == ("7", {})
    both = read_listed(str(write("2.csv", "video,text,caption\na.mp4,t,c\n")))[0]
    assert (both.caption, both.columns) == ("c", {"text": "t"})


def test_listed_videos_that_are_not_there_are_no_rejects(tmp_path: Path, write: Write) -> None:
    """They may be back when they are scanned."""
    write("a.mp4")
    found, rejects = find_sources([write("list.csv", "video\na.mp4\nb.mp4\n")])
    assert [source.path for source in found] == [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]
    assert rejects == []


def test_a_second_row_for_a_video_is_rejected(tmp_path: Path, write: Write) -> None:
    write("a.mp4")
    found, rejects = find_sources(
        [write("list.csv", "video,caption\na.mp4,x\na.mp4,y\n"), tmp_path]
    )
    assert [source.caption for source in found] == ["x"]
    assert [reject.reason for reject in rejects] == ["duplicate"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "file\na.mp4\n", r"row 1, column 'video'"),
        ("b.csv", "video,x\na.mp4,1\nb.mp4\n", r"row 2: not the 2 columns"),
        ("c.csv", "video\na.mp4,1\n", r"row 1: not the 1 columns"),
        ("d.csv", "video\n", r"no rows"),
        ("e.csv", "video,x\n,1\n", r"row 1, column 'video': ''"),
        ("a.jsonl", '{"video": "a.mp4"}\n{"video": 3}\n', r"row 2, column 'video': 3"),
        ("b.jsonl", '{"video": "a.mp4"\n', r"line 1: no JSON"),
        ("c.jsonl", "[1]\n", r"row 1: \[1\] is no object"),
        ("d.jsonl", '{"video": "a", "tags": ["x"]}\n', r"row 1, column 'tags': list"),
        ("e.jsonl", '{"video": "a", "caption": 1}\n', r"row 1, column 'caption'"),
        ("a.parquet", "not parquet", r"not readable as parquet"),
        ("f.csv", "video,x,x\na.mp4,1,2\n", r"column 'x' is there twice"),
        ("g.csv", "video,\na.mp4,1\n", r"row 1: a column is named ''"),
        ("f.jsonl", '{"video": "a", "x": 1, "x": 2}\n', r"line 1: .*'x' is named twice"),
        ("g.jsonl", '{"video": "a", "": 1}\n', r"row 1: a column is named ''"),
        ("h.jsonl", '{"video": "a", "\\ud800": 1}\n', r"row 1: a column is named '.ud800'"),
    ],
)
def test_malformed_manifests_name_row_and_column(
    write: Write, name: str, text: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        find_sources([write(name, text)])


def test_undecodable_manifests(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(b"video,caption\na.mp4,caf\xe9\n")
    with pytest.raises(UsageError, match="not readable as csv"):
        find_sources([path])


def test_columns_must_keep_one_type(write: Write) -> None:
    write("a.mp4")
    write("b.mp4")
    rows = '{"video": "a.mp4", "n": 1}\n{"video": "b.mp4", "n": "x"}\n'
    with pytest.raises(UsageError, match=r"column 'n': 'x' for .*b\.mp4, but float"):
        find_sources([write("list.jsonl", rows)])
    found, _ = find_sources([write("list.jsonl", rows.replace('"x"', "1.5"))])
    assert [source.columns["n"] for source in found] == [1, 1.5]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integer_columns_are_integers(values: list[int]) -> None:
    assert _typed([str(value) for value in values]) == values


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", ""], [1, None]),
        (["1", "2.5"], [1.0, 2.5]),
        (["01", "2"], ["01", "2"]),
        (["1e3", "2"], [1000.0, 2.0]),
        (["nan", "1_0"], ["nan", "1_0"]),
        (["99999999999999999999"], ["99999999999999999999"]),
        (["1", "x"], ["1", "x"]),
        (["", ""], [None, None]),
    ],
)
def test_csv_types(texts: list[str], values: list) -> None:
    assert _typed(texts) == values


def test_captions_beside_the_video(write: Write) -> None:
    write("a.txt", "  a dog\n")
    source = Source(path=str(write("a.mp4")))
    assert with_sidecar_caption(source).caption == "a dog"
    told = Source(path=source.path, caption="told")
    assert with_sidecar_caption(told) is told
    assert with_sidecar_caption(Source(path=str(write("b.mp4")))).caption is None


def test_a_name_that_is_not_utf_8_is_a_reject_that_can_be_written_down(write: Write):
    folder = write("good.mp4").parent
    bad = os.fsencode(folder) + b"/caf\xe9.mp4"
    Path(os.fsdecode(bad)).touch()
    (source,), (reject,) = find_sources([folder])
    assert source.path.endswith("good.mp4")
    assert (reject.reason, reject.path) == ("not_utf8", f"{folder}/caf\\udce9.mp4")
    reject.path.encode("utf-8")


def test_a_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path):
    table = pa.Table.from_arrays(
        [pa.array(["a.mp4"]), pa.array([1]), pa.array([2])], ["video", *"xx"]
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="column 'x' is there twice"):
        find_sources([tmp_path / "a.parquet"])


@pytest.mark.parametrize("place", ["caption", "note"])
def test_half_a_character_is_a_reject_of_that_row_alone(write: Write, place: str):
    for name in ("a.mp4", "b.mp4"):
        write(name)
    rows = f'{{"video": "a.mp4", "{place}": "x\\ud83d"}}\n{{"video": "b.mp4", "{place}": "x"}}\n'
    (good,), (reject,) = find_sources([write("list.jsonl", rows)])
    assert good.path.endswith("b.mp4")
    assert (os.path.basename(reject.path), reject.reason) == ("a.mp4", "not_utf8")
    assert place in reject.detail
    reject.detail.encode("utf-8")


def test_whole_numbers_that_fractions_cannot_hold_are_refused_beside_them(write: Write):
    for name in ("a.mp4", "b.mp4"):
        write(name)
    rows = '{"video": "a.mp4", "n": 9007199254740993}\n{"video": "b.mp4", "n": 0.5}\n'
    with pytest.raises(UsageError, match="column 'n' holds fractions and 9007199254740993"):
        find_sources([write("list.jsonl", rows)])


def test_a_folder_that_cannot_be_listed_is_a_reject(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
):
    write("in/a.mp4")
    closed = write("in/closed/b.mp4").parent
    scandir = os.scandir

    def refuse(path: str):
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (source,), (reject,) = find_sources([tmp_path / "in"])
    assert source.path.endswith("a.mp4")
    assert (reject.path, reject.reason) == (str(closed), "unreadable_folder")
    assert "Permission denied" in reject.detail
    assert [r.path for r in find_sources([closed])[1]] == [str(closed)]
