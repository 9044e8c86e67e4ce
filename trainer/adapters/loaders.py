"""The stream in the forms that other loops ask for: iterated, indexed, or an IterableDataset.

The stream deals positions out to ranks by itself; none of these must be dealt out again.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import Dataset, IterableDataset

from trainer.adapters.samples import finetrainers, open_sora
from trainer.stream.batch import Batch
from trainer.stream.engine import Stream

Item = TypeVar("Item")


class Epochs(Generic[Item]):
    """A stream in epochs of `steps` batches; each goes on where the stream stands.

    It is no torch Dataset on purpose: Accelerate leaves it as it is. It can be registered for
    Accelerate's checkpoints.

    Args:
        stream: of this rank.
        adapt: what a batch becomes, as `samples.videox_fun`.
        steps: its length.
        device: to which batches go first, still as bytes.
    """

    def __init__(
        self,
        stream: Stream,
        adapt: Callable[[Batch], Item],
        steps: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.stream, self.adapt, self.steps = stream, adapt, steps
        self.device = torch.device(device)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Item]:
        return self._take(self.steps)

    def _take(self, steps: int) -> Iterator[Item]:
        with closing(iter(self.stream)) as batches:
            for batch in islice(batches, steps):
                yield self.adapt(batch.to(self.device))

    def state_dict(self) -> dict[str, Any]:
        """The stream's, after the last batch that was given out."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.stream.load_state_dict(state)


class OpenSoraEpochs(Epochs[dict[str, Any]]):
    """Loader and sampler of Open-Sora in one: its loop says which epoch and step are next.

    So its checkpoints resume exactly, though it fetches a batch ahead.

    Args:
        stream, steps, device: as of `Epochs`.
        fps: as of `samples.open_sora`.
    """

    _epoch = _step = 0

    def __init__(
        self,
        stream: Stream,
        steps: int,
        device: torch.device | str = "cpu",
        *,
        fps: float | None = None,
    ) -> None:
        super().__init__(stream, partial(open_sora, fps=fps), steps, device)

    def set_epoch(self, epoch: int) -> None:
        """The next pass is of this epoch."""
        self._epoch = epoch

    def set_step(self, step: int) -> None:
        """The next pass begins at this step."""
        self._step = step

    def reset(self) -> None:
        """The next pass begins at its first step."""
        self._step = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        position = (self._epoch * self.steps + self._step) * self.stream.config.batch
        self.stream.cursor = replace(self.stream.cursor, position=position)
        return self._take(self.steps - self._step)

    def state_dict(self, steps: int = 0) -> dict[str, Any]:
        """The epoch, and how many of its steps the loop has taken."""
        return {"epoch": self._epoch, "step": steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next pass begins where a state says."""
        self._epoch, self._step = state["epoch"], state["step"]


class Items(Dataset[Item]):
    """The first `count` samples of a stream, by number, each read by whoever asks for it.

    They are shuffled already; asked for in order, they lie close together.

    Args:
        stream: of one rank: the loop's sampler deals the numbers out.
        adapt: what a batch of one becomes, as `samples.diffsynth`.
        count: how many.
    """

    load_from_cache = False  # DiffSynth asks whether items are encoded already

    def __init__(self, stream: Stream, adapt: Callable[[Batch], Item], count: int) -> None:
        self.stream, self.adapt, self.count = stream, adapt, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Item:
        if not 0 <= number < self.count:
            raise IndexError(f"sample {number} of {self.count}")
        return self.adapt(self.stream[number])


class FinetrainersStream(IterableDataset[dict[str, Any]]):
    """An endless dataset for finetrainers, which asks it for its state.

    Args:
        stream: of this rank; its batch is as large as there are ranks.
    """

    _precomputable_once = False  # it asks whether all of it can be encoded beforehand

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with closing(iter(self.stream)) as batches:
            yield from map(finetrainers, batches)

    def state_dict(self) -> dict[str, Any]:
        """The stream's, after the last sample that was given out."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.stream.load_state_dict(state)
