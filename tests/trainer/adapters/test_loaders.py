"""The stream in the form of other loops: length, state, no sample lost or repeated."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from trainer.adapters.loaders import Epochs, FinetrainersStream, Items, OpenSoraEpochs
from trainer.adapters.samples import cosmos, videox_fun
from trainer.stream.batch import Batch

Found = list[tuple[str, ...]]


def keys_of(batch: Batch) -> tuple[str, ...]:
    return batch.keys


def take(items: Iterable[Any], count: int) -> list[Any]:
    return list(islice(iter(items), count))


def test_epochs_have_a_length_and_go_on_where_the_stream_stands(open_stream):
    whole = [batch.keys for batch in take(open_stream(), 7)]
    epochs = Epochs(open_stream(), keys_of, steps=3)
    assert len(epochs) == 3
    assert [key for _ in range(2) for key in epochs] == whole[:6]
    resumed = Epochs(open_stream(), keys_of, steps=1)
    resumed.load_state_dict(epochs.state_dict())
    assert list(resumed) == whole[6:]


def test_what_a_loop_gets_are_the_pixels_of_the_stored_clip(open_stream):
    stream = open_stream()
    (found,) = Epochs(open_stream(), videox_fun, steps=1)
    (batch,) = take(stream, 1)
    assert torch.equal(found["pixel_values"], batch.frames / 127.5 - 1)
    assert set(found["text"]) <= {*batch.captions, ""}


def open_sora_run(
    loader: OpenSoraEpochs, epochs: int, stop: tuple[int, int] | None = None
) -> Found:
    """Texts in the order of Open-Sora's loop, which asks for a batch before it trains on the last.

    Args:
        stop: epoch and step after which a checkpoint is written and the process is gone.
    """
    seen: Found = []
    start_epoch, start_step = loader._epoch, loader._step
    loader.set_step(start_step)
    for epoch in range(start_epoch, epochs):
        loader.set_epoch(epoch)
        batches = enumerate(iter(loader), start=start_step)
        step_, batch_ = next(batches)
        for _ in range(start_step, len(loader)):
            step, batch = step_, batch_
            if step + 1 < len(loader):
                step_, batch_ = next(batches)
            seen.append(tuple(batch["text"]))
            if (epoch, step) == stop:
                return seen
        loader.reset()
        start_step = 0
    return seen


@pytest.mark.parametrize("stop", [(0, 0), (0, 1), (1, 1)])
def test_open_sora_resumes_after_the_step_that_was_trained_though_it_fetches_ahead(
    open_stream, stop: tuple[int, int]
):
    whole = open_sora_run(OpenSoraEpochs(open_stream(), 3), 2)
    assert len(whole) == 6
    assert len({text for texts in whole[:3] for text in texts}) == 6  # three batches of two clips
    loader = OpenSoraEpochs(open_stream(), 3)
    before = open_sora_run(loader, 2, stop)
    again = OpenSoraEpochs(open_stream(), 3)
    again.load_state_dict(loader.state_dict(stop[1] + 1))
    assert before + open_sora_run(again, 2) == whole


def item_keys(batch: Batch) -> str:
    return batch.keys[0]


def test_items_are_the_samples_of_the_stream_by_number(open_stream):
    whole = [key for batch in take(open_stream(), 3) for key in batch.keys]
    items = Items(open_stream(), item_keys, 6)
    assert len(items) == 6
    assert [items[n] for n in range(6)] == whole
    for number in (-1, 6):
        with pytest.raises(IndexError, match=f"sample {number} of 6"):
            items[number]


def test_items_are_dealt_out_by_the_samplers_of_diffsynth_and_cosmos(open_stream):
    items = Items(open_stream(), item_keys, 6)
    whole = [items[n] for n in range(6)]
    for workers in (0, 1):
        theirs = DataLoader(
            items, shuffle=True, collate_fn=lambda found: found[0], num_workers=workers
        )
        assert sorted(theirs) == sorted(whole)
    assert items.load_from_cache is False
    shares = [
        list(DataLoader(items, batch_size=None, sampler=DistributedSampler(items, 2, rank, False)))
        for rank in (0, 1)
    ]
    assert shares == [whole[::2], whole[1::2]]


def test_cosmos_collates_items(open_stream):
    items = Items(open_stream(), lambda one: cosmos(one, fps=12), 4)
    batch = next(iter(DataLoader(items, batch_size=2)))
    assert (batch["video"].shape, batch["video"].dtype) == ((2, 3, 9, 48, 64), torch.uint8)
    assert batch["ai_caption"] == [caption for n in (0, 1) for caption in items.stream[n].captions]


def test_finetrainers_gets_one_sample_at_a_time_and_its_state_resumes(open_stream):
    ranks = [FinetrainersStream(open_stream(2, rank, 2)) for rank in (0, 1)]
    captions = [[one["caption"] for one in take(rank, 4)] for rank in ranks]
    whole = [batch.captions for batch in take(open_stream(), 4)]
    assert list(zip(*captions, strict=True)) == whole
    again = FinetrainersStream(open_stream(2, 1, 2))
    again.load_state_dict(ranks[0].state_dict())
    (following,) = take(open_stream(2, 0, 1), 5)[4:]
    assert [one["caption"] for one in take(again, 1)] == [following.captions[1]]
    loader = DataLoader(FinetrainersStream(open_stream(1)), batch_size=1)
    batch = next(iter(loader))
    assert batch["video"].shape == (1, 9, 3, 48, 64)
    assert batch["caption"] == [whole[0][0]]
