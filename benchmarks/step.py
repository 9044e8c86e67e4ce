"""What the temporal pyramid and FlowLoss cost a training step, data included.

    python benchmarks/step.py --data FOLDER [--rounds 3] [--steps 12] [--json rows.json]
    python benchmarks/step.py --dataset DATASET ...

FOLDER's videos are built into a dataset at 64x96 with flow of `variational`. The ways take turns;
all figures are processor time of all threads, which holds on a machine that does other things too.

`pyramid`: steps of a run with three stages, each as often (`odds equal`), over those of a run at
full rate: all that `train` does, from reading clips to the optimizer. The network alone would cost
(1 + 1/2 + 1/4)/3 = 0.583 where it is linear in frames.

`flowloss`: FlowLoss of one batch with its gate open, forward and backward, with flow from the
dataset (read and decoded too), over the same with both sides estimated; and with its gate closed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from flow_accuracy import machine

from flow_cache import load_estimator
from shards import Dataset
from trainer import (
    Batch,
    FlowLossConfig,
    FluxFlowConfig,
    ModelConfig,
    PyramidConfig,
    Source,
    Stream,
    StreamConfig,
    TrainConfig,
    TrainRecipe,
    to_unit,
    train,
)
from trainer.stream.assemble import Part
from trainer.stream.fill import FlowRequest, answer_pairs, fill
from trainer.terms.flowloss import FlowLoss
from trainer.terms.term import Step

Row = dict[str, Any]
CONFIG = TrainConfig(
    device="cpu",
    checkpoint_clips=40_000,
    stream=StreamConfig(frames=16, batch=4, threads=1, window=1),
    fluxflow=FluxFlowConfig(mode="off"),
    flow_loss=FlowLossConfig(weight=0.0),
    model=ModelConfig(dim=192, depth=4, heads=6, patch=8),
)


def cost(work: Callable[[], Any]) -> float:
    """Processor seconds."""
    began = time.process_time()
    work()
    return time.process_time() - began


def step_seconds(data: str, pyramid: PyramidConfig, steps: int) -> float:
    """Processor time of a step: that of a run of so many, less that of a run of one."""
    seconds = []
    for count in (steps + 1, 1):
        config = replace(CONFIG, clips=4 * count, pyramid=pyramid)
        with tempfile.TemporaryDirectory() as out:
            seconds.append(cost(partial(train, data, out, config)))
    return (seconds[0] - seconds[1]) / steps


def pyramid_rows(data: str, rounds: int, steps: int) -> list[Row]:
    """A full-rate step, each stage's, and their mean."""
    ways = {"full rate": PyramidConfig(enabled=False), "three stages": PyramidConfig(odds="equal")}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, pyramid in ways.items():
            found[way].append(step_seconds(data, pyramid, steps))
    medians = {way: statistics.median(values) for way, values in found.items()}
    return [
        {"what": "pyramid", "way": way, "ms": 1000 * ms, "ratio": ms / medians["full rate"]}
        for way, ms in medians.items()
    ]


def flowloss_rows(data: str, rounds: int) -> list[Row]:
    """FlowLoss of a batch whose pairs all pass the gate, and of one where none does."""
    dataset = Dataset(data)
    layer = dataset.layer("variational")
    estimator = load_estimator("variational")
    config = FlowLossConfig(weight=1.0, psi=1e9)
    plain = replace(CONFIG, pyramid=PyramidConfig(enabled=False), flow_loss=config)
    source = Source(dataset=dataset, layer=layer)
    ways: dict[str, list[float]] = {way: [] for way in ("stored", "both live", "gate closed")}
    stream = Stream(source, plain.stream, TrainRecipe(plain), seed=0)
    loss = FlowLoss(config, estimator)
    closed = FlowLoss(replace(config, psi=0.0), estimator)
    for number in range(rounds + 1):
        batch, parts = stream.prepare(number * plain.stream.batch)  # in this thread: none beside it
        for part in parts:
            fill(part.request, part.found.samples.reader)
        read = cost(partial(read_flow, parts))
        steps = [restored(batch) for _ in range(3)]  # by a network, which is not measured here
        ways["stored"].append(read + cost(partial(backward, steps[0], loss)))
        both = cost(partial(live, batch, loss)) + cost(partial(backward, steps[1], loss))
        ways["both live"].append(both)
        ways["gate closed"].append(cost(partial(backward, steps[2], closed)))
    medians = {way: statistics.median(values[1:]) for way, values in ways.items()}
    return [
        {"what": "flowloss", "way": way, "ms": 1000 * ms, "ratio": ms / medians["both live"]}
        for way, ms in medians.items()
    ]


def read_flow(parts: Sequence[Part]) -> None:
    """The flow of a batch once more, from its bytes on disk."""
    for part in parts:
        wanted = part.request.flow
        assert isinstance(wanted, FlowRequest)
        reader = part.found.samples.reader
        answer_pairs(wanted, reader.fields(part.request.row, wanted.supervision.fields))


def restored(batch: Batch) -> Step:
    """A batch as a network would have restored it: with some noise left."""
    generator = torch.Generator().manual_seed(0)
    clean = batch.clean()
    clean = (clean + 0.1 * torch.randn(clean.shape, generator=generator)).requires_grad_()
    assert batch.levels is not None
    return Step(
        clean=clean,
        levels=batch.levels,
        targets=batch.flow,
        true=batch.frames,
        plans=batch.plans,
        keys=batch.keys,
    )


def backward(step: Step, loss: FlowLoss) -> None:
    """The loss and its gradient."""
    added, _ = loss(step)
    if added.requires_grad:
        added.backward()


@torch.no_grad()
def live(batch: Batch, loss: FlowLoss) -> None:
    """What stored flow saves: the flow of the true clips."""
    frames = to_unit(batch.clean())
    loss.pair(frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1))


def built(videos: Path, folder: Path) -> str:
    """A dataset of the videos of a folder."""
    out = folder / "dataset"
    command = [sys.executable, "-m", "fluxshard", "build", str(videos), str(out)]
    options = ("--size", "64x96", "--frames", "16", "--flow", "variational", "--levels", "1")
    subprocess.run([*command, *options], check=True)
    return str(out)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--data", type=Path, help="folder with videos")
    given.add_argument("--dataset", help="a dataset with a `variational` layer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        data = asked.dataset or built(asked.data, Path(folder))
        rows = [*pyramid_rows(data, asked.rounds, asked.steps), *flowloss_rows(data, asked.rounds)]
    print(machine())
    for row in rows:
        print(f"{row['what']:10} {row['way']:14} {row['ms']:9.1f} ms   {row['ratio']:.3f}")
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    return rows


if __name__ == "__main__":
    main()
