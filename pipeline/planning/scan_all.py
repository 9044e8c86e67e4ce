"""Scanning the inputs on the cluster: those of which no result is kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from distributed import Client, KilledWorker
from jaxtyping import Int64

from pipeline.cluster import run_tasks
from pipeline.planning.clips import ClipRule
from pipeline.planning.config import ScanConfig
from pipeline.planning.scan import scan_video
from pipeline.planning.scanned_inputs import ScannedInputs
from pipeline.planning.scans import Scans, moved, scanned
from pipeline.records import Progress, Reject, Source
from pipeline.shots.detect import Detector
from pipeline.source.content import content_sha256
from pipeline.source.files import FileState, file_state, states_of
from pipeline.source.inputs import with_sidecar_caption
from shards import Store

PAUSES_S = (1.0, 5.0)  # before what failed is tried again


def scan_inputs(
    sources: Sequence[Source],
    missing: Sequence[Reject],
    store: Store,
    config: ScanConfig,
    client: Client,
    progress: Progress,
) -> tuple[ScannedInputs, dict[str, str]]:
    """The sources that could be scanned, those of which no result is kept in the store now.

    And why the others could not, by path; they are among the rejects.

    Args:
        sources, missing: what `find_sources` found, and what it did not.
    """
    scans = Scans(store, config.scan_settings)
    places, events = scan_all(sources, scans, config, client, partial(progress, "scan"))
    numbers = [number for number in range(len(sources)) if number not in events]
    inputs = ScannedInputs(
        sources=[with_sidecar_caption(sources[number]) for number in numbers],
        scans=scans,
        places=places[numbers],
        rejects=[*missing, *events.values()],
    ).settled()
    return inputs, {reject.path: reject.detail for reject in events.values()}


def scan_file(
    item: tuple[str, frozenset[str]], rule: ClipRule, detector: Detector
) -> tuple[FileState, pa.Table | str]:
    """On a worker: the state of a file, and its result, or its SHA-256 if that is a known one.

    Args:
        item: its path, and the SHA-256 of videos of its size that there is a result of.

    Raises:
        OSError, Event, MemoryError: see `scan_video`.
    """
    path, known = item
    state = file_state(path)
    if known and (sha256 := content_sha256(path)) in known:
        return state, sha256
    return state, scanned(scan_video(Source(path=path, caption=""), rule, detector=detector), state)


def scan_all(
    sources: Sequence[Source],
    scans: Scans,
    config: ScanConfig,
    client: Client,
    progress: Callable[[int, int], None],
) -> tuple[Int64[np.ndarray, " sources"], dict[int, Reject]]:
    """Where the result of each source is, -1 if there is none; and, by number, why there is none.

    An event of the environment (a file that is missing, a worker that died) is no result: it is
    tried again at once, and by the next run.
    """
    paths = [source.path for source in sources]
    states = states_of(paths)
    places = scans.places(list(zip(paths, map(str, states), strict=True)))
    missing = np.flatnonzero(places < 0).tolist()
    events: dict[int, Reject] = {}
    done = len(sources) - len(missing)

    def show(more: int) -> None:
        nonlocal done
        done += more
        progress(done, len(sources))

    show(0)
    for pause in (0.0, *PAUSES_S):
        if missing:
            time.sleep(pause)
            waiting = {number: (paths[number], states[number]) for number in missing}
            found, events = _scan_some(waiting, scans, config, client, show)
            states = [found.get(number, state) for number, state in enumerate(states)]
            missing = sorted(events)
    scans.flush()
    places = scans.places(list(zip(paths, map(str, states), strict=True)))
    places[missing] = -1
    return places, events


def _scan_some(
    files: Mapping[int, tuple[str, FileState | None]],
    scans: Scans,
    config: ScanConfig,
    client: Client,
    show: Callable[[int], None],
) -> tuple[dict[int, FileState], dict[int, Reject]]:
    """Scan files, which have numbers: the state in which each was, or the event."""
    known = scans.of_size({state.size for _, state in files.values() if state})
    items = [
        (path, known.get(state.size, frozenset()) if state else frozenset())
        for path, state in files.values()
    ]
    scan = partial(scan_file, rule=config.clip_rule, detector=config.shots)
    digests = sorted(frozenset().union(*known.values()))
    place_of = dict(zip(digests, scans.with_bytes(digests), strict=True))
    numbers = list(files)
    found: dict[int, FileState] = {}
    events: dict[int, Reject] = {}
    for index, result in run_tasks(client, scan, items):
        path, number = items[index][0], numbers[index]
        if isinstance(result, Exception):
            events[number] = event(path, result)
            continue
        found[number], row = result
        if isinstance(row, str):
            row = moved(scans.rows(np.array([place_of[row]])), path, found[number])
        scans.add(row)
        show(1)
    return found, events


def event(path: str, error: Exception) -> Reject:
    """A row that is no verdict on the video: the next run tries it again."""
    reasons: Mapping[type, str] = {FileNotFoundError: "missing", KilledWorker: "crashed"}
    reason = reasons.get(type(error), "event")
    detail = f"{type(error).__name__}: {error}; the next build tries it again"
    return Reject(
        path=path,
        sha256=None,
        stage="scan",
        reason=reason,
        detail=detail,
    )
