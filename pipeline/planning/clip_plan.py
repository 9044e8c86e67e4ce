"""The clip table of a dataset: scan the inputs, keep what was planned, append what is new."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from distributed import Client

from pipeline.cluster import run_tasks
from pipeline.planning.clip_table import clip_table, reject_table, rejects_of_table
from pipeline.planning.config import BuildConfig
from pipeline.planning.scan import Scan, reject_duplicates, scan_video
from pipeline.records import Reject, Source
from pipeline.source.inputs import with_sidecar_caption
from shards import Store, read_table, table_bytes
from shards.manifest import canonical_json, sha256_of

CLIPS_FILE, REJECTS_FILE = "clips.parquet", "rejects.parquet"

Progress = Callable[[str, int, int], None]  # stage, done, total


def inputs_digest(sources: Sequence[Source], rejects: Sequence[Reject]) -> str:
    """Changes whenever the inputs do: their paths, sizes, times, captions or columns."""
    files = [with_sidecar_caption(source) for source in sources]
    states = [os.stat(file.path) for file in files]
    listing = [
        [asdict(file), state.st_size, state.st_mtime_ns]
        for file, state in zip(files, states, strict=True)
    ]
    return sha256_of(canonical_json([listing, [asdict(reject) for reject in rejects]]))


def plan_dataset(
    sources: Sequence[Source],
    missing: Sequence[Reject],
    store: Store,
    config: BuildConfig,
    client: Client,
    progress: Progress,
    *,
    afresh: bool = False,
) -> dict[str, bytes]:
    """Scan the videos; returns `clips.parquet` and `rejects.parquet`, to be written.

    Clips that an earlier build planned keep their rows and shards; new ones go to new shards.

    Args:
        afresh: as if no earlier build had planned any.
    """
    scans = scan_all(sources, config, client, progress)
    planned = store.exists(CLIPS_FILE) and not afresh
    table, rejects = read_plan(store) if planned else (None, [])
    table, added = extend_plan(table, scans, config)
    named = {source.path for source in sources} | {reject.path for reject in missing}
    rejects = [reject for reject in rejects if reject.path not in named] + [*missing, *added]
    return {REJECTS_FILE: table_bytes(reject_table(rejects)), CLIPS_FILE: table_bytes(table)}


def damaged_tables(store: Store, recorded: Mapping[str, str]) -> list[str]:
    """Those of the recorded tables that are gone or have another SHA-256."""
    return [name for name, digest in recorded.items() if digest_of(store, name) != digest]


def digest_of(store: Store, name: str) -> str | None:
    """SHA-256 of a file; None if it is absent."""
    try:
        return sha256_of(store.read(name))
    except FileNotFoundError:
        return None


def read_plan(store: Store) -> tuple[pa.Table, list[Reject]]:
    """The clips and rejects that were planned, without what was rejected while building shards."""
    clips, rejects = (read_table(store, name) for name in (CLIPS_FILE, REJECTS_FILE))
    return clips, [reject for reject in rejects_of_table(rejects) if reject.stage != "build"]


def scan_all(
    sources: Sequence[Source], config: BuildConfig, client: Client, progress: Progress
) -> list[Scan]:
    """One result for each video, in their order."""
    scan = partial(scan_video, rule=config.clip_rule, detector=config.shots)
    results: dict[int, Scan] = {}
    progress("scan", 0, len(sources))
    for index, result in run_tasks(client, scan, sources):
        if isinstance(result, Exception):
            result = _crashed(sources[index], result)
        results[index] = result
        progress("scan", len(results), len(sources))
    return [results[index] for index in range(len(sources))]


def _crashed(source: Source, error: Exception) -> Reject:
    detail = f"the worker process died or failed on it: {type(error).__name__}: {error}"
    return Reject(path=source.path, sha256=None, stage="scan", reason="crashed", detail=detail)


def extend_plan(
    table: pa.Table | None, scans: Sequence[Scan], config: BuildConfig
) -> tuple[pa.Table, list[Reject]]:
    """The table with the clips that are new in it, and the rejects among the scans; pure."""
    known: dict[str, str] = {}
    if table is not None:
        known = dict(
            zip(table["source_sha256"].to_pylist(), table["path"].to_pylist(), strict=True)
        )
    scans = reject_duplicates(scans, known)
    clips = [clip for scan in scans if not isinstance(scan, Reject) for clip in scan[1]]
    rejects = [scan for scan in scans if isinstance(scan, Reject)]
    if table is None:
        return clip_table(clips, config.clips_per_shard), rejects
    planned = set(table["key"].to_pylist())
    new = [clip for clip in clips if clip.key not in planned]
    first_shard = (pc.max(table["shard"]).as_py() or 0) + 1 if len(table) else 0
    added = clip_table(new, config.clips_per_shard, first_shard=first_shard)
    return pa.concat_tables([table, added], promote_options="permissive"), rejects
