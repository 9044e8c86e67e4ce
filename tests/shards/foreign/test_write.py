"""What `fluxshard index` writes lies beside the tars, and changes nothing of the dataset."""

import json
from pathlib import Path

import pytest

from shards.foreign.write import SUFFIXES, Reader, write_index
from shards.index import Dataset
from shards.merge import merge
from shards.store import Store, UsageError
from shards.verify import verify

LAYER = "flow/toy-0123456789ab"


@pytest.mark.parametrize("reader", SUFFIXES)
def test_each_tar_has_its_file_and_the_dataset_stays_as_it_is(dataset_url: str, reader: Reader):
    store = Store(dataset_url)
    before = {name: store.read(name) for name in store.files()}
    names = write_index(Dataset(dataset_url), reader)
    assert sorted({*before, *names}) == store.files()
    assert not {*before} & {*names}
    assert {name: store.read(name) for name in before} == before
    assert list(verify(store)) == []
    beside = {f"{f}/{s}{SUFFIXES[reader]}" for f in ("clips", LAYER) for s in ("000000", "000001")}
    assert {name for name in names if ".nv-meta" not in name} == beside
    assert write_index(Dataset(dataset_url), reader) == names  # again, over them


def test_webshart_learns_the_true_size_of_the_tar(dataset_url: str):
    write_index(Dataset(dataset_url), "webshart")
    found = json.loads(Path(dataset_url, "clips", "000001.json").read_bytes())
    assert found["filesize"] == Path(dataset_url, "clips", "000001.tar").stat().st_size
    video = found["files"]["clip-1-1.mp4"]
    tar = Path(dataset_url, "clips", "000001.tar").read_bytes()
    assert tar[video["offset"] - 512 :].startswith(b"clip-1-1.mp4\0")
    assert (video["width"], video["height"], video["captions"]) == (64, 48, "caption 1")


def test_a_merged_dataset_is_refused_by_naming_its_parts(make_dataset, tmp_path: Path):
    parts = [make_dataset("one"), make_dataset("two")]
    merge([Store(part) for part in parts], Store(tmp_path / "merged"))
    with pytest.raises(UsageError, match=r"merged.*one.*two"):
        write_index(Dataset(str(tmp_path / "merged")), "dali")


@pytest.mark.parametrize("reader", SUFFIXES)
def test_a_shard_all_of_whose_clips_were_refused_is_left_out(dataset_url: str, reader: Reader):
    dataset = Dataset(dataset_url)
    dataset.__dict__["shard_rows"] = (3, 0)
    names = write_index(dataset, reader)
    assert not any("000001" in name for name in names)
    if reader == "energon":
        found = json.loads(dataset.store.read("clips/.nv-meta/.info.json"))
        assert found == {"shard_counts": {"000000.tar": 3}}
