"""What FlowLoss asks of a device: kernels, and how often the host waits; times where there is one.

`python benchmarks/flowloss.py` counts on shapes alone, so it needs no GPU: the loss runs on the
`meta` device, on the way that it takes on any accelerator. A kernel is an operation that writes
numbers (a compiler may join several, cuDNN may need more than one); a wait is a value that the host
reads, or an upload from memory that the device cannot read while the host goes on. Counts are those
of a second call: the first uploads constants. With a GPU it then times forward and backward there,
and without one on the CPU, in processor time.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from flow_cache.estimators import load_estimator
from trainer.config import FlowLossConfig
from trainer.stream.batch import FlowTargets
from trainer.terms.flowloss import FlowLoss
from trainer.terms.term import Step

Row = dict[str, Any]
READS = {"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "nonzero"}
READS |= {"masked_select", "unique", "argwhere", "__contains__"}
UPLOADS = {"new_tensor", "tensor", "as_tensor"}
INDEXES = {"__getitem__", "__setitem__"}


class Kernels(TorchDispatchMode):
    """Counts operations that are not mere views, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = [value.alias_info for value in func._schema.returns]
        if not any(alias is not None and not alias.is_write for alias in returned):
            self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class Waits(TorchFunctionMode):
    """Counts what makes the host wait for a device other than the CPU, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        reads = reading(name, args)
        self.counts[name] += reads
        result = func(*args, **kwargs)
        self.counts[name] += not reads and uploading(name, args, kwargs, result)
        return result


def reading(name: str, args: Sequence[Any]) -> bool:
    """Whether a call reads a value from a device other than the CPU."""
    away = any(torch.is_tensor(x) and x.device.type != "cpu" for x in args)
    return away and (
        name in READS or (name in INDEXES and any(x.dtype == torch.bool for x in _index(args)))
    )


def uploading(name: str, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> bool:
    """Whether a call uploads values to a device other than the CPU and waits for it."""
    away = any(torch.is_tensor(x) and x.device.type != "cpu" for x in args)
    made = torch.is_tensor(result) and result.device.type != "cpu"
    if name in INDEXES:  # by numbers that lie on the host
        return away and any(x.device.type == "cpu" for x in _index(args))
    if name == "to":
        return made != away and not kwargs.get("non_blocking", False)
    return made and name in UPLOADS


def _index(args: Sequence[Any]) -> list[Tensor]:
    """The tensors and lists that an indexing call indexes by."""
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    return [torch.as_tensor(x) for x in index if torch.is_tensor(x) or isinstance(x, list)]


def problem(
    samples: int, frames: int, size: tuple[int, int], device: str
) -> tuple[Tensor, Tensor, FlowTargets]:
    """Clips on a device, levels on the host, and targets of all neighbours of all samples."""
    generator = torch.Generator().manual_seed(0)
    slots = torch.stack([torch.arange(frames - 1), torch.arange(1, frames)], -1)
    shape = (samples, frames - 1)
    clips = torch.rand(samples, frames, 3, *size, generator=generator).sub(0.5).to(device)
    targets = FlowTargets(
        rows=torch.arange(samples),
        slots=slots.expand(samples, -1, -1),
        hops=torch.ones(shape, dtype=torch.int64),
        flow=torch.zeros(*shape, 2, *size),
        visible=torch.ones(*shape, *size, dtype=torch.bool),
    )
    return (
        clips.requires_grad_(),
        torch.full((samples, frames), 0.1),
        targets.to(torch.device(device)),
    )


def one_call(loss: FlowLoss, clips: Tensor, levels: Tensor, targets: FlowTargets) -> Tensor:
    """As FlowLoss does."""
    return loss.terms(Step(clean=clips, levels=levels, targets=targets)).loss


def call_each(loss: FlowLoss, clips: Tensor, levels: Tensor, targets: FlowTargets) -> Tensor:
    """As a loop over the samples would."""
    parts = []
    for n in range(len(clips)):
        names = ("rows", "slots", "hops", "flow", "visible")
        one = replace(targets, **{name: getattr(targets, name)[n : n + 1] for name in names})
        parts.append(one_call(loss, clips, levels, one))
    return torch.stack(parts).sum()


WAYS: dict[str, Callable[..., Tensor]] = {"one call": one_call, "a call for each sample": call_each}


def count(name: str, given: tuple[Tensor, Tensor, FlowTargets]) -> list[Row]:
    """Kernels and waits of a second forward and backward pass, by way."""
    rows = []
    for way, run in WAYS.items():
        loss = FlowLoss(FlowLossConfig(weight=1.0), load_estimator(name))
        run(loss, *given)
        with Waits() as waited:
            with Kernels() as forward:
                value = run(loss, *given)
            with Kernels() as backward:
                value.backward()
        rows.append(
            {
                "way": way,
                "forward": forward.counts.total(),
                "backward": backward.counts.total(),
                "waits": waited.counts.total(),
            }
        )
    return rows


def timed(loss: FlowLoss, given: tuple[Tensor, Tensor, FlowTargets], rounds: int) -> list[float]:
    """Least milliseconds of forward and of backward: of the device, or of this process."""
    device = given[0].device
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    taken = []
    for _ in range(rounds + 1):  # the first warms up
        moments = [now(device, clock)]
        value = one_call(loss, *given)
        moments.append(now(device, clock))
        value.backward()
        moments.append(now(device, clock))
        taken.append([1e3 * (b - a) for a, b in pairwise(moments)])
    return [min(values) for values in zip(*taken[1:], strict=True)]


def now(device: torch.device, clock: Callable[[], float]) -> float:
    """The time when all that was queued is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()


