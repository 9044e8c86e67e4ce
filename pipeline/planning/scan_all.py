"""Scanning the inputs on the cluster: those of which no result is kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from distributed import Client, KilledWorker
from jaxtyping import Int64

from pipeline.cluster import run_tasks
from pipeline.planning.clips import ClipRule
from pipeline.planning.config import BuildConfig
from pipeline.planning.scan import scan_video
from pipeline.planning.scans import Scans, moved, scanned
from pipeline.records import Reject, Source
from pipeline.shots.detect import Detector
from pipeline.source.content import FileState, content_sha256, file_state

PAUSES_S = (1.0, 5.0)  # before what failed is tried again


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """A file that holds the bytes of a video that was scanned before."""

    sha256: str
    state: FileState


def scan_file(
    item: tuple[str, frozenset[str]], rule: ClipRule, detector: Detector
) -> pa.Table | Recognised:
    """On a worker: the result of one file, given SHA-256 of known videos of its size.

    Raises:
        OSError, Event, MemoryError: see `scan_video`.
    """
    path, known = item
    state = file_state(path)
    if known and (sha256 := content_sha256(path)) in known:
        return Recognised(sha256=sha256, state=state)
    scan = scan_video(Source(path=path, caption=""), rule, detector=detector)
    return scanned(scan, state)


def scan_all(
    sources: Sequence[Source],
    scans: Scans,
    config: BuildConfig,
    client: Client,
    progress: Callable[[int, int], None],
) -> tuple[Int64[np.ndarray, " sources"], dict[int, Reject]]:
    """Where the result of each source is, -1 if there is none; and, by number, why there is none.

    An event of the environment (a file that is missing, a worker that died) is no result: it is
    tried again at once, and by the next run.
    """
    states = [_state(source.path) for source in sources]
    places = scans.places([(s.path, f.state) for s, f in zip(sources, states, strict=True)])
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
            found, events = _scan_some(sources, states, missing, scans, config, client, show)
            states = [found.get(number, state) for number, state in enumerate(states)]
            missing = sorted(events)
    scans.flush()
    places = scans.places([(s.path, f.state) for s, f in zip(sources, states, strict=True)])
    places[missing] = -1
    return places, events


def _scan_some(
    sources: Sequence[Source],
    states: Sequence[FileState],
    numbers: Sequence[int],
    scans: Scans,
    config: BuildConfig,
    client: Client,
    show: Callable[[int], None],
) -> tuple[dict[int, FileState], dict[int, Reject]]:
    """Scan the sources of some numbers: the state in which each was, or the event."""
    known = scans.of_size({states[number].size for number in numbers})
    items = [(sources[n].path, known.get(states[n].size, frozenset())) for n in numbers]
    scan = partial(scan_file, rule=config.clip_rule, detector=config.shots)
    found: dict[int, FileState] = {}
    events: dict[int, Reject] = {}
    for index, result in run_tasks(client, scan, items):
        path, number = items[index][0], numbers[index]
        match result:
            case Recognised(sha256=sha256, state=state):
                place = scans.with_bytes([sha256])
                scans.add(moved(scans.rows(place), path, state))
            case pa.Table():
                state = FileState(**result.select(["size", "state"]).to_pylist()[0])
                scans.add(result)
            case error:
                events[number] = event(path, error)
                continue
        found[number] = state
        show(1)
    return found, events


def _state(path: str) -> FileState:
    try:
        return file_state(path)
    except OSError:  # the scan says what is wrong with it
        return FileState(size=-1, state="")


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
