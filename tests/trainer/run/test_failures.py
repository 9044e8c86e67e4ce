import errno
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from shards import Exhausted
from trainer.run.failures import RunFailed, explained, not_written, reason


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")


@pytest.mark.parametrize(
    ("error", "ranks", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to …"), 1, "raise optim.accumulate"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "lower stream.batch"),
        (MemoryError(), 1, "out of memory"),
        (Exhausted(errno.EMFILE, "as many files open as it may"), 2, "as many files open as"),
        (full(), 1, "No space left on device.*lower keep_checkpoints"),
        (RuntimeError("[gloo/tcp/pair.cc] Connection closed by peer"), 2, "another rank is lost"),
        (
            torch.distributed.DistBackendError("NCCL error: remote exit"),
            8,
            "rank is lost",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_ends_a_run_is_a_sentence(error: Exception, ranks: int, said: str) -> None:
    with pytest.raises(RunFailed, match=said) as caught, explained(ranks):
        raise error
    assert str(caught.value).endswith("The last checkpoint is whole, the same command goes on")


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), OSError(errno.EACCES, "no"), ValueError("gloo")]
)
def test_what_nobody_foresaw_passes_as_it_is(error: Exception) -> None:
    assert isinstance(error, ValueError) or reason(error, 2) is None
    with pytest.raises(type(error)), explained(2):
        raise error


def test_one_process_alone_loses_no_rank() -> None:
    assert reason(RuntimeError("Connection closed by peer"), 1) is None


def test_a_checkpoint_that_is_not_written_says_how_much_room_there_is(tmp_path: Path) -> None:
    error = CheckpointException("x", {1: (RuntimeError("unexpected pos"), None)})  # type: ignore[dict-item]
    said = str(not_written(error, tmp_path))
    assert said.startswith("a checkpoint could not be written (unexpected pos), with ")
    assert f"MB free in {tmp_path}: free more" in said
    assert said.endswith("The last checkpoint is whole, the same command goes on")
