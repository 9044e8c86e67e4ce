"""What the user names on the command line to a list of videos."""

import csv
import glob
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.records import Reject, Source
from pipeline.source.files import is_url, listed_below
from shards import UsageError
from shards.schema import Scalar

# `.gif` is left out: folders of videos hold it as decoration. Named explicitly it is read.
VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3g2", "3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg"),
        *("mts", "mxf", "ogv", "ts", "vob", "webm", "wmv"),
    )
)
UNREADABLE_FOLDER = "unreadable_folder"  # reason of a reject
MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl", ".ndjson", ".parquet"})
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


def find_sources(arguments: Sequence[str | os.PathLike[str]]) -> tuple[list[Source], list[Reject]]:
    """The videos named by files, folders, globs, URLs and manifests, and those listed but absent.

    Arguments keep their order; folders and globs are sorted, manifests keep their rows' order. A
    folder is searched with all below it, a folder or glob for known video suffixes only; a file
    named explicitly is taken whatever its suffix. A video met again is taken once. URLs that a
    manifest lists are not looked at here: there may be millions.

    Raises:
        UsageError: an argument that matches nothing, or a malformed manifest (row and column).
    """
    sources: dict[str, Source] = {}
    rejects: list[Reject] = []
    for argument in arguments:
        for source in _expand(os.fspath(argument)):
            if isinstance(source, Reject):
                rejects.append(source)
            elif (legible := _legible(source.path)) != source.path:
                detail = "the name is not UTF-8, which the index needs: rename the file"
                rejects.append(_refused(replace(source, path=legible), "not_utf8", detail))
            elif place := _illegible_text(source):
                detail = f"its {place} in {argument} holds half a character (a lone surrogate)"
                rejects.append(_refused(source, "not_utf8", detail))
            elif source.path not in sources:
                sources[source.path] = source
            elif source.caption is not None or source.columns:
                rejects.append(_refused(source, "duplicate", f"listed again in {argument}"))
    check_columns(sources.values())
    return list(sources.values()), rejects


def _refused(source: Source, reason: str, detail: str) -> Reject:
    return Reject(path=source.path, sha256=None, stage="input", reason=reason, detail=detail)


def _illegible_text(source: Source) -> str | None:
    """Which of a source's texts no file can hold; JSON can write down half a character."""
    texts = {"caption": source.caption, **{f"column {n!r}": v for n, v in source.columns.items()}}
    for place, text in texts.items():
        if isinstance(text, str) and _legible(text) != text:
            return place
    return None


