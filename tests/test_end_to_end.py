"""From encoded video files to resumed training, as a stranger would check it."""

import gc
import io
import json
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import webdataset

from flow_cache import FlowSpec, read_header
from fluxshard.demo.truth import true_flow
from fluxshard.main import main
from fluxshard.report.accuracy import score_layer
from fluxshard.report.gallery import Gallery
from pipeline.records import Reject
from pipeline.source.clip_frames import read_clips
from shards import Dataset, ShardReader, decode_clip, verify
from trainer.codec.pixels import to_signal
from trainer.config import FlowLossConfig
from trainer.stream.batch import FlowTargets
from trainer.terms.flowloss import FlowLoss
from trainer.terms.layers import live_estimator
from trainer.terms.term import Step

FRAMES = 9
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def dataset(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = str(tmp_path_factory.mktemp("end-to-end") / "dataset")
    options = ["--size=96x128", f"--frames={FRAMES}", "--fps=12", "--flow=variational,dis"]
    assert main(["build", *demo_videos, out, *options, "--clips-per-shard=8"]) == 0
    return Dataset(out)


def test_the_dataset_verifies(dataset: Dataset):
    assert list(verify(dataset.store)) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_opens_all_tars_and_plain_pyav_decodes_every_clip(dataset: Dataset):
    flow = [f"flow/{layer}" for layer in dataset.manifest.layers]
    for folder in ("clips", *flow):
        places = [dataset.place(folder, shard) for shard in dataset.shards]
        urls = [store.at(f"{stem}.tar") for store, stem in places]
        samples = list(webdataset.WebDataset(urls, shardshuffle=False))
        assert [sample["__key__"] for sample in samples] == dataset.clips["key"].to_pylist()
        for sample in samples:
            if folder == "clips":
                with av.open(io.BytesIO(sample["mp4"]), "r") as container:
                    assert sum(1 for _ in container.decode(video=0)) == FRAMES
                assert json.loads(sample["json"])["caption"] == sample["txt"].decode()
            else:
                assert sample["flow"].startswith(b"FXF2")
    gc.collect()  # webdataset leaves its files open; the warnings belong to this test


def test_pyramid_stages_decode_bit_equal_frames(dataset: Dataset):
    reader = ShardReader(dataset)
    for row in range(len(dataset.clips)):
        video = reader.member(row, "mp4")
        full = decode_clip(video)
        for stride in (2, 4):
            assert (decode_clip(video, stride=stride) == full[::stride]).all()


@pytest.mark.parametrize(("layer", "most_px"), [("variational", 0.3), ("dis", 0.4)])
def test_stored_flow_is_near_the_truth(dataset: Dataset, layer: str, most_px: float):
    """The bounds hold at about twice what was measured; objects here are small and fast."""
    gallery = Gallery(dataset, layer)
    scores = score_layer(gallery, range(0, len(gallery), 3), true_flow).total
    assert scores[1].end_point_error < most_px
    assert scores[1].end_point_error < scores[4].end_point_error < 4 * most_px


def floor_of(loss: FlowLoss, frames: torch.Tensor, targets: FlowTargets) -> float:
    """What a clip's own frames cost."""
    clean, levels = to_signal(frames)[None], torch.ones(1, len(frames))
    step = Step(clean=clean, levels=levels, targets=targets, true=frames[None])
    return loss.bounds(step)["flow_floor"].item()


def test_source_frames_cost_flowloss_only_the_quantiser_s_share(dataset: Dataset):
    """And the stored clip costs more: its compression moves the flow. That is the loss's floor."""
    layer = dataset.layer("variational")
    spec = FlowSpec.from_json(layer.spec)
    loss = FlowLoss(FlowLossConfig(), live_estimator(spec, FlowLossConfig()))
    gallery, reader = Gallery(dataset, "variational"), ShardReader(dataset, layer)
    slots = torch.tensor([[i, i + 1] for i in range(FRAMES - 1)])
    rows = range(0, len(gallery), 4)
    clips = [gallery.clip(row) for row in rows]
    for row, source in zip(rows, read_clips(clips), strict=True):
        assert not isinstance(source, Reject), source
        view = gallery.view(row)
        fields = [view.fields[i, j] for i, j in slots.tolist()]
        targets = FlowTargets(
            rows=torch.tensor([0]),
            slots=slots[None],
            hops=torch.ones(1, len(slots), dtype=torch.int64),
            flow=torch.cat([field.flow for field in fields])[None],
            visible=torch.cat([field.visible for field in fields])[None],
        )
        floor = {
            name: floor_of(loss, torch.from_numpy(frames.copy()), targets)
            for name, frames in (("source", source), ("stored", view.frames))
        }
        blobs = reader.fields(row, [(i, j) for i, j in slots.tolist()])
        bounds = np.array([read_header(blob).max_error_px for blob in blobs])
        assert floor["source"] <= 2 * np.square(bounds).mean()
        assert 4 * floor["source"] < floor["stored"]


def test_the_readme_s_example_runs(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    (tmp_path / "dataset").symlink_to(dataset.url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["frames"].shape == (FRAMES // 2 + 1, 3, 96, 128)
    assert names["flow"].shape == (2, 96, 128)


def test_training_resumes_with_the_same_losses(dataset: Dataset, tmp_path: Path):
    def train(out: str, steps: int) -> list[dict]:
        options = ["--preset=tiny", f"--clips={2 * steps}", "--checkpoint-clips=4"]
        options += ["--device=cpu", "--model.dim=48", "--stream.batch=2", "--flow-loss.psi=2"]
        assert main(["train", "--data", dataset.url, "--out", str(tmp_path / out), *options]) == 0
        lines = (tmp_path / out / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def losses(lines: list[dict]) -> list[tuple]:
        return [(line["step"], line["loss"], line["recon"], line["flow_loss"]) for line in lines]

    whole = train("whole", 6)
    train("halves", 2)
    assert losses(train("halves", 6)) == losses(whole)
    assert any(line["flow_loss"] > 0 for line in whole)
    assert {line["stage"] for line in whole} >= {1, 2}
