"""The stream in a process beside the training; batches come over shared memory.

Its threads then take nothing of the interpreter that trains. It is a DataLoader's worker, forked
when the first batch is asked for, which ends with the loop, and on its own when this process is
gone.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from shards import DamagedDataset, Exhausted, UsageError
from trainer.stream.batch import Batch

Counts = Callable[[], Counter[str]]
_SAID = (DamagedDataset, Exhausted, UsageError)  # in a sentence, not to be buried in a traceback


def from_helper(
    batches: Iterable[Batch], counts: Counts
) -> Generator[tuple[Batch, Counter[str]], None, None]:
    """Batches, and what `counts` gave after each, of a process that has copies of both.

    Raises:
        Exception: that the batches end with.
    """
    loader = DataLoader(
        _Counted(batches, counts),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=1,
        prefetch_factor=1,  # the stream itself prepares batches ahead
        multiprocessing_context="fork",
    )
    coming = iter(loader)
    try:
        for found in coming:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        coming._shutdown_workers()  # type: ignore[attr-defined]  # else whenever it is collected


def _as_it_is(found: object) -> object:
    return found


class _Counted(IterableDataset[tuple[Batch, Counter[str]] | Exception]):
    def __init__(self, batches: Iterable[Batch], counts: Counts) -> None:
        self._batches, self._counts = batches, counts

    def __iter__(self) -> Iterator[tuple[Batch, Counter[str]] | Exception]:
        try:
            for batch in self._batches:
                yield batch, self._counts()
        except _SAID as error:
            yield error


def is_in_helper() -> bool:
    """Whether a DataLoader has the stream in a process of its own; UsageError for several."""
    worker = get_worker_info()
    if worker is not None and worker.num_workers > 1:
        raise UsageError(
            f"a DataLoader with {worker.num_workers} workers would give each batch as often: the "
            "stream has threads of its own (stream.threads); use num_workers=0, or 1 to have it "
            "in a process beside the training"
        )
    return worker is not None
