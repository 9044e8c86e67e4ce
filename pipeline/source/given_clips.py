"""A table of clips that a user gives: made by a scan, then filtered or edited with any tool."""

import json
import os
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool

from pipeline.source.files import is_url
from shards import UsageError, is_storable
from shards.schema import CLIP_MEMBERS, CLIP_TABLE, member_columns

CLIPS_FILE = "clips.parquet"  # in a folder that `fluxshard scan` made
CONFIG_KEY = b"fluxshard.config"  # in the table's metadata, which most tools drop: how it was made
BATCH = 4096  # rows that are held at once
OPTIONAL = ("caption", "codec", "transfer", "interlaced", "letterbox", "static", "phash")
OURS = [field for field in CLIP_TABLE if field.name != "shard"]
_PLACES = {"shard", *member_columns(CLIP_MEMBERS).names}  # of a dataset's own tables
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_HEX, _KEY = "^[0-9a-f]{64}$", "^[A-Za-z0-9_-]{1,80}$"
_Bad = Bool[np.ndarray, " rows"]


class GivenClips:
    """A table of clips, streamed: columns of `CLIP_TABLE` but for `shard`, then the user's.

    Whatever types a tool gave the columns, they come out as those of `CLIP_TABLE`; users' columns
    as text, 64-bit whole numbers, fractions, or true and false. `shard` and the members' places,
    which a dataset's own tables have, and the index of pandas are left out.

    Args:
        path: a local Parquet file, or a folder that `fluxshard scan` made.

    Attributes:
        path: of the file.
        schema: of what comes out.

    Raises:
        UsageError: it is no such file, or lacks columns, or has others that cannot be passed on.
    """

    def __init__(self, path: str) -> None:
        self.path = file_of(path)
        try:
            self._file = pq.ParquetFile(self.path)
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{self.path}: not readable as a Parquet table: {error}") from error
        given = self._file.schema_arrow
        _check_names(self.path, given.names)
        users = [
            pa.field(field.name, _kind(self.path, field))
            for field in given
            if field.name not in {*CLIP_TABLE.names, *_PLACES}
            and not _PANDAS_INDEX.fullmatch(field.name)
        ]
        self.schema = pa.schema([*OURS, *users])

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    @property
    def users(self) -> pa.Table:
        """No row of the user's columns."""
        names = [name for name in self.schema.names if name not in CLIP_TABLE.names]
        return self.schema.empty_table().select(names)

    def config(self) -> dict[str, Any]:
        """What the table tells of the settings that it was made with: size and frames at least.

        Raises:
            UsageError: it has no rows, or the first is no clip.
        """
        stored = (self._file.schema_arrow.metadata or {}).get(CONFIG_KEY, b"{}")
        for rows in self.batches():
            first = rows.slice(0, 1).to_pylist()[0]
            seen = {"size": [first["height"], first["width"]], "frames": first["frames"]}
            return {"fps": None} | json.loads(stored) | seen
        raise UsageError(f"{self.path} has no rows: there is nothing to build")

    def batches(self) -> Iterator[pa.Table]:
        """The rows in order; UsageError if a value does not fit its column."""
        for batch in self._file.iter_batches(BATCH):
            if len(batch):
                yield self._fitted(pa.table(batch))

    def _fitted(self, rows: pa.Table) -> pa.Table:
        columns = [self._column(rows, field) for field in self.schema]
        return pa.table(columns, schema=self.schema)

    def _column(self, rows: pa.Table, field: pa.Field) -> pa.ChunkedArray:
        where = f"{self.path}, column {field.name!r}"
        if field.name not in rows.column_names:
            return pa.chunked_array([pa.nulls(len(rows), field.type)])
        column = rows[field.name]
        try:
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            column = column.cast(field.type)
            column.validate(full=True)  # text that is no UTF-8
        except (pa.ArrowException, ValueError) as error:
            raise UsageError(
                f"{where} holds {rows[field.name].type}, which does not fit {field.type}: {error}"
            ) from error
        if field.name == "caption":
            column = column.fill_null("")
        held = column.combine_chunks()
        inner = held.flatten() if pa.types.is_list(held.type) else held
        if field in OURS and field.name not in OPTIONAL and held.null_count + inner.null_count:
            raise UsageError(f"{where} has empty cells: each clip needs a value")
        return column

    def check(self, size: tuple[int, int], frames: int) -> Iterator[pa.Table]:
        """The rows in order, once each of them is a clip of this size and length.

        Raises:
            UsageError: one is not; the message names row (from 1), column, value and rule.
        """
        row = 1
        for rows in self.batches():
            for column, rule, bad in _rules(size, frames):
                found = np.flatnonzero(bad(rows))
                if len(found):
                    value = rows[column][int(found[0])].as_py()
                    shown = f"{str(value)[:80]!r}" if isinstance(value, str) else str(value)[:80]
                    raise UsageError(
                        f"{self.path}, row {row + int(found[0])}, column {column!r}: {shown}, "
                        f"but {rule}"
                    )
            row += len(rows)
            yield rows


