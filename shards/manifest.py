"""The manifest of a dataset: what was made, of which settings, and the digest of every index."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Literal, Self

from shards.schema import FORMAT_VERSION
from shards.store import Store, UsageError

FILE = "manifest.json"
Maker = Mapping[str, str]  # what made something: versions, instruction set, device
MadeBy = Mapping[str, Iterable[Maker]]  # the clips, under `clips`, and layers


class NoDataset(UsageError, FileNotFoundError):
    """There is no dataset at the URL."""


class DamagedDataset(ValueError):
    """The bytes of a dataset are not those that were written; the message says which."""


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256_of(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def content_name(folder: str, number: int, data: bytes) -> str:
    """The name of a Parquet file after its bytes: another content never takes its place."""
    return f"{folder}/{number:06d}-{sha256_of(data)[:16]}.parquet"


def is_named_after(name: str, data: bytes) -> bool:
    """Whether these are the bytes that a file got its `content_name` from."""
    return PurePath(name).stem.partition("-")[2] == sha256_of(data)[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One shard of the clips.

    Attributes:
        clips: how many there are.
        sha256: of its clip Parquet.
        url, name: the dataset that owns the files, and the shard's name there, where this dataset
            only refers to them (a merged one); else None.
    """

    clips: int
    sha256: str
    url: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One flow layer.

    Attributes:
        name: the folder under `flow/`.
        spec: JSON of what its fields were made by.
        shards: SHA-256 of its Parquet file for each shard.
    """

    name: str
    spec: Mapping[str, Any]
    shards: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} (from clips)" if self.spec.get("frames_from") == "clip" else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What `manifest.json` says; docs/format.md explains it for other readers.

    Attributes:
        state: `complete` when all shards of the plan are committed.
        config: JSON of the settings that decide the bytes.
        inputs: digest of the inputs' paths, bytes, captions and columns; None before they are
            planned, and in a merged dataset.
        shards, layers: by name, in the order of the dataset.
        merged: URLs of the datasets that a merged one refers to; in the file relative to it, where
            they can move with it (`merge`), else absolute.
        tables: SHA-256 of the tables beside it.
        settled: how many files of the plan a finished build has left: later inputs add to them.
        made_by: versions, instruction set and device of all that made the clips, under `clips`, and
            each layer. No other digest than that of the manifest depends on it.
    """

    state: Literal["building", "complete"]
    config: Mapping[str, Any]
    inputs: str | None = None
    shards: Mapping[str, Shard] = field(default_factory=dict)
    layers: Mapping[str, Layer] = field(default_factory=dict)
    merged: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    settled: int = 0
    made_by: Mapping[str, tuple[Maker, ...]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of its whole content."""
        return sha256_of(canonical_json(self._content()))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads, with its digest."""
        return {**self._content(), "digest": self.digest}

    def _content(self) -> dict[str, Any]:
        content = {
            "format": FORMAT_VERSION,
            "state": self.state,
            "config": dict(self.config),
            "shards": {name: _given(asdict(shard)) for name, shard in self.shards.items()},
            "layers": {
                layer.name: {"spec": dict(layer.spec), "shards": dict(layer.shards)}
                for layer in self.layers.values()
            },
            "tables": dict(self.tables),
        }
        optional = {
            "inputs": self.inputs,
            "settled": self.settled,
            "merged": list(self.merged),
            "made_by": {name: list(makers) for name, makers in self.made_by.items()},
        }
        return content | {name: value for name, value in optional.items() if value}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The manifest that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is no manifest, or its digest is not of its content.
        """
        signed = {name: value for name, value in content.items() if name != "digest"}
        if content["digest"] != sha256_of(canonical_json(signed)):
            raise ValueError("its digest does not match its content")
        return cls(
            state=content["state"],
            config=content["config"],
            inputs=content.get("inputs"),
            shards={name: Shard(**facts) for name, facts in content.get("shards", {}).items()},
            layers={name: Layer(name=name, **f) for name, f in content.get("layers", {}).items()},
            merged=tuple(content.get("merged", ())),
            tables=content.get("tables", {}),
            settled=content.get("settled", 0),
            made_by={name: tuple(m) for name, m in content.get("made_by", {}).items()},
        )

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the Parquet of every shard and layer, by its name without suffix."""
        clips = {f"clips/{name}": shard.sha256 for name, shard in self.shards.items()}
        return clips | {
            f"flow/{layer.name}/{name}": digest
            for layer in self.layers.values()
            for name, digest in layer.shards.items()
        }

    def referring(self, write: Callable[[str], str]) -> Self:
        """The same, with the URLs of other datasets written in another way."""
        shards = {
            name: shard if shard.url is None else replace(shard, url=write(shard.url))
            for name, shard in self.shards.items()
        }
        return replace(self, shards=shards, merged=tuple(map(write, self.merged)))


def all_makers(parts: Iterable[MadeBy]) -> dict[str, tuple[Maker, ...]]:
    """What made the same clips or layers, by name: each maker once, in an order of their own."""
    told: dict[str, dict[bytes, Maker]] = {}
    for name, makers in (item for part in parts for item in part.items()):
        told.setdefault(name, {}).update({canonical_json(maker): maker for maker in makers})
    return {name: tuple(m[key] for key in sorted(m)) for name, m in told.items() if m}


def _given(facts: dict[str, Any]) -> dict[str, Any]:
    """Without what is None."""
    return {name: value for name, value in facts.items() if value is not None}


def write_manifest(store: Store, manifest: Manifest) -> None:
    """Write `manifest.json` atomically, with the digest of its own content."""
    text = json.dumps(manifest.to_json(), indent=1, sort_keys=True) + "\n"
    store.write(FILE, text.encode())


def read_manifest(store: Store) -> Manifest:
    """Read `manifest.json`; other datasets are in it under URLs that open from anywhere.

    Raises:
        NoDataset: there is none.
        DamagedDataset: it is not what was written.
        UsageError: it is of a format that this version cannot read.
    """
    try:
        content = json.loads(store.read(FILE))
    except (FileNotFoundError, NotADirectoryError):
        raise NoDataset(f"{store.url} holds no dataset: {FILE} is missing") from None
    except ValueError as error:
        raise DamagedDataset(f"{store.at(FILE)} is damaged: {error}") from error
    if isinstance(content, dict) and content.get("format", FORMAT_VERSION) != FORMAT_VERSION:
        raise UsageError(
            f"{store.url} has format {content['format']}, this version reads {FORMAT_VERSION}; "
            "use the version of fluxshard that wrote it"
        )
    try:
        return Manifest.from_json(content).referring(partial(_from, store))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedDataset(f"{store.at(FILE)} is damaged: {error}") from error


def _from(store: Store, url: str) -> str:
    """Where something is that a manifest of a store calls `url`."""
    if not store.is_local or "://" in url or os.path.isabs(url):
        return url
    return os.path.normpath(Path(store.url).resolve() / url)
