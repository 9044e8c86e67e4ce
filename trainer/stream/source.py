"""Where samples come from: a dataset, and what is taken of it.

A filter leaves a count for each shard; which rows those are is found again when its index is read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby, islice

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from shards import Dataset, Layer, UsageError
from trainer.config import StreamConfig
from trainer.stream.kept import kept
from trainer.stream.where import Where

_SHAPE = ("frames", "height", "width")
COLUMNS = ("caption", *_SHAPE)  # that a stream needs of each clip
_AT_ONCE = 64  # shards that a filter looks at together
_WORTH_KEEPING = 256  # shards; fewer are counted in less than half a second
_ALIGNED = 4  # windows begin where every level's flow is stored and every stride decodes alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A dataset that a stream takes samples from.

    Attributes:
        layer: flow layer that the recipe may ask for; None reads no flow.
        where: filter over columns of the index; empty takes every clip.
        columns: of the index, whose values batches bring.
        weight: share of the samples, in proportion to the other sources'.
    """

    dataset: Dataset
    layer: Layer | None = None
    where: str = ""
    columns: tuple[str, ...] = ()
    weight: float = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What opening a source has to know of its clips.

    Attributes:
        samples: taken of each shard.
        size: (height, width) of the clips.
        shortest: frames that each clip has at least.
    """

    samples: tuple[int, ...]
    size: tuple[int, int]
    shortest: int


def check_columns(source: Source) -> None:
    """UsageError unless some shard has each column that is asked for."""
    for name in source.columns:
        if not any(name in schema.names for schema in source.dataset.schemas()):
            raise UsageError(
                f"{source.dataset.url} has no column {name}: `fluxshard info` lists those it has"
            )


def survey(source: Source, config: StreamConfig) -> Survey:
    """Counts, size and length, from the manifest where it tells them, else from all of the index.

    Raises:
        UsageError: no clip is taken, clips of several sizes, a filter that names no column.
        DamagedDataset: the index is not what the manifest records.
    """
    dataset, told = source.dataset, source.dataset.manifest.config
    if not source.where and config.windows == "drawn" and told.get("size") and told.get("frames"):
        height, width = told["size"]
        return Survey(samples=dataset.shard_rows, size=(height, width), shortest=told["frames"])
    if len(dataset.shards) < _WORTH_KEEPING:
        return _count(source, config)
    facts = {
        "dataset": dataset.digest,
        "where": source.where,
        "windows": f"all of {config.frames}" if config.windows == "all" else "drawn",
        "computed by": f"pyarrow {pa.__version__}",
    }
    found = kept(facts, lambda: asdict(_count(source, config)))
    height, width = found["size"]
    return Survey(samples=tuple(found["samples"]), size=(height, width), shortest=found["shortest"])


def _count(source: Source, config: StreamConfig) -> Survey:
    """`survey`, from all of the index."""
    dataset, where = source.dataset, Where(source.where)
    samples: list[int] = []
    shortest: list[int] = []
    unseen, sizes = {*where.columns}, set[tuple[int, int]]()
    for tables in _alike(dataset.each([*_SHAPE, *where.columns])):
        table = pa.concat_tables(tables).combine_chunks()
        unseen -= {*table.column_names}
        places, _ = pick(table, where, config)
        ends = np.cumsum([len(one) for one in tables])
        samples += np.diff(np.searchsorted(places, ends), prepend=0).tolist()
        if len(places):
            frames, *sides = (table[name].to_numpy()[places] for name in _SHAPE)
            sizes |= {(height, width) for height, width in np.unique(sides, axis=1).T.tolist()}
            shortest.append(int(frames.min()))
    if unseen:
        columns = ", ".join(next(dataset.schemas()).names)
        raise UsageError(
            f"the filter {source.where!r} names {', '.join(sorted(unseen))}, which the clips of "
            f"{dataset.url} do not have; there are {columns}"
        )
    if not sizes:
        raise UsageError(f"the filter {source.where!r} leaves no clip of {dataset.url}: widen it")
    return Survey(samples=tuple(samples), size=only_size(dataset, sizes), shortest=min(shortest))


def _alike(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Runs of tables with the same columns: a filter takes as long for one as for many."""
    for _, run in groupby(tables, key=lambda table: table.schema):
        while some := [*islice(run, _AT_ONCE)]:
            yield some


def pick(
    table: pa.Table, where: Where, config: StreamConfig
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """The samples of a shard: the place of each one's clip, and its first frame there."""
    places = where.places(table)
    if config.windows == "drawn":
        return places, np.zeros_like(places)
    step = max(_ALIGNED, config.frames // _ALIGNED * _ALIGNED)
    frames = table["frames"].to_numpy()[places]
    counts = np.maximum(0, (frames - config.frames) // step + 1).astype(np.int64)
    numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(places, counts), step * numbers


def only_size(dataset: Dataset, sizes: set[tuple[int, int]]) -> tuple[int, int]:
    """The one (height, width) of clips; UsageError if there are several."""
    if len(sizes) != 1:
        heights, widths = (sorted({*sides}) for sides in zip(*sizes, strict=True))
        raise UsageError(
            f"{dataset.url} holds clips of heights {heights} and widths {widths}; "
            "a batch needs one size: filter with --stream.where, or build the dataset with --size"
        )
    return next(iter(sizes))
