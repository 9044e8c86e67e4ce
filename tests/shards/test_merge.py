"""A merged dataset reads as one and owns nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.index import Dataset, check_agreement
from shards.manifest import Layer, read_manifest, sha256_of, write_manifest
from shards.merge import merge
from shards.order import Order
from shards.reader import ShardReader
from shards.store import Store, UsageError
from shards.verify import verify

PAIRS = [(0, 1), (2, 1)]


def combine(parts: list[str], out: str) -> list[Layer]:
    return merge([Store(part) for part in parts], Store(out))


@pytest.fixture
def other_url(make_dataset) -> str:
    return make_dataset("other")


@pytest.fixture
def merged_url(dataset_url: str, other_url: str, tmp_path: Path) -> str:
    url = f"{tmp_path}/merged"
    assert combine([dataset_url, other_url], url) == []
    return url


def test_clips_and_flow_are_those_of_the_parts_in_their_order(
    dataset_url: str, other_url: str, merged_url: str
):
    merged = Dataset(merged_url)
    whole, row = ShardReader(merged, merged.layer("toy")), 0
    for url in (dataset_url, other_url):
        part = Dataset(url)
        reader = ShardReader(part, part.layer("toy"))
        for n, key in enumerate(part.clips["key"].to_pylist()):
            assert merged.clips["key"][row].as_py() == key
            assert whole.member(row, "mp4") == reader.member(n, "mp4")
            assert whole.fields(row, PAIRS) == reader.fields(n, PAIRS)
            row += 1
    assert row == len(merged.clips) == 10
    rows = Order(shard_rows=merged.shard_rows, seed=0, window=2).rows(0, 10)
    assert sorted(rows.tolist()) == list(range(10))


def test_nothing_but_the_index_is_written(merged_url: str):
    files = {path.name for path in Path(merged_url).rglob("*")}
    assert files == {"manifest.json", "rejects.parquet"}
    assert read_manifest(Store(merged_url)).config == {"frames": 17}


def test_merged_datasets_merge_again(merged_url: str, make_dataset, tmp_path: Path):
    combine([make_dataset("third"), merged_url], f"{tmp_path}/all")
    everything = Dataset(f"{tmp_path}/all")
    assert len(everything.clips) == 15
    reader = ShardReader(everything, everything.layer("toy"))
    assert [reader.member(row, "mp4") for row in range(15)]
    assert list(verify(Store(f"{tmp_path}/all"))) == []


def test_verify_names_the_file_of_the_part_that_is_damaged(merged_url: str, other_url: str):
    assert list(verify(Store(merged_url))) == []
    path = Path(other_url, "clips", "000001.tar")
    path.write_bytes(path.read_bytes()[:-512])
    assert [problem.file for problem in verify(Store(merged_url))] == [str(path)]


def test_a_layer_that_a_part_lacks_is_left_out_and_named(
    dataset_url: str, other_url: str, tmp_path: Path
):
    manifest = read_manifest(Store(other_url))
    write_manifest(Store(other_url), replace(manifest, layers={}))
    (left_out,) = combine([dataset_url, other_url], f"{tmp_path}/merged")
    assert left_out.name == "toy-0123456789ab"
    assert not read_manifest(Store(f"{tmp_path}/merged")).layers


def test_keys_that_occur_twice_are_named(dataset_url: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"5 keys occur more than once: clip-0-0, .*…"):
        combine([dataset_url, dataset_url], f"{tmp_path}/merged")
    assert not Path(tmp_path, "merged").exists()


def test_the_output_must_be_new_and_two_datasets_given(dataset_url: str, other_url: str):
    with pytest.raises(ValueError, match="is not empty"):
        combine([dataset_url, other_url], dataset_url)
    with pytest.raises(ValueError, match="at least two datasets"):
        combine([dataset_url], other_url)


def test_datasets_beside_each_other_move_together(
    dataset_url: str, other_url: str, merged_url: str, tmp_path: Path
):
    written = json.loads(Path(merged_url, "manifest.json").read_text())
    assert written["merged"] == ["../clip", "../other"]
    assert {shard["url"] for shard in written["shards"].values()} == {"../clip", "../other"}
    clips, moved = Dataset(merged_url).clips, tmp_path / "moved" / "here"
    moved.mkdir(parents=True)
    for url in (dataset_url, other_url, merged_url):
        Path(url).rename(moved / Path(url).name)
    merged = Dataset(moved / "merged")
    assert merged.clips.equals(clips)
    assert merged.manifest.merged == (f"{moved}/clip", f"{moved}/other")
    assert ShardReader(merged, merged.layer("toy")).fields(9, PAIRS)
    assert list(verify(merged.store)) == []


def test_a_merged_dataset_is_read_through_a_link_and_under_a_relative_path(
    merged_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link"
    link.symlink_to(merged_url)
    assert len(Dataset(link).clips) == 10
    monkeypatch.chdir(merged_url)
    assert len(Dataset(".").clips) == 10


def test_datasets_elsewhere_are_referred_to_by_their_absolute_paths(
    dataset_url: str, other_url: str, tmp_path: Path
):
    """Which manifests of merged datasets always had; they move alone."""
    combine([dataset_url, other_url], f"{tmp_path}/deeper/merged")
    written = json.loads(Path(tmp_path, "deeper", "merged", "manifest.json").read_text())
    assert written["merged"] == [dataset_url, other_url]
    Path(tmp_path, "deeper", "merged").rename(tmp_path / "moved")
    assert len(Dataset(tmp_path / "moved").clips) == 10


def test_a_column_of_another_kind_in_another_part_is_named(dataset_url: str, other_url: str):
    words: list[pa.Table] = []
    for url, values in ((dataset_url, [1, 2, 3]), (other_url, ["a", "b", "c"])):
        path = Path(url, "clips", "000000.parquet")
        words.append(pq.read_table(path).append_column("label", pa.array(values)))
        nulls = pq.read_table(path).append_column("label", pa.nulls(3))
        check_agreement([("nulls", nulls), (url, words[-1]), ("nulls", nulls)])
        pq.write_table(words[-1], path)
        manifest = read_manifest(Store(url))
        shard = replace(manifest.shards["000000"], sha256=sha256_of(path.read_bytes()))
        shards = {**manifest.shards, "000000": shard}
        write_manifest(Store(url), replace(manifest, shards=shards))
    out = Path(dataset_url).with_name("merged")
    expected = f"'label' holds whole numbers in {dataset_url}, but text in {other_url}: give it"
    with pytest.raises(UsageError, match=expected):
        combine([dataset_url, other_url], str(out))
    assert not out.exists()


def test_a_part_that_lacks_younger_columns_reads_as_null(
    dataset_url: str, other_url: str, tmp_path: Path
):
    manifest = read_manifest(Store(other_url))
    shards = {}
    for name, shard in manifest.shards.items():
        path = Path(f"{other_url}/clips/{name}.parquet")
        table = pq.read_table(path)
        table = table.append_column("codec", pa.array(["h264"] * len(table)))
        pq.write_table(table.append_column("static", pa.array([0.5] * len(table))), path)
        shards[name] = replace(shard, sha256=sha256_of(path.read_bytes()))
    write_manifest(Store(other_url), replace(manifest, shards=shards))
    combine([dataset_url, other_url], f"{tmp_path}/merged")
    clips = Dataset(f"{tmp_path}/merged").clips
    assert clips["codec"].to_pylist() == [None] * 5 + ["h264"] * 5
    assert clips["static"].to_pylist() == [None] * 5 + [0.5] * 5
