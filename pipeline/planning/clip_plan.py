"""The clip table of a dataset: scan the inputs, keep what is stored, plan the rest anew."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import PurePath

import pyarrow as pa
import pyarrow.compute as pc
from distributed import Client

from pipeline.cluster import run_tasks
from pipeline.planning.clip_table import clip_table, reject_table, rejects_of_table, users_columns
from pipeline.planning.config import BuildConfig
from pipeline.planning.scan import Scan, reject_duplicates, scan_video
from pipeline.records import Reject, Source
from pipeline.source.files import states_of
from pipeline.source.inputs import with_sidecar_caption
from shards import (
    Clip,
    Store,
    check_agreement,
    clips_of,
    read_manifest,
    read_table,
    table_bytes,
)
from shards.manifest import canonical_json, sha256_of
from shards.schema import Scalar, shard_name

CLIPS_FILE, REJECTS_FILE = "clips.parquet", "rejects.parquet"

Progress = Callable[[str, int, int], None]  # stage, done, total


def inputs_digest(sources: Sequence[Source], rejects: Sequence[Reject]) -> str:
    """Changes whenever the inputs do: their paths, sizes, times, captions or columns."""
    files = [with_sidecar_caption(source) for source in sources]
    states = states_of([file.path for file in files])
    listing = [[asdict(file), *state] for file, state in zip(files, states, strict=True)]
    return sha256_of(canonical_json([listing, [asdict(reject) for reject in rejects]]))


def check_new_columns(sources: Sequence[Source], store: Store) -> None:
    """UsageError if a column was text when the dataset was planned and is numbers now, say."""
    if store.exists(CLIPS_FILE):
        new = users_columns([source.columns for source in sources])
        stored = read_table(store, CLIPS_FILE)
        check_agreement([(store.url, stored), ("the new inputs", new)])


def plan_dataset(
    sources: Sequence[Source],
    missing: Sequence[Reject],
    store: Store,
    config: BuildConfig,
    client: Client,
    progress: Progress,
    *,
    afresh: bool = False,
) -> tuple[dict[str, bytes], frozenset[str]]:
    """Scan the videos; returns `clips.parquet` and `rejects.parquet`, to be written; and warnings.

    Clips of committed shards keep their rows, see `extend_plan`. A warning is a sentence for each
    video whose new caption or columns stay out of the dataset.

    Args:
        afresh: as if no earlier build had planned or stored any.

    Raises:
        UsageError: a column that held text when the dataset was planned holds numbers now, say.
    """
    if not afresh:
        check_new_columns(sources, store)
    scans = scan_all(sources, config, client, progress)
    planned = store.exists(CLIPS_FILE) and not afresh
    table, rejects = read_plan(store) if planned else (None, [])
    before = table
    committed = committed_shards(store) if planned else set()
    table, added = extend_plan(table, scans, config, committed)
    if before is not None:
        _forget(store, {*before["shard"].to_pylist()} - {*table["shard"].to_pylist()})
    named = {source.path for source in sources} | {reject.path for reject in missing}
    named |= {str(folder) for path in named for folder in PurePath(path).parents}  # now readable
    rejects = [reject for reject in rejects if reject.path not in named] + [*missing, *added]
    files = {REJECTS_FILE: table_bytes(reject_table(rejects)), CLIPS_FILE: table_bytes(table)}
    warnings = frozenset(
        f"{path}: its caption or columns have changed, but its clips are built: those that are "
        "stored stay. A new dataset takes the new ones, and copies the flow of this one"
        for path in outdated(table, scans, committed)
    )
    return files, warnings


def damaged_tables(store: Store, recorded: Mapping[str, str]) -> list[str]:
    """Those of the recorded tables that are gone or have another SHA-256."""
    return [name for name, digest in recorded.items() if digest_of(store, name) != digest]


def digest_of(store: Store, name: str) -> str | None:
    """SHA-256 of a file; None if it is absent."""
    try:
        return sha256_of(store.read(name))
    except FileNotFoundError:
        return None


def outdated(table: pa.Table, scans: Sequence[Scan], committed: Collection[int]) -> set[str]:
    """Paths of the videos of which committed clips have another caption or other columns now.

    These are part of the shard's bytes; what is not committed is planned with the new ones.
    """
    given = {clip.key: clip for s in scans if not isinstance(s, Reject) for clip in s[1]}
    rows = zip(clips_of(table), table["shard"].to_pylist(), strict=True)
    stored = [clip for clip, shard in rows if shard in committed and clip.key in given]
    return {clip.path for clip in stored if _told(clip) != _told(given[clip.key])}


def _told(clip: Clip) -> tuple[str, dict[str, Scalar]]:
    return clip.caption, {name: v for name, v in clip.columns.items() if v is not None}


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
    detail = f"it could not be scanned: {type(error).__name__}: {error}"
    return Reject(path=source.path, sha256=None, stage="scan", reason="crashed", detail=detail)


def committed_shards(store: Store) -> set[int]:
    """Shards whose clips are stored, and those that the manifest says are, whatever was lost."""
    files = [PurePath(name) for name in store.files("clips")]
    stored = [file.stem for file in files if file.suffix == ".parquet"]
    return {int(name) for name in (*stored, *read_manifest(store).shards)}


def _forget(store: Store, shards: Collection[int]) -> None:
    """Delete what interrupted attempts left of shards that are not planned any more."""
    names = {shard_name(shard) for shard in shards}
    for folder in ("clips", "flow") if names else ():
        for file in store.files(folder):
            if PurePath(file).stem in names:
                store.delete(file)


def extend_plan(
    table: pa.Table | None,
    scans: Sequence[Scan],
    config: BuildConfig,
    committed: Collection[int] = (),
) -> tuple[pa.Table, list[Reject]]:
    """The clips of the inputs as they are now, and the rejects among the scans; pure.

    Rows of committed shards stay: their clips are stored. The rest is planned anew, as on the first
    run, into the shards that are free: what a video held before it changed is gone from the plan,
    and comes back to the same place with the video.

    Args:
        table: what was planned before.
        committed: numbers of its shards that are stored.
    """
    empty = clip_table([], config.clips_per_shard)
    if table is None:
        table = empty
    is_stored = pc.is_in(table["shard"], pa.array(sorted(committed), pa.int32()))
    stored = table.filter(is_stored)
    kept = _unseen(clips_of(table.filter(pc.invert(is_stored))), scans)
    sources = zip(stored["source_sha256"].to_pylist(), stored["path"].to_pylist(), strict=True)
    known = {**dict(sources), **{clip.source_sha256: clip.path for clip in kept}}
    scans = reject_duplicates(scans, known)
    keys = set(stored["key"].to_pylist())
    new = [clip for clip in _in_order(kept, scans) if clip.key not in keys]
    added = clip_table(new, config.clips_per_shard, taken=set(committed))
    # First comes what was never in a file: reading one changes details of the types.
    grown = pa.concat_tables([empty, stored, added], promote_options="permissive")
    paths = {clip.path for clip in kept}
    rejects = [scan for scan in scans if isinstance(scan, Reject) and scan.path not in paths]
    return grown.sort_by("shard").combine_chunks(), rejects


def _unseen(waiting: Sequence[Clip], scans: Sequence[Scan]) -> list[Clip]:
    """Planned clips that the scans say nothing of: neither their video's path nor its bytes.

    A reject says nothing of them either unless it knows that the video is another now.
    """
    videos = {scan[0].sha256 for scan in scans if not isinstance(scan, Reject)}
    now = {scan.path: scan.sha256 for scan in (s if isinstance(s, Reject) else s[0] for s in scans)}
    return [
        clip
        for clip in waiting
        if clip.source_sha256 not in videos and now.get(clip.path) in (None, clip.source_sha256)
    ]


def _in_order(kept: Sequence[Clip], scans: Sequence[Scan]) -> list[Clip]:
    """Clips of videos that are not among the scans, then, video by video, of those that are."""
    of_video: dict[str, list[Clip]] = {}
    for clip in kept:
        of_video.setdefault(clip.path, []).append(clip)
    scanned = [
        of_video.pop(scan.path, ()) if isinstance(scan, Reject) else scan[1] for scan in scans
    ]
    return [clip for clips in (*of_video.values(), *scanned) for clip in clips]
