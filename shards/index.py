"""A dataset opened for reading: its manifest, its clip rows, its flow layers."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.schema import FORMAT_VERSION
from shards.store import join, read_bytes, write_bytes


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_manifest(url: str, manifest: dict[str, Any]) -> None:
    """Write `manifest.json` atomically, with the digest of its own content."""
    body = {**_unsigned(manifest), "format": FORMAT_VERSION}
    signed = {**body, "digest": sha256(canonical_json(body))}
    text = json.dumps(signed, indent=1, sort_keys=True) + "\n"
    write_bytes(join(url, "manifest.json"), text.encode())


def read_manifest(url: str) -> dict[str, Any]:
    """Read `manifest.json`.

    Raises:
        FileNotFoundError: there is no dataset at `url`.
        ValueError: the manifest is damaged, or of a format that this version cannot read.
    """
    try:
        manifest = json.loads(read_bytes(join(url, "manifest.json")))
        intact = manifest["digest"] == sha256(canonical_json(_unsigned(manifest)))
    except FileNotFoundError:
        raise FileNotFoundError(f"{url} holds no dataset: manifest.json is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{url}/manifest.json is damaged: {error}") from error
    if not intact:
        raise ValueError(f"{url}/manifest.json is damaged: its digest does not match its content")
    if manifest["format"] != FORMAT_VERSION:
        raise ValueError(
            f"{url} has format {manifest['format']}, this version reads {FORMAT_VERSION}; "
            "use the version of fluxshard that wrote it"
        )
    return manifest


def read_table(url: str) -> pa.Table:
    """A Parquet file, local or remote."""
    return pq.read_table(pa.BufferReader(read_bytes(url)))


def read_index(url: str, digest: str, columns: list[str]) -> pa.Table:
    """Some columns of a Parquet file whose SHA-256 is known; ValueError if it is another file."""
    data = read_bytes(url)
    if sha256(data) != digest:
        raise ValueError(f"{url} is not the file that was written")
    return pq.read_table(pa.BufferReader(data), columns=columns)


def shard_place(url: str, manifest: dict[str, Any], shard: str) -> tuple[str, str]:
    """The dataset that owns a shard, and the shard's name there: a merged one owns none."""
    entry = manifest["shards"][shard]
    return entry.get("url", url), entry.get("name", shard)


def _unsigned(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key != "digest"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One flow layer: the folder under `flow/` and the spec that its fields were made by."""

    name: str
    spec: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name} (from clips)" if self.spec.get("frames_from") == "clip" else self.name


class Dataset:
    """The index of a complete dataset; reads Parquet files only, no media.

    Attributes:
        url: folder or fsspec URL.
        manifest: the content of manifest.json.
        clips: one row a clip, `schema.CLIP_TABLE`, the user's columns and the members' places.
    """

    def __init__(self, url: str) -> None:
        self.url = str(url)
        self.manifest = read_manifest(self.url)
        if self.manifest["state"] != "complete":
            raise ValueError(f"the build of {url} has not finished; run the same command again")
        if not self.shards:
            raise ValueError(f"{url} holds no clips; rejects.parquet says why inputs were refused")
        self.clips = self._concatenate("clips")

    @property
    def shards(self) -> list[str]:
        return list(self.manifest["shards"])

    @property
    def shard_rows(self) -> tuple[int, ...]:
        return tuple(shard["clips"] for shard in self.manifest["shards"].values())

    @cached_property
    def digest(self) -> str:
        """Identity of the clips: equal for two datasets that stream the same rows."""
        hashes = [shard["sha256"] for shard in self.manifest["shards"].values()]
        return sha256(canonical_json(hashes))

    def layer(self, name: str | None = None) -> Layer:
        """The flow layer called `name`: an estimator, or the start of a layer's name or digest.

        Raises:
            ValueError: no layer fits, or several do; the message lists what there is.
        """
        layers = [Layer(name=k, spec=v["spec"]) for k, v in self.manifest["layers"].items()]
        wanted = name or ""
        found = [
            layer
            for layer in layers
            if layer.name.startswith(wanted)
            or layer.name.rpartition("-")[2].startswith(wanted)
            or layer.spec["estimator"] == wanted
        ]
        if len(found) != 1:
            listed = ", ".join(map(str, layers)) or "none"
            problem = "is ambiguous" if found else "does not exist"
            raise ValueError(
                f"flow layer {name or '(any)'!r} {problem} in {self.url}; layers there: {listed}. "
                "Name one by its estimator or the start of its digest"
            )
        return found[0]

    def fields(self, layer: Layer) -> pa.Table:
        """The layer's rows, in the order of `clips`; ValueError if they do not match the clips."""
        table = self._concatenate(join("flow", layer.name))
        if table["key"] != self.clips["key"]:
            raise ValueError(
                f"layer {layer.name} does not hold the clips of {self.url}; rebuild it"
            )
        return table

    def stem(self, folder: str, shard: str) -> str:
        """URL of a shard's files without suffix; `folder` is `clips` or `flow/LAYER`."""
        owner, name = shard_place(self.url, self.manifest, shard)
        return join(owner, folder, name)

    def tar_url(self, folder: str, shard: str) -> str:
        """The tar of one shard."""
        return f"{self.stem(folder, shard)}.tar"

    def _concatenate(self, folder: str) -> pa.Table:
        tables = [read_table(f"{self.stem(folder, shard)}.parquet") for shard in self.shards]
        return pa.concat_tables(tables, promote_options="permissive")
