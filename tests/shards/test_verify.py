"""Every byte of every file is covered: whichever is flipped, its member or file is named."""

import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from shards.manifest import read_manifest
from shards.store import Store
from shards.verify import check_commit, verify
from shards.writer import shard_tar, write_table


def tar_members(path: Path) -> list[tuple[int, int, str]]:
    """(first byte of the header, first byte after the padding, name) of each member."""
    with tarfile.open(path) as tar:
        return [
            (info.offset, info.offset_data + -(-info.size // 512) * 512, info.name) for info in tar
        ]


def test_an_intact_dataset_has_no_problems(dataset_url: str):
    assert list(verify(Store(dataset_url))) == []


@pytest.mark.parametrize("tar", ["clips/000001.tar", "flow/toy-0123456789ab/000000.tar"])
def test_a_flipped_byte_anywhere_in_a_tar_is_found_and_its_member_named(dataset_url: str, tar: str):
    path = Path(dataset_url, tar)
    intact = path.read_bytes()
    members = tar_members(path)
    for position in range(0, len(intact), 11):
        damaged = bytearray(intact)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        problems = list(verify(Store(dataset_url)))
        owner: list[str | None] = [n for start, end, n in members if start <= position < end]
        assert {problem.member for problem in problems} == set(owner or [None]), position
        assert {problem.file for problem in problems} == {tar}
    path.write_bytes(intact)


@pytest.mark.parametrize(
    "name", ["manifest.json", "clips/000000.parquet", "flow/toy-0123456789ab/000001.parquet"]
)
def test_a_flipped_byte_in_an_index_file_is_found(dataset_url: str, name: str):
    path = Path(dataset_url, name)
    intact = path.read_bytes()
    for position in range(0, len(intact), 29):
        damaged = bytearray(intact)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert [problem.file for problem in verify(Store(dataset_url))][:1] == [name], position


def test_a_damaged_field_is_named_by_its_pair(dataset_url: str):
    path = Path(dataset_url, "flow/toy-0123456789ab/000000.tar")
    data = bytearray(path.read_bytes())
    data[512] ^= 1
    path.write_bytes(data)
    assert [str(problem).rpartition(": ")[2] for problem in verify(Store(dataset_url))] == [
        "the data differs from its checksum",
        "flow field 0→1 differs from its checksum",
    ]


@pytest.mark.parametrize("change", [lambda data: data[:-512], lambda data: data + b"\0" * 512])
def test_a_tar_of_another_length_is_found(dataset_url: str, change):
    path = Path(dataset_url, "clips/000000.tar")
    path.write_bytes(change(path.read_bytes()))
    assert [problem.file for problem in verify(Store(dataset_url))] == ["clips/000000.tar"]


@pytest.mark.parametrize("name", ["clips/000000.tar", "clips/000001.parquet"])
def test_a_missing_file_is_found(dataset_url: str, name: str):
    Path(dataset_url, name).unlink()
    assert [str(problem) for problem in verify(Store(dataset_url))] == [
        f"{name}: the file is missing"
    ]


@pytest.mark.parametrize("stem", ["clips/000001", "flow/toy-0123456789ab/000000"])
def test_a_glance_finds_what_cannot_be_the_committed_shard(dataset_url: str, stem: str):
    store, parquet, tar = (
        Store(dataset_url),
        *(Path(dataset_url, f"{stem}.{kind}") for kind in ("parquet", "tar")),
    )
    digest = read_manifest(store).digests[stem]
    index, media = parquet.read_bytes(), tar.read_bytes()
    assert check_commit(store, stem, digest) is None
    assert check_commit(store, stem) is None

    def found(digest: str | None = digest) -> str:
        problem = str(check_commit(store, stem, digest))
        parquet.write_bytes(index)
        tar.write_bytes(media)
        return problem

    tar.unlink()
    assert found() == f"{stem}.tar: the file is missing"
    tar.write_bytes(media[:-512])
    assert (
        found(None)
        == f"{stem}.tar: the file has {len(media) - 512} bytes, {len(media)} were written"
    )
    parquet.unlink()
    assert found() == f"{stem}.parquet: the file is missing"
    parquet.write_bytes(index[:-7])
    assert f"{stem}.parquet: it cannot be read" in found(None)
    parquet.write_bytes(index + b"\0")
    assert "differs from the manifest's digest" in found()


def test_a_glance_knows_the_length_of_an_empty_shard(tmp_path: Path):
    store = Store(tmp_path)
    with shard_tar(store, "clips/000000.tar"):
        pass
    columns = {"txt_offset": pa.array([], "i8"), "txt_size": pa.array([], "i8")}
    write_table(store, "clips/000000.parquet", pa.table(columns))
    assert check_commit(store, "clips/000000") is None
