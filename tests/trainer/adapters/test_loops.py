"""The stream in the loops of Accelerate and Lightning: every sample once, no second dealing out."""

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
