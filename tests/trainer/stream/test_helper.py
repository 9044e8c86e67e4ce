"""The stream in a process beside the training: the same batches, and an end with the loop."""

import multiprocessing
import signal
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

import psutil
import pytest
import torch
from torch.utils.data._utils import worker

from shards.manifest import DamagedDataset
from shards.store import UsageError
from tests.trainer.stream.conftest import Index, OpenStream
from trainer.config import StreamConfig, TrainConfig
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import TrainRecipe


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_batches_and_states_are_those_of_this_process(made, config: TrainConfig) -> None:
    source = Source(dataset=made.dataset, layer=made.dataset.layer("variational"))
    before, ways = children(), {}
    for process in ("training", "helper"):
        way = replace(config.stream, process=process)
        stream = Stream(source, way, TrainRecipe(config), seed=config.seed)
        batches = iter(stream)
        found = [(batch, stream.state_dict()) for batch in islice(batches, 5)]
        assert (children() != before) == (process == "helper")
        batches.close()
        assert children() == before
        again = Stream(source, way, TrainRecipe(config), found[2][0].cursor, seed=config.seed)
        batches = iter(again)
        found += [(batch, again.state_dict()) for batch in islice(batches, 2)]
        batches.close()
        facts = stream.totals.facts()
        assert (facts["batches"], facts["clips"]) == (5, 10)
        assert facts["read_MB_per_s"] > 0
        ways[process] = found
    for (ours, state), (theirs, other) in zip(*ways.values(), strict=True):
        assert (ours.keys, ours.captions, state) == (theirs.keys, theirs.captions, other)
        assert torch.equal(ours.levels, theirs.levels)
        assert all(map(torch.equal, ours.pixels(), theirs.pixels()))
        assert {*theirs.seconds} >= {"stall", "transfer", "decode"}


def test_what_ends_the_stream_there_ends_it_here_in_its_own_words(open_stream: OpenStream) -> None:
    index = Index([6])
    index.damaged = {0, 1, 2}
    stream = open_stream(index, batch=6, max_damaged=2, process="helper")
    before = children()  # of tests that ran earlier
    with pytest.raises(DamagedDataset, match=r"^3 samples are damaged, more than"):
        next(iter(stream))
    assert children() == before


def test_it_ends_with_the_loop(open_stream: OpenStream) -> None:
    before = children()
    batches = iter(open_stream(Index([9]), batch=3, process="helper"))
    next(batches)
    assert len([one for one in children() if one not in before]) == 1
    with pytest.raises(KeyboardInterrupt):
        batches.throw(KeyboardInterrupt())
    assert children() == before


def test_it_ends_when_the_training_is_killed(
    open_stream: OpenStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MP_STATUS_CHECK_INTERVAL", 0.2)  # seconds; five as it comes

    def train(tell: Connection) -> None:
        batches = iter(open_stream(Index([9]), batch=3, process="helper"))
        next(batches)
        tell.send([child.pid for child in children()])
        signal.pause()

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    training = context.Process(target=train, args=(there,))
    training.start()
    try:
        assert here.poll(60)
        (helper,) = map(psutil.Process, here.recv())
    finally:
        training.kill()
        training.join(30)
    gone, _ = psutil.wait_procs([helper], timeout=30)
    assert gone or helper.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("name", ["rgb_on", "flow_on"])
def test_what_a_device_decodes_does_not_come_from_a_helper(name: str) -> None:
    settings: dict[str, Any] = {name: "device"}
    with pytest.raises(UsageError, match=r"leave stream\.rgb_on and stream\.flow_on"):
        StreamConfig(process="helper", **settings)
