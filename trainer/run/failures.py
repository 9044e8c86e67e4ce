"""Why a run ended, in a sentence that says what to do."""

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.distributed.checkpoint.api import CheckpointException

from shards import Exhausted

_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.I)
_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|timed? ?out", re.I)


class RunFailed(Exception):
    """A run that cannot go on here, and why; its last checkpoint is whole."""

    def __init__(self, said: str) -> None:
        super().__init__(f"{said}. The last checkpoint is whole, the same command goes on")


def not_written(error: CheckpointException, folder: Path) -> RunFailed:
    """Why a checkpoint was not. Writers do not say that a disk is full, but its room does."""
    cause = next(failure for failure, _ in error.failures.values())
    free = shutil.disk_usage(folder).free / 1e6
    return RunFailed(
        f"a checkpoint could not be written ({cause}), with {free:.4g} MB free in {folder}: free "
        "more if that is little, or lower keep_checkpoints"
    )


@contextmanager
def explained(ranks: int) -> Iterator[None]:
    """Out of memory, a full disk or a lost rank becomes RunFailed; all else passes as it is.

    Args:
        ranks: processes of the run.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        said = reason(error, ranks)
        if said is None:
            raise
        raise RunFailed(said) from error


def reason(error: BaseException, ranks: int) -> str | None:
    """What to say of an error; None of one that nobody foresaw."""
    text = " ".join(str(error).split())
    if isinstance(error, Exhausted):
        return text
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _MEMORY.search(text):
        return (
            "the device is out of memory: raise optim.accumulate (the same step in smaller parts), "
            "or lower stream.batch or stream.frames"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of the run is full ({error}): free some, or lower keep_checkpoints"
    if ranks > 1 and _LOST.search(text):
        return f"another rank is lost ({text[:200]}): see what it said itself"
    return None
