"""The processes of a run: this one alone, or those that torchrun started, each with its rows."""

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from shards import UsageError
from trainer.config import TrainConfig

Result = TypeVar("Result")
_PATIENCE = timedelta(minutes=10)  # until a rank that does not answer is lost


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process among those of a run.

    Attributes:
        device: where it computes.
        rank, count: it, and how many there are.
        parallel: how they share the model.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    parallel: Literal["none", "ddp", "fsdp2"] = "none"

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    @property
    def are_alone(self) -> bool:
        """Whether there is no group of processes."""
        return self.parallel == "none"

    def gather(self, value: Any) -> list[Any]:
        """The value that each rank has, on all of them; it must be picklable."""
        if self.are_alone:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def lead(self, action: Callable[[], Result]) -> Result:
        """What rank 0's call of an action gives or raises, on all ranks."""
        outcome: Any = None
        if self.leads:
            try:
                outcome = action()
            except Exception as error:
                if self.are_alone:
                    raise
                outcome = error
        outcome = self.gather(outcome)[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def spread(self, model: nn.Module) -> nn.Module:
        """What to call in the model's place, so that gradients are means over all ranks.

        Under FSDP2 it is the model itself, whose parameters are from now on shards: of each block
        of its lists of modules, and of the rest.
        """
        if self.parallel == "fsdp2":
            mesh = init_device_mesh(self.device.type, (self.count,))
            for block in _blocks(model):
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh, reshard_after_forward=True)
            return model
        if self.parallel == "ddp":
            return DistributedDataParallel(model, gradient_as_bucket_view=True)
        return model

    def share_gradients(self, network: nn.Module, *, now: bool) -> None:
        """Whether the coming passes average gradients over ranks, or only add up on each its own.

        The last before an optimizer step has to.
        """
        if isinstance(network, DistributedDataParallel):
            network.require_backward_grad_sync = now  # what its no_sync() sets, and sets back


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost lists of modules."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _blocks(child)


def place(config: TrainConfig, environment: Mapping[str, str]) -> Ranks:
    """This process's place by the variables that torchrun sets; UsageError if they do not suit."""
    on_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    launched = "RANK" in environment
    count = int(environment.get("WORLD_SIZE", 1)) if launched else 1
    if config.parallel in ("ddp", "fsdp2") and not launched:
        raise UsageError(
            f"parallel is {config.parallel}, but this process is the only one: start the command "
            "with `torchrun --nproc-per-node GPUS -m fluxshard train …`"
        )
    if config.parallel == "none" and count > 1:
        raise UsageError(
            f"parallel is none, but torchrun started {count} processes: start one, or set parallel "
            "to ddp or fsdp2"
        )
    parts = count * config.optim.accumulate
    if config.stream.batch % parts:
        raise UsageError(
            f"a global batch of {config.stream.batch} clips cannot be split evenly over {count} "
            f"ranks with optim.accumulate {config.optim.accumulate}: make stream.batch a multiple "
            f"of {parts}"
        )
    several: Literal["none", "ddp"] = "ddp" if count > 1 else "none"
    return Ranks(
        device=torch.device(f"cuda:{environment.get('LOCAL_RANK', 0)}" if on_gpu else "cpu"),
        rank=int(environment.get("RANK", 0)) if launched else 0,
        count=count,
        parallel=several if config.parallel == "auto" else config.parallel,
    )


@contextmanager
def join(config: TrainConfig) -> Iterator[Ranks]:
    """This process among those of its run, which are connected while the body runs.

    A group that is there already stays.

    Raises:
        UsageError: the processes do not suit the configuration.
    """
    ranks = place(config, os.environ)
    if ranks.device.type == "cuda":
        torch.cuda.set_device(ranks.device)
    if ranks.are_alone:
        yield ranks
        return
    backend = "nccl" if ranks.device.type == "cuda" else "gloo"
    theirs = dist.is_initialized()
    if not theirs:
        dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield ranks
    except BaseException:
        if backend == "gloo" and not theirs:  # NCCL would wait for ranks that are gone
            dist.destroy_process_group()
        raise
    gc.collect()  # a sharded model that outlives the group aborts the process
    if not theirs:
        dist.destroy_process_group()
