"""Other people's readers open our shards as they are, and give the bytes that were written."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import webdataset

from shards.foreign.write import write_index
from shards.index import Dataset
from shards.reader import ShardReader
from tests.shards.conftest import PAIRS

Samples = list[dict[str, Any]]
PARTS = ("mp4", "json", "txt")


def written(url: str) -> dict[str, dict[str, bytes]]:
    """The members of each clip, by its key."""
    reader = ShardReader(Dataset(url))
    return {
        reader.value(row, "key"): {part: reader.member(row, part) for part in PARTS}
        for row in range(len(reader.dataset))
    }


def tars(url: str, folder: str = "clips") -> list[str]:
    return sorted(map(str, Path(url, folder).glob("*.tar")))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_clips_and_flow_in_their_order(dataset_url: str):
    found = webdataset.WebDataset(tars(dataset_url), shardshuffle=False)
    members = {one["__key__"]: {part: one[part] for part in PARTS} for one in found}
    assert list(members.items()) == list(written(dataset_url).items())
    layer = Dataset(dataset_url).layer()
    reader = ShardReader(Dataset(dataset_url), layer)
    flow = webdataset.WebDataset(tars(dataset_url, f"flow/{layer.name}"), shardshuffle=False)
    blobs = {one["__key__"]: one["flow"] for one in flow}
    assert list(blobs) == list(members)
    assert [*blobs.values()] == [b"".join(reader.fields(row, PAIRS)) for row in range(len(blobs))]
    gc.collect()  # webdataset 1.0 leaves its files open; the warnings belong to this test


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hugging Face's `datasets`, which asks no server and keeps nothing."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    return pytest.importorskip("datasets")


@pytest.mark.filterwarnings("ignore")  # of theirs
def test_hugging_face_streams_all_samples_in_their_order(dataset_url: str, hub: Any):
    found = hub.load_dataset(
        "webdataset", data_files={"train": tars(dataset_url)}, split="train", streaming=True
    )
    assert {"mp4", "txt", "json"} < found.features.keys()
    expected = written(dataset_url)
    samples = list(found.decode(False))
    assert [one["__key__"] for one in samples] == [*expected]
    for one in samples:
        members = expected[one["__key__"]]
        assert one["mp4"]["bytes"] == members["mp4"]
        assert one["txt"] == members["txt"].decode()


@pytest.fixture
def energon_keys() -> Callable[[str, str], Iterator[tuple[str, bytes]]]:
    """`energon_keys(folder, part)`: key and part of each sample that Megatron-Energon gives."""
    energon: Any = pytest.importorskip("megatron.energon")

    class Plain(energon.DefaultTaskEncoder):
        decoder = None
        cookers = (energon.Cooker(energon.stateless(lambda sample: sample)),)

        def batch(self, samples: Samples) -> Samples:
            return samples

    def read(folder: str, part: str) -> Iterator[tuple[str, bytes]]:
        dataset = energon.get_train_dataset(
            folder,
            batch_size=2,
            shuffle_buffer_size=None,
            max_samples_per_sequence=None,
            worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=0),
            task_encoder=Plain(),
            repeat=False,
        )
        for batch in energon.get_loader(dataset):
            yield from ((one["__key__"], one[part]) for one in batch)

    return read


@pytest.mark.filterwarnings("ignore")  # of theirs
def test_energon_opens_clips_and_flow_with_the_index_that_we_write(dataset_url: str, energon_keys):
    dataset = Dataset(dataset_url)
    write_index(dataset, "energon")
    clips = dict(energon_keys(f"{dataset_url}/clips", "mp4"))
    assert clips == {key: members["mp4"] for key, members in written(dataset_url).items()}
    flow = dict(energon_keys(f"{dataset_url}/flow/{dataset.layer().name}", "flow"))
    assert flow.keys() == clips.keys()


def test_dali_reads_clips_with_the_index_that_we_write(dataset_url: str):
    dali: Any = pytest.importorskip("nvidia.dali")
    write_index(Dataset(dataset_url), "dali")
    paths = tars(dataset_url)

    @dali.pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def pipeline() -> Any:
        indexes = [str(Path(path).with_suffix(".idx")) for path in paths]
        read = dali.fn.readers.webdataset(paths=paths, index_paths=indexes, ext=[*PARTS])
        return tuple(read)

    expected = written(dataset_url)
    built = pipeline()
    built.build()
    samples = [[bytes(part.at(0)) for part in built.run()] for _ in expected]
    assert samples == [[members[part] for part in PARTS] for members in expected.values()]


def test_the_index_for_dali_is_that_of_its_own_tool(dataset_url: str, tmp_path: Path):
    tool: Any = pytest.importorskip("wds2idx")
    dataset = Dataset(dataset_url)
    write_index(dataset, "dali")
    for folder in ("clips", f"flow/{dataset.layer().name}"):
        for path in tars(dataset_url, folder):
            with tool.IndexCreator(path, str(tmp_path / "idx"), verbose=False) as creator:
                creator.create_index()
            assert Path(path).with_suffix(".idx").read_bytes() == (tmp_path / "idx").read_bytes()


def test_webshart_reads_clips_with_the_index_that_we_write(dataset_url: str):
    webshart: Any = pytest.importorskip("webshart")
    write_index(Dataset(dataset_url), "webshart")
    loader = webshart.TarDataLoader(webshart.discover_dataset(f"{dataset_url}/clips"))
    entries = {entry.path: entry for entry in loader if entry.path.endswith(".mp4")}
    expected = written(dataset_url)
    assert {path: bytes(entry.data) for path, entry in entries.items()} == {
        f"{key}.mp4": members["mp4"] for key, members in expected.items()
    }
    texts = {f"{key}.mp4": members["txt"].decode() or None for key, members in expected.items()}
    assert {path: entry.captions for path, entry in entries.items()} == texts
