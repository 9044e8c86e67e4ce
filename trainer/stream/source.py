"""Where samples come from: a dataset, and what is taken of it.

A filter leaves a count for each shard; which rows those are is found again when its index is read.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice

import numpy as np
import pyarrow as pa

from shards import Dataset, Layer, UsageError, chance, fold
from trainer.config import StreamConfig
from trainer.stream.filter.kept import kept
from trainer.stream.filter.pick import SHAPE, columns_for, left_out, pick
from trainer.stream.filter.where import Where

_CAPTION = "caption"  # the column that every dataset has
_AT_ONCE = 64  # shards that a filter looks at together
_WORTH_KEEPING = 256  # shards; fewer are counted in less than half a second


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
        samples: of each bucket, taken of each shard.
        sizes: (height, width) of the clips.
        shortest: frames that each clip has at least; None where those that are too short are left
            out: by buckets, and by a frame rate of the model's own.
        dropped: clips that are left out, by reason.
    """

    samples: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, int], ...]
    shortest: int | None
    dropped: Mapping[str, int] = field(default_factory=dict)


def check_columns(source: Source, config: StreamConfig) -> None:
    """UsageError unless some shard has each column that is asked for."""
    for name in (*source.columns, config.captions):
        if name != _CAPTION and not any(name in s.names for s in source.dataset.schemas()):
            raise UsageError(
                f"{source.dataset.url} has no column {name}: `fluxshard info` lists those it has"
            )


def survey(source: Source, config: StreamConfig) -> Survey:
    """Counts, sizes and length, from the manifest where it tells them, else from all of the index.

    Raises:
        UsageError: no clip is taken, clips of several sizes without one to show them at, a filter
            that names no column.
        DamagedDataset: the index is not what the manifest records.
    """
    dataset, told = source.dataset, source.dataset.manifest.config
    plain = not (source.where or config.buckets or config.fps) and config.windows == "drawn"
    if plain and told.get("size") and told.get("frames"):
        height, width = told["size"]
        counts = (dataset.shard_rows,)
        return Survey(samples=counts, sizes=((height, width),), shortest=told["frames"])
    if len(dataset.shards) < _WORTH_KEEPING:
        return _checked(source, config, _count(source, config))
    every = config.windows == "all"
    facts = {
        "dataset": dataset.digest,
        "where": source.where,
        "windows": f"all of {config.frames}" if every and not config.buckets else config.windows,
        "buckets": [*config.buckets, config.fill, config.resize] if config.buckets else [],
        "computed by": f"pyarrow {pa.__version__}",
        **({"fps": [config.fps, config.frames]} if config.fps else {}),
    }
    found = kept(facts, lambda: asdict(_count(source, config)))
    found |= {name: tuple(map(tuple, found[name])) for name in ("samples", "sizes")}
    return _checked(source, config, Survey(**found))


def _count(source: Source, config: StreamConfig) -> Survey:
    """`survey`, from all of the index."""
    dataset, where = source.dataset, Where(source.where)
    samples: list[list[int]] = [[] for _ in config.shapes]
    shortest: list[int] = []
    unseen, sizes, lost = {*where.columns}, set[tuple[int, int]](), Counter[str]()
    for tables in _alike(dataset.each([*columns_for(config), *where.columns])):
        table = pa.concat_tables(tables).combine_chunks()
        unseen -= {*table.column_names}
        taken = where.places(table)
        ends = np.cumsum([len(one) for one in tables])
        picked = pick(table, taken, config)
        for counts, (places, _) in zip(samples, picked, strict=True):
            counts += np.diff(np.searchsorted(places, ends), prepend=0).tolist()
            if len(places):
                frames, *sides = (table[name].to_numpy()[places] for name in SHAPE)
                sizes |= {(height, width) for height, width in np.unique(sides, axis=1).T.tolist()}
                shortest.append(int(frames.min()))
        if len({*np.concatenate([places for places, _ in picked]).tolist()}) < len(taken):
            lost += left_out(table, taken, config)
    if unseen:
        columns = ", ".join(next(dataset.schemas()).names)
        raise UsageError(
            f"the filter {source.where!r} names {', '.join(sorted(unseen))}, which the clips of "
            f"{dataset.url} do not have; there are {columns}"
        )
    return Survey(
        samples=tuple(map(tuple, samples)),
        sizes=tuple(sorted(sizes)),
        shortest=None if config.buckets or config.fps else min(shortest, default=0),
        dropped=dict(lost),
    )


def _checked(source: Source, config: StreamConfig, found: Survey) -> Survey:
    """The survey itself; UsageError if there is nothing to stream, or of several sizes."""
    url = source.dataset.url
    if found.dropped and not found.sizes:
        why = ", ".join(f"{count} are {reason}" for reason, count in found.dropped.items())
        rate = f"{config.frames} frames at {config.fps:g} fps" if config.fps else ""
        wanted = f"a bucket of {', '.join(config.buckets)}" if config.buckets else rate
        raise UsageError(f"no clip of {url} fills {wanted}: {why}")
    if not found.sizes:
        raise UsageError(f"the filter {source.where!r} leaves no clip of {url}: widen it")
    if config.shapes[0].size is None:
        only_size(source.dataset, {*found.sizes})
    return found


def _alike(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Runs of tables with the same columns: a filter takes as long for one as for many."""
    for _, run in groupby(tables, key=lambda table: table.schema):
        while some := [*islice(run, _AT_ONCE)]:
            yield some


def draw_caption(
    told: str | Sequence[str] | None, seed: int, position: int, dropout: float
) -> str | None:
    """The caption that a position shows: one of those that the index tells, or an empty one.

    Args:
        told: a text, a list of texts, or the JSON of one; None or no text at all gives None.
        dropout: share of the positions whose caption is left empty.
    """
    texts = _texts(told)
    if not texts:
        return None
    if chance(dropout, seed, position, "caption dropout"):
        return ""
    return texts[fold(seed, position, "caption") % len(texts)]


def _texts(told: str | Sequence[str] | None) -> Sequence[str]:
    if not isinstance(told, str):
        return told or ()
    try:
        several = json.loads(told) if told.startswith("[") else None
    except ValueError:  # "[music] a crowd sings" is a caption
        several = None
    if isinstance(several, list) and all(isinstance(text, str) for text in several):
        return several
    return (told,)


def only_size(dataset: Dataset, sizes: set[tuple[int, int]]) -> tuple[int, int]:
    """The one (height, width) of clips; UsageError if there are several."""
    if len(sizes) != 1:
        heights, widths = (sorted({*sides}) for sides in zip(*sizes, strict=True))
        raise UsageError(
            f"{dataset.url} holds clips of heights {heights} and widths {widths}; "
            "a batch needs one size: filter with --stream.where, or build the dataset with --size"
        )
    return next(iter(sizes))
