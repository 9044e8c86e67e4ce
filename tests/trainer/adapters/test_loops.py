"""The stream in the loops of Accelerate and Lightning: every sample once, no second dealing out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.state import AcceleratorState, GradientState
from torch.utils.data import DataLoader

from tests.trainer.adapters.test_loaders import item_keys, keys_of, take
from trainer.adapters.loaders import Epochs, FinetrainersStream, Items
from trainer.adapters.samples import videox_fun

REPOSITORY = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.filterwarnings("ignore")  # of theirs


@pytest.fixture(autouse=True)
def accelerator() -> Iterator[Accelerator]:
    """One process; its singletons end with the test."""
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def test_accelerate_leaves_epochs_and_the_stream_as_they_are(accelerator, open_stream):
    epochs = Epochs(open_stream(), keys_of, 3)
    model = torch.nn.Linear(1, 1)
    _, prepared, stream = accelerator.prepare(model, epochs, epochs.stream)
    assert prepared is epochs
    assert stream is epochs.stream


def test_accelerate_checkpoints_hold_the_place_in_the_stream(
    accelerator, open_stream, tmp_path: Path
):
    whole = [batch.keys for batch in take(open_stream(), 4)]
    epochs = Epochs(open_stream(), keys_of, 2)
    accelerator.register_for_checkpointing(epochs)
    assert list(epochs) == whole[:2]
    accelerator.save_state(str(tmp_path))
    assert list(epochs) == whole[2:]
    accelerator.load_state(str(tmp_path))
    assert list(epochs) == whole[2:]


def test_accelerate_deals_items_out_once(open_stream):
    items = Items(open_stream(), item_keys, 6)
    found = [
        list(
            prepare_data_loader(
                DataLoader(items, collate_fn=lambda one: one[0]),
                num_processes=2,
                process_index=rank,
                put_on_device=False,
            )
        )
        for rank in (0, 1)
    ]
    assert found == [[items[n] for n in range(rank, 6, 2)] for rank in (0, 1)]


def test_accelerate_deals_out_the_whole_stream_that_each_rank_of_finetrainers_has(open_stream):
    whole = [batch.captions[0] for batch in take(open_stream(1), 6)]
    for rank in (0, 1):
        loader = prepare_data_loader(
            DataLoader(FinetrainersStream(open_stream(1)), batch_size=1),
            num_processes=2,
            process_index=rank,
            put_on_device=False,
            dispatch_batches=False,
        )
        assert [caption for one in take(loader, 3) for caption in one["caption"]] == whole[rank::2]


@pytest.mark.parametrize(
    "how",
    [{}, {"num_processes": 2, "process_index": 0, "dispatch_batches": False}],
    ids=["rank 0 deals out", "each rank takes its share"],
)
def test_accelerate_refuses_a_data_loader_of_a_stream_at_its_first_batch(open_stream, how: dict):
    """It would deal out what is dealt out already: half of the samples would be seen by nobody."""
    loader = DataLoader(open_stream(2, 0, 2), batch_size=None)
    with pytest.raises(TypeError):
        next(iter(prepare_data_loader(loader, put_on_device=True, **how)))


TWO_PROCESSES = """
import sys
from accelerate import Accelerator
from torch.utils.data import DataLoader
from shards import Dataset
from trainer import Epochs, PlainRecipe, Stream, StreamConfig

accelerator = Accelerator(cpu=True)
rank, ranks = accelerator.process_index, accelerator.num_processes

def open_stream(rank, ranks):
    config = StreamConfig(frames=9, batch=2, threads=1)
    return Stream(Dataset(sys.argv[1]), config, PlainRecipe(9), seed=0, rank=rank, ranks=ranks)

whole = list(Epochs(open_stream(0, 1), lambda batch: batch.keys, 4))
epochs = accelerator.prepare(Epochs(open_stream(rank, ranks), lambda batch: batch.keys, 2))
accelerator.register_for_checkpointing(epochs)
assert list(epochs) == [keys[rank::ranks] for keys in whole[:2]]
accelerator.save_state(sys.argv[2])
for _ in range(2):
    assert list(epochs) == [keys[rank::ranks] for keys in whole[2:]]
    accelerator.load_state(sys.argv[2])
try:
    next(iter(accelerator.prepare(DataLoader(open_stream(rank, ranks), batch_size=None))))
except (TypeError, RuntimeError):  # the second is of the rank that waits for the first
    print("refused", flush=True)
"""


@pytest.mark.drill
def test_two_processes_of_accelerate_share_a_stream_once(made, tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    ended = subprocess.run(
        [sys.executable, *launch, made.dataset.url, str(tmp_path / "state")],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert ended.stdout.count("refused") == 2, ended.stderr


def test_lightning_trains_on_epochs_and_goes_on_in_the_next(open_stream):
    lightning: Any = _lightning()

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen: list[tuple[str, ...]] = []

        def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
            self.seen.append(tuple(batch["text"]))
            return (self.weight - batch["pixel_values"].mean()).square().sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", **dict.fromkeys(quiet, False))
    model = Model()
    trainer.fit(model, Epochs(open_stream(), lambda b: videox_fun(b, text_drop_ratio=0), 2))
    assert model.seen == [batch.captions for batch in take(open_stream(), 4)]


def _lightning() -> Any:
    if find_spec("lightning") is None:
        pytest.skip("Lightning is not installed")
    from flow_cache.estimators.network import import_torchvision

    import_torchvision()  # which Lightning imports, and which does not load beside every torch
    return import_module("lightning.pytorch")
