"""The made-up world of `scale.py`: scans, shards and clips of videos that hold nothing."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flow_cache import level_pairs
from pipeline import BuildConfig, flow_specs
from pipeline.building.layer_writer import _SCHEMA as FLOW_COLUMNS
from pipeline.planning.scans import SCANNED, Scans, of_state
from pipeline.source.files import file_state
from shards import Layer, Manifest, Shard, Store, table_bytes, write_manifest
from shards.manifest import sha256_of
from shards.schema import CLIP_MEMBERS, CLIP_TABLE, member_columns, shard_name

CLIPS, FRAMES, PART = 10, 17, 1024  # clips a video, slots a clip, videos in a part of the scans
DIFFERENT = 32  # shards; more would fill the disk and tell nothing else


def digest_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def clip_rows(folder: str, first: int, videos: int, clips: int = CLIPS) -> pa.Table:
    """Clips of some videos as scans tell them: all columns of the clip table."""
    count, rng = videos * clips, np.random.default_rng(first)
    video = [number for number in range(first, first + videos) for _ in range(clips)]
    place = np.tile(np.arange(clips), videos)
    digests = {number: digest_of(number) for number in range(first, first + videos)}
    numbers = (place[:, None] * 25 + np.arange(FRAMES)).ravel()
    ends = pa.array(np.arange(count + 1) * FRAMES, pa.int32())
    given: dict[str, Any] = {
        "key": [f"video_{v}-{digests[v][:12]}-{n:05d}" for v, n in zip(video, place, strict=True)],
        "path": [path_of(folder, v) for v in video],
        "source_sha256": [digests[v] for v in video],
        "numbers": pa.ListArray.from_arrays(ends, pa.array(numbers, pa.int32())),
        "pts": pa.ListArray.from_arrays(ends, pa.array(numbers * 512)),
        "shot": place // 3,
        "caption": [f"made-up caption of video {v}, some words long" for v in video],
        "letterbox": rng.random(count).round(3),
        "static": rng.random(count).round(3),
        "phash": [f"{n:016x}" for n in rng.integers(0, 2**62, count)],
    }
    fixed: dict[str, Any] = {
        "shard": 0,
        "time_base_num": 1,
        "time_base_den": 12800,
        "fps_num": 25,
        "fps_den": 1,
    }
    fixed |= {"frames": FRAMES, "height": 256, "width": 384, "repeated": 0, "decode_errors": 0}
    fixed |= {"seekable": True, "codec": "h264", "transfer": 1, "interlaced": False}
    columns = [given.get(name, [fixed.get(name)] * count) for name in CLIP_TABLE.names]
    arrays = [pa.array(c).cast(kind) for c, kind in zip(columns, CLIP_TABLE.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=CLIP_TABLE)


def path_of(folder: str, number: int) -> str:
    return f"{folder}/videos/{number // 1000:06d}/video_{number:08d}.mp4"


def write_scans(folder: str, videos: int, each: int = CLIPS) -> None:
    """Empty videos, and their results as if scanned."""
    scans = Scans(Store(f"{folder}/dataset"), BuildConfig(flow="none").scan_settings)
    struct = SCANNED.field("clips").type.value_type
    at_once = max(1, min(PART, 16_384 // each))  # as `Scans` writes them
    for first in range(0, videos, at_once):
        count = min(at_once, videos - first)
        paths = [path_of(folder, number) for number in range(first, first + count)]
        for path in paths:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
        clips = clip_rows(folder, first, count, each)
        arrays = [clips[field.name].combine_chunks() for field in struct]
        lists = pa.ListArray.from_arrays(
            pa.array(np.arange(count + 1) * each, pa.int32()),
            pa.StructArray.from_arrays(arrays, fields=list(struct)),
        )
        states = [of_state(file_state(path)) for path in paths]
        facts: dict[str, Any] = {
            "path": paths,
            "source_sha256": [digest_of(first + n) for n in range(count)],
        }
        facts |= {name: [state[name] for state in states] for name in ("size", "state")}
        nulls = {name: pa.nulls(count, pa.string()) for name in ("stage", "reason", "detail")}
        scans.add(pa.table({**facts, **nulls, "clips": lists}).select(SCANNED.names).cast(SCANNED))
        scans.flush()


def write_index(folder: str, videos: int, per_shard: int) -> None:
    """A dataset without tars: its manifest, and the Parquet files of clips and a flow layer."""
    (spec,) = flow_specs(BuildConfig(flow="dis"))
    store, count = Store(folder), -(-videos * CLIPS // per_shard)
    pairs = np.array(level_pairs(FRAMES, spec.levels, spec.directions))
    made: list[dict[str, tuple[Path, str]]] = []
    for n in range(min(DIFFERENT, count)):
        clips = clip_rows(folder, n * per_shard, -(-per_shard // CLIPS)).slice(0, per_shard)
        tables = {"clips": with_places(clips), f"flow/{spec.layer}": flow_rows(clips, pairs)}
        made.append({})
        for where, table in tables.items():
            data, name = table_bytes(table.combine_chunks()), f"made/{where}/{n}.parquet"
            store.write(name, data)
            made[-1][where] = Path(folder, name), sha256_of(data)
    shards: dict[str, Shard] = {}
    layer: dict[str, str] = {}
    for n in range(count):
        for where, (path, _) in made[n % DIFFERENT].items():
            link = Path(folder, where, f"{shard_name(n)}.parquet")
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
        (_, clips_sha), (_, flow_sha) = made[n % DIFFERENT].values()
        shards[shard_name(n)] = Shard(clips=per_shard, sha256=clips_sha)
        layer[shard_name(n)] = flow_sha
    layers = {spec.layer: Layer(name=spec.layer, spec=spec.to_json(), shards=layer)}
    config = {"size": [256, 384], "frames": FRAMES}
    write_manifest(store, Manifest(state="complete", config=config, shards=shards, layers=layers))


def with_places(clips: pa.Table) -> pa.Table:
    """With the columns that say where members are."""
    rng = np.random.default_rng(len(clips))
    for field in member_columns(CLIP_MEMBERS):
        clips = clips.append_column(field, pa.array(rng.integers(0, 2**31, len(clips)), field.type))
    return clips


def flow_rows(clips: pa.Table, pairs: np.ndarray) -> pa.Table:
    """The rows of a flow layer that belongs to the clips."""
    count, each, rng = len(clips), len(pairs), np.random.default_rng(len(clips))
    ends = pa.array(np.arange(count + 1) * each, pa.int32())
    sizes = rng.integers(20_000, 60_000, count * each)
    lists = {"pair_source": np.tile(pairs[:, 0], count), "pair_target": np.tile(pairs[:, 1], count)}
    lists |= {"field_offset": np.cumsum(sizes), "field_size": sizes}
    lists |= {"field_crc32": rng.integers(0, 2**32, count * each)}
    columns: dict[str, Any] = {
        n: clips[n].combine_chunks() for n in ("key", "source_sha256", "pts")
    }
    for field in FLOW_COLUMNS:
        if field.name in lists:
            values = pa.array(lists[field.name]).cast(field.type.value_type)
            columns[field.name] = pa.ListArray.from_arrays(ends, values)
        elif field.name not in columns:
            columns[field.name] = pa.array(rng.integers(1, 2**31, count)).cast(field.type)
    return pa.table({field.name: columns[field.name] for field in FLOW_COLUMNS})
