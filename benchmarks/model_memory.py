"""How much memory training a preset's network takes, counted on shapes alone.

`python benchmarks/model_memory.py` runs training steps on tensors without storage (torch's
FakeTensorMode) while torch's MemTracker adds up what lives: weights, their average, AdamW's state,
gradients, all that the backward pass keeps, and what is in use for a moment. The peak is that of a
second step. Kernels are those of a CPU, whose attention keeps what flash attention does; FlowLoss,
of every pair of every clip, is counted beside it. A context of CUDA and fragmentation come on top,
which is why a tenth of a card is left free. `--check` counts small networks, trains them here in a
process each (on Linux), and compares with how much that process grew. With a GPU, `--check`
measures there, at the full size.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.optim.swa_utils import AveragedModel

from trainer import PRESETS
from trainer.config import FlowLossConfig, ModelConfig
from trainer.model.transformer import SpaceTimeTransformer

GIB, FREE = 2**30, 0.9
CARDS = (24, 80)  # GiB


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A training step.

    Attributes:
        bf16: autocast to bfloat16, as on a GPU.
    """

    model: ModelConfig
    batch: int
    frames: int
    size: tuple[int, int]
    bf16: bool

    @property
    def name(self) -> str:
        """For the table."""
        kept = "checkpointing" if self.model.checkpointing else "all kept"
        return f"{'bf16' if self.bf16 else 'fp32'}, {kept}"


class Training:
    """A network, its average and its optimizer, after a step that made the optimizer's state."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        with torch.device(device):
            self.model = SpaceTimeTransformer(case.model)
        self.average = AveragedModel(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Forward, backward and update."""
        case = self.case
        shape = (case.batch, case.frames, 3, *case.size)
        clips = torch.zeros(shape, device=self.device)
        levels = torch.zeros(shape[:2], device=self.device)
        time = torch.arange(float(case.frames), device=self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=case.bf16):
            answer = self.model(clips, levels, time)
        (answer.float() - clips).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def counted(case: Case) -> dict[str, float]:
    """GiB at the peak of a step, by what they are for, and their sum as `Total`."""
    with FakeTensorMode():
        training, tracker = Training(case, "cpu"), MemTracker()
        tracker.track_external(training.model, training.average, training.optimizer)
        with tracker:
            training.step()
        (peak,) = tracker.get_tracker_snapshot("peak").values()
    return {str(kind).rpartition(".")[2]: size / GIB for kind, size in peak.items()}


def counted_flow_loss(case: Case, estimator: str) -> float:
    """GiB that FlowLoss of all of a clip's neighbours takes, beside the network's."""
    from flowloss import one_call, problem

    from flow_cache.estimators import load_estimator
    from trainer.terms.flowloss import FlowLoss

    loss = FlowLoss(FlowLossConfig(weight=1.0), load_estimator(estimator))
    given = problem(1, case.frames, case.size, "meta")
    one_call(loss, *given)  # uploads constants
    tracker = MemTracker()
    with tracker:
        one_call(loss, *given).backward()
    return tracker.get_tracker_snapshot("peak")[torch.device("meta")]["Total"] / GIB


def measured(case: Case) -> float:
    """GiB that a process grows by at most while it trains; on a GPU, that its allocator holds."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        training = Training(case, "cuda")
        training.step()
        return torch.cuda.max_memory_allocated() / GIB
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # of glibc: what is freed goes back at once
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_growth, (case,))


def _growth(case: Case) -> float:
    torch.set_num_threads(1)
    Training(replace(case, batch=1, frames=1), "cpu").step()  # loads what kernels there are
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew, on Linux
    before = _status("VmRSS")
    training = Training(case, "cpu")
    training.step()
    return (_status("VmHWM") - before) / GIB


def _status(name: str) -> int:
    """Bytes, as Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def cases(base: Case, batches: Sequence[int]) -> list[Case]:
    """Both precisions, with and without checkpointing, at each batch."""
    return [
        replace(base, batch=n, bf16=bf16, model=replace(base.model, checkpointing=checkpointing))
        for bf16, checkpointing, n in product((False, True), (False, True), batches)
    ]


def most_clips(peaks: dict[int, float], card: float, beside: float = 0.0) -> int:
    """Clips of a batch that fit a card: memory is a straight line over the batch.

    Args:
        beside: GiB that a clip takes besides the network's.
    """
    (few, low), (many, high) = sorted(peaks.items())[0], sorted(peaks.items())[-1]
    each = (high - low) / (many - few)
    fixed = low - few * each
    return max(0, int((FREE * card - fixed) / (each + beside)))


def table(base: Case, batches: Sequence[int], estimator: str) -> list[dict[str, Any]]:
    """Counts every case, and prints it."""
    beside = counted_flow_loss(base, estimator)
    rows, peaks = [], dict[str, dict[int, float]]()
    for case in cases(base, batches):
        peak = counted(case)
        peaks.setdefault(case.name, {})[case.batch] = peak["Total"]
        rows.append({"case": case.name, "batch": case.batch, "GiB": peak})
    heads = "".join(f"{f'batch {n}':>10}" for n in batches)
    cards = "".join(f"{f'{card} GB':>10}" for card in CARDS)
    print(f"{'GiB at the peak':24}{heads}   most clips on{cards}")
    for name, found in peaks.items():
        most = "".join(f"{most_clips(found, card, beside):10}" for card in CARDS)
        print(f"{name:24}" + "".join(f"{found[n]:10.1f}" for n in batches) + " " * 16 + most)
    print(f"FlowLoss by {estimator}, {beside:.2f} GiB a clip, is in the numbers of clips")
    return [*rows, {"case": f"FlowLoss by {estimator}, a clip", "GiB": beside}]


def check(base: Case) -> list[dict[str, Any]]:
    """Counts and measures some steps, and prints both."""
    rows = []
    print(f"\n{'GiB':24}{'counted':>10}{'measured':>10}{'ratio':>8}")
    for case in cases(base, (base.batch,)):
        count, real = counted(case)["Total"], measured(case)
        rows.append({"case": asdict(case), "counted": count, "measured": real})
        print(f"{case.name:24}{count:10.2f}{real:10.2f}{real / count:8.2f}")
    return rows


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and print its tables."""
    from flow_accuracy import machine

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--size", default="256x384", help="HxW")
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--estimator", default="variational", help="of FlowLoss")
    parser.add_argument("--check", action="store_true", help="also measure")
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    config = PRESETS[options.preset]()
    height, width = map(int, options.size.split("x"))
    batches = [int(n) for n in options.batches.split(",")]
    base = Case(
        model=config.model,
        batch=max(batches),
        frames=config.stream.frames,
        size=(height, width),
        bf16=False,
    )
    weights = sum(p.numel() for p in SpaceTimeTransformer(config.model).parameters())
    print(
        f"{machine()}\nnetwork of preset {options.preset}: {weights / 1e6:.1f} M weights,", end=""
    )
    print(f" {config.stream.frames} frames, {options.size}\n")
    result: dict[str, Any] = {
        "machine": machine(),
        "counted": table(base, batches, options.estimator),
    }
    if options.check:
        small = replace(config.model, dim=96, depth=4, heads=3)
        tiny = replace(base, model=small, batch=2, size=(128, 192))
        result["check"] = check(base if torch.cuda.is_available() else tiny)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
