"""`fluxshard scan`."""

from typing import Annotated

from tyro.conf import Positional, arg

from fluxshard.arguments import Workers, check_writable, writing
from pipeline.planning.config import ScanConfig


def scan(
    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="SRC... OUT")],
    /,
    config: Annotated[ScanConfig, arg(name="")] = ScanConfig(),  # noqa: B008 - frozen
    workers: Annotated[Workers, arg(name="")] = Workers(),  # noqa: B008 - frozen
    strict: bool = False,
    allow_failed: bool = False,
) -> int:
    """Find the clips of videos, as a table to filter, sort or edit before a build.

    Writes OUT/clips.parquet, a row for each clip, for `fluxshard build --clips`, and to
    OUT/rejects.parquet why other videos give none. Run it again after an interruption, or with more
    videos: it scans what it has not seen. Exits with 0 when all could be scanned, 1 when a video
    could not be read or there is no clip at all.

    Args:
        paths: videos, folders, globs, URLs, or CSV / JSONL / Parquet manifests with a `video`
            column; last, the folder or URL to write to.
        strict: exit with 1 if any input was refused.
        allow_failed: write the table without the videos that cannot be read now, and exit with 1
            all the same.
    """
    from fluxshard.commands.build import check_paths
    from fluxshard.terminal import print_rejects, print_unscanned, progress_bars, say
    from pipeline.planning.scan_all import scan_inputs
    from pipeline.planning.scanned_inputs import check_folder, write_scan
    from pipeline.source.inputs import find_sources
    from shards import Store, UsageError

    check_paths(paths, "scan")
    *inputs, out = paths
    sources, missing = find_sources(inputs)
    store = Store(out)
    if store.exists("manifest.json"):
        raise UsageError(f"{out} holds a dataset; give a folder of its own for the table of clips")
    check_folder(store)
    config.to_json()  # refuses a detector that is not installed before anything is decoded
    check_writable(out)
    with writing(out), workers.cluster(out) as client, progress_bars() as show:
        store.remove_unfinished()
        scanned, unscanned = scan_inputs(sources, missing, store, config, client, show)
        written = allow_failed or not unscanned
        clips, rejects = write_scan(store, scanned, config) if written else (0, scanned.rejects)
    print_rejects(rejects)
    print_unscanned(unscanned)
    if not written:
        say("nothing is written: run it again, or with --allow-failed to do without these")
    total = len(sources) + len(missing)
    say(f"inputs: {total}, rejects: {len(rejects)}, clips: {clips} → {out}")
    return int(bool(unscanned or not clips or (strict and rejects)))