def _legible(path: str) -> str:
    r"""The path with `\udc..` for the bytes of a name that is not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()


def _expand(argument: str) -> Iterator[Source | Reject]:
    if is_url(argument):
        if Path(argument).suffix.lower() in MANIFEST_SUFFIXES:
            raise UsageError(f"{argument}: download it; a manifest is local, and may list URLs")
        found = listed_below(argument, _is_video)
    elif os.path.isdir(argument):
        found, unread = _videos_below(argument)
        yield from unread
        if unread and not found:
            return
    elif os.path.isfile(argument):
        if Path(argument).suffix.lower() in MANIFEST_SUFFIXES:
            yield from read_listed(argument)
            return
        found = [argument]
    elif glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))
        found = [path for path in matches if _is_video(path) and os.path.isfile(path)]
    else:
        raise UsageError(f"{argument}: no such file or folder")
    if not found:
        raise UsageError(f"{argument}: no video found; known suffixes are {_known()}")
    for path in found:
        yield Source(path=path if is_url(path) else os.path.abspath(path))


def _is_video(path: str) -> bool:
    name = os.path.basename(path)
    return Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")


def _known() -> str:
    return " ".join(sorted(VIDEO_SUFFIXES))


def _videos_below(folder: str) -> tuple[list[str], list[Reject]]:
    """Videos in a folder and all below it, through links, each real folder once.

    And the folders that cannot be listed.
    """
    found: list[str] = []
    unread: list[Reject] = []
    visited: set[str] = set()

    def refuse(error: OSError) -> None:
        source = Source(path=_legible(os.path.abspath(error.filename)))
        detail = f"what is in it is not known: {error.strerror}"
        unread.append(_refused(source, UNREADABLE_FOLDER, detail))

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        found += [os.path.join(parent, name) for name in files if _is_video(name)]
    return sorted(found), unread


def read_listed(path: str) -> list[Source]:
    """The rows of a CSV, JSON-lines or Parquet file with a `video` column.

    `video` is a URL, or a path, absolute or relative to the manifest; `caption`, else `text`, is
    the caption; all other columns are passed through. In CSV a column of only numbers becomes
    numbers.

    Raises:
        UsageError: naming row (counted from 1, without the header) and column.
    """
    suffix = Path(path).suffix.lower()
    reader = {".csv": _csv_rows, ".parquet": _parquet_rows}.get(suffix, _json_rows)
    try:
        rows = reader(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: not readable as {suffix[1:]}: {error}") from error
    if not rows:
        raise UsageError(f"{path}: the manifest has no rows")
    folder = os.path.dirname(os.path.abspath(path))
    return [_source(row, folder, f"{path}, row {i}") for i, row in enumerate(rows, start=1)]


def _source(row: Any, folder: str, where: str) -> Source:
    if not isinstance(row, dict):
        raise UsageError(f"{where}: {row!r} is no object with named columns")
    columns = dict(row)
    video = columns.pop("video", None)
    if not isinstance(video, str) or not video:
        raise UsageError(f"{where}, column 'video': {video!r} is no path of a video")
    caption = columns.pop("caption" if "caption" in columns else "text", None)
    if caption is not None and not isinstance(caption, str):
        raise UsageError(f"{where}, column 'caption': {caption!r} is no text")
    for name, value in columns.items():
        if not name or _legible(name) != name:
            raise UsageError(f"{where}: a column is named {name!r}; give it a name of plain text")
        if not isinstance(value, Scalar) or not _fits(value):
            raise UsageError(
                f"{where}, column {name!r}: {type(value).__name__} {value!r}, but only text, "
                "64-bit numbers, true, false and null can be passed through"
            )
    path = video if is_url(video) else os.path.normpath(os.path.join(folder, video))
    return Source(path=path, caption=caption or None, columns=columns)


def _csv_rows(path: str) -> list[dict[str, Scalar]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows: list[dict[str, Any]] = list(reader)
    names = reader.fieldnames or []
    _check_names(path, names)
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise UsageError(f"{path}, row {number}: not the {len(names)} columns of the header")
    texts = {"video", "caption", "text"}
    typed = {name: _typed([row[name] for row in rows]) for name in names if name not in texts}
    return [row | {name: typed[name][i] for name in typed} for i, row in enumerate(rows)]


def _typed(texts: Sequence[str]) -> Sequence[Scalar]:
    """A CSV column as numbers if all its cells are numbers in JSON's grammar; empty is None.

    So ids with leading zeros stay text, and so do integers that do not fit 64 bits.
    """
    cells = [text or None for text in texts]
    if not all(_NUMBER.fullmatch(cell) for cell in cells if cell is not None):
        return cells
    values = [None if cell is None else json.loads(cell) for cell in cells]
    if any(type(value) is float for value in values):
        return [None if value is None else float(value) for value in values]
    return values if all(map(_fits, values)) else cells


def _fits(value: Scalar) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _json_rows(path: str) -> list[Any]:
    rows = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line, object_pairs_hook=_named_once))
            except (json.JSONDecodeError, _NamedTwice) as error:
                raise UsageError(f"{path}, line {number}: no JSON object: {error}") from error
    return rows


class _NamedTwice(ValueError):
    pass


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _NamedTwice(f"{_twice(names)} is named twice")
    return row


def _twice(names: Sequence[str]) -> str:
    return repr(next(name for name in names if names.count(name) > 1))


def _check_names(path: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: column {_twice(names)} is there twice; name each column once")


def _parquet_rows(path: str) -> list[Any]:
    import pyarrow
    from pyarrow import parquet

    try:
        _check_names(path, parquet.read_schema(path).names)
        return parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise UsageError(f"{path}: not readable as parquet: {error}") from error


def check_columns(sources: Iterable[Source]) -> None:
    """UsageError if a passed-through column holds text in one row and numbers in another.

    Or whole numbers that are not exact as fractions, beside fractions.
    """
    kinds: dict[str, tuple[type, str]] = {}
    large: dict[str, int] = {}
    fractions: set[str] = set()
    for source in sources:
        for name, value in source.columns.items():
            if value is None:
                continue
            kind = float if type(value) is int else type(value)
            seen, path = kinds.setdefault(name, (kind, source.path))
            if seen is not kind:
                raise UsageError(
                    f"column {name!r}: {value!r} for {source.path}, but {seen.__name__} for {path}"
                )
            if type(value) is float:
                fractions.add(name)
            elif type(value) is int and abs(value) > 2**53:
                large[name] = value
    for name in sorted(fractions & large.keys()):
        raise UsageError(
            f"column {name!r} holds fractions and {large[name]}, which is not exact as one: write "
            "such numbers as text"
        )


def with_sidecar_caption(source: Source) -> Source:
    """The source with the text of a `.txt` beside a local video, unless it has a caption."""
    beside = Path(source.path).with_suffix(".txt")  # of a URL, nothing that is there
    if source.caption is not None or not beside.is_file() or str(beside) == source.path:
        return source
    caption = beside.read_text(encoding="utf-8-sig", errors="replace").strip()
    return replace(source, caption=caption or None)