def file_of(path: str) -> str:
    """The file of a table, or of the one that a scan made in a folder."""
    if is_url(path):
        raise UsageError(f"{path}: download it; a table of clips is local, and may name URLs")
    inside = os.path.join(path, CLIPS_FILE)
    if os.path.isdir(path) and not os.path.isfile(inside):
        raise UsageError(
            f"{path} holds no {CLIPS_FILE}: make it with `fluxshard scan SRC... {path}`"
        )
    return os.path.abspath(inside if os.path.isdir(path) else path)


def _check_names(path: str, names: list[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"{path}: column {min(twice)!r} is there twice; name each column once")
    needed = [field.name for field in OURS if field.name not in OPTIONAL]
    if lacking := [name for name in needed if name not in names]:
        raise UsageError(
            f"{path} lacks the columns {', '.join(lacking)}: it is no table of clips as "
            "`fluxshard scan` writes it"
        )


def _kind(path: str, field: pa.Field) -> pa.DataType:
    """The type in which a user's column is passed on."""
    given = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_string(given) or pa.types.is_large_string(given):
        return pa.string()
    if pa.types.is_floating(given) or pa.types.is_decimal(given):
        return pa.float64()
    if pa.types.is_integer(given):
        return pa.int64()
    if pa.types.is_boolean(given) or pa.types.is_null(given):
        return given
    raise UsageError(
        f"{path}, column {field.name!r} holds {given}, but only text, numbers, and true and false "
        "can be passed through: cast it, or leave it out"
    )


_Rule = tuple[str, str, Callable[[pa.Table], _Bad]]


def _rules(size: tuple[int, int], frames: int) -> Iterator[_Rule]:
    """Column, rule, and where rows break it; later ones count on earlier ones."""
    height, width = size
    asked = "give that, or build these clips into another dataset"
    yield "key", "a key is 1 to 80 ASCII letters, digits, _ and -", _unlike("key", _KEY)
    yield "source_sha256", "a SHA-256 is 64 hex digits", _unlike("source_sha256", _HEX)
    yield "path", "a source is an absolute path or a URL", _homeless
    yield "height", f"--size asks for {height}x{width}: {asked}", _other("height", height)
    yield "width", f"--size asks for {height}x{width}: {asked}", _other("width", width)
    yield "frames", f"--frames asks for {frames}: {asked}", _other("frames", frames)
    for name in ("numbers", "pts"):
        yield name, f"a clip of {frames} frames has as many {name}", _not_as_many(name, frames)
        yield name, f"{name} never fall", partial(_falls, name=name)
    yield "numbers", "frames are counted from 0", _negative
    yield "pts", "they rise exactly where the numbers of the frames do", _apart
    for name in ("time_base_num", "time_base_den"):
        yield name, "a time base is positive", partial(_not_positive, name=name)
    yield "fps_num", "fps_num / fps_den is no rate that a clip can be stored with", _unstorable


def _unlike(name: str, pattern: str) -> Callable[[pa.Table], _Bad]:
    return lambda rows: ~_numpy(pc.match_substring_regex(rows[name], pattern))


def _other(name: str, value: int) -> Callable[[pa.Table], _Bad]:
    return lambda rows: rows[name].to_numpy() != value


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(bool)


def _homeless(rows: pa.Table) -> _Bad:
    paths = rows["path"].to_pylist()
    return np.array([not (is_url(path) or os.path.isabs(path)) for path in paths], bool)


def _not_as_many(name: str, frames: int) -> Callable[[pa.Table], _Bad]:
    return lambda rows: pc.list_value_length(rows[name]).to_numpy() != frames


def _matrix(rows: pa.Table, name: str) -> np.ndarray:
    """A column of lists that are equally long: [rows, length]."""
    return rows[name].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)


def _falls(rows: pa.Table, name: str) -> _Bad:
    values = _matrix(rows, name)
    return np.any(values[:, 1:] < values[:, :-1], axis=1)


def _not_positive(rows: pa.Table, name: str) -> _Bad:
    values: np.ndarray = rows[name].to_numpy()
    return values < 1


def _negative(rows: pa.Table) -> _Bad:
    return np.any(_matrix(rows, "numbers") < 0, axis=1)


def _apart(rows: pa.Table) -> _Bad:
    numbers, pts = _matrix(rows, "numbers"), _matrix(rows, "pts")
    return np.any((numbers[:, 1:] > numbers[:, :-1]) != (pts[:, 1:] > pts[:, :-1]), axis=1)


def _unstorable(rows: pa.Table) -> _Bad:
    pairs = list(zip(rows["fps_num"].to_pylist(), rows["fps_den"].to_pylist(), strict=True))
    bad = {pair for pair in {*pairs} if min(pair) < 1 or not is_storable(Fraction(*pair))}
    return np.array([pair in bad for pair in pairs], bool)