def times(
    name: str, given: tuple[Tensor, Tensor, FlowTargets], rounds: int, *, compiled: bool
) -> list[Row]:
    """Of the loss as it is, and on a GPU also compiled and with an ordered backward pass."""
    loss = FlowLoss(FlowLossConfig(weight=1.0), load_estimator(name))
    rows = [{"way": "plain", "ms": timed(loss, given, rounds)}]
    if given[0].device.type == "cuda":
        torch.use_deterministic_algorithms(True)
        rows.append({"way": "deterministic", "ms": timed(loss, given, rounds)})
        torch.use_deterministic_algorithms(False)
    if compiled:
        loss = FlowLoss(FlowLossConfig(weight=1.0, compile=True), load_estimator(name))
        rows.append({"way": "compiled", "ms": timed(loss, given, rounds)})
    return rows


def machine() -> str:
    """What the figures depend on besides the code."""
    from flow_accuracy import machine

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return machine() + gpu


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--estimator", default="variational")
    parser.add_argument("--samples", type=int, default=4, help="clips of the batch that pass")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", default="256x384", help="HxW")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3, help="timings; 0 counts alone")
    parser.add_argument("--compile", action="store_true", help="also compiled; takes minutes")
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    height, width = map(int, options.size.split("x"))
    shape = (options.samples, options.frames, (height, width))
    result: dict[str, Any] = {"machine": machine(), "counts": [], "times": []}
    pairs = options.samples * (options.frames - 1)
    print(f"{machine()}, {options.threads} threads, {options.device}")
    print(
        f"FlowLoss by {options.estimator}: {options.samples} clips, {pairs} pairs, {options.size}\n"
    )
    result["counts"] = count(options.estimator, problem(*shape, "meta"))
    print(f"{'':24}{'kernels forward':>16}{'backward':>10}{'waits':>7}")
    for row in result["counts"]:
        print(f"{row['way']:24}{row['forward']:16}{row['backward']:10}{row['waits']:7}")
    if options.rounds:
        given = problem(*shape, options.device)
        result["times"] = times(options.estimator, given, options.rounds, compiled=options.compile)
        print(f"\n{'ms on ' + options.device:24}{'forward':>16}{'backward':>10}")
        for row in result["times"]:
            forward, backward = row["ms"]
            print(f"{row['way']:24}{forward:16.1f}{backward:10.1f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
