"""Whether the workers of a cluster can do a job: what is installed there, and what they see.

A dataset's bytes depend on versions, and its files must be the same for all. Nothing is imported
here that a worker could lack: what is missing there is named.
"""

import hashlib
import math
import platform
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from shards import Store, UsageError
from shards.store import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from distributed import Client

OUR_CODE = "fluxshard's code"
_ROOMS = ("shards", "flow_cache", "pipeline")  # what runs on workers
_PACKAGES = ("torch", "pyarrow", "zstandard", "numpy")
_MODULES = {"PyAV": ("av", "__version__"), "FFmpeg": ("av", "ffmpeg_version_info")}
_MODULES |= {"OpenCV": ("cv2", "__version__")}
JOIN_S = 300.0  # how long to wait for a worker to join where there is none
LOOK_S = 1.0  # between looks at who has joined and left
_SHOWN = 5  # workers in a message


class ClusterLost(RuntimeError):
    """There is no scheduler any more, or no worker comes; what is built stays."""


@cache
def environment() -> dict[str, str]:
    """Versions here of all that decides the bytes of a dataset, by name."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2]), OUR_CODE: _code()}
    return found | {name: version_of(name) for name in (*_PACKAGES, *_MODULES)}


def version_of(name: str) -> str:
    """Of a package, or of what a package brings along."""
    try:
        if name in _MODULES:
            module, attribute = _MODULES[name]
            return str(getattr(import_module(module), attribute))
        return version(name).partition("+")[0]  # torch's, of the device it is for
    except (ImportError, PackageNotFoundError):
        return "not installed"


def _code() -> str:
    """A digest of our own files: a checkout has the version of the last release."""
    home, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for path in sorted(path for room in _ROOMS for path in (home / room).rglob("*.py")):
        digest.update(f"{path.relative_to(home)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Crew:
    """The workers of a cluster as they come and go.

    Args:
        tell: is told when there is none.

    Attributes:
        threads: how many tasks they run at once.

    Raises:
        UsageError: one that joined is not fit for the job (`check_workers`).
        ClusterLost: there has been none for `JOIN_S`. On this machine they always come back.
    """

    def __init__(self, client: "Client", tell: Callable[[str], None]) -> None:
        self._client, self._tell, self._known = client, tell, set[str]()
        self._looked, self._empty_since = -math.inf, math.inf
        self.threads = 0
        self.look()

    def look(self) -> None:
        """Who is there now; at most once in a while."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        found = self._client.nthreads()
        self.threads = sum(found.values())
        if self._client.cluster is not None:
            return
        if new := found.keys() - self._known:
            check_workers(self._client, new)
            self._known |= new
        if found:
            self._empty_since = math.inf
        else:
            self._wait(now)

    def _wait(self, now: float) -> None:
        assert self._client.scheduler is not None
        where = f"no worker is connected to the scheduler at {self._client.scheduler.address}"
        if self._empty_since == math.inf:
            self._empty_since = now
            self._tell(f"{where}: waiting up to {JOIN_S:g} s for one to join")
        if now - self._empty_since > JOIN_S:
            raise ClusterLost(
                f"{where}, and none has joined in {JOIN_S:g} s: start workers with `dask worker`, "
                "then run the same command again to go on"
            )


def check_workers(client: "Client", addresses: Collection[str] | None = None) -> None:
    """All workers, or some, have what is installed here; those that leave meanwhile are left out.

    Raises:
        UsageError: others have something else, or lack it; the message names workers and versions.
    """
    where = None if addresses is None else [*addresses]
    told = client.run(environment, workers=where, on_error="return")
    unfit = {at: why for at, found in told.items() if (why := _difference(found))}
    _refuse(unfit, "give all workers the versions that are here, or take these off the cluster")


def check_scheduler(client: "Client") -> None:
    """The scheduler has our code, too, without which it cannot read a task.

    Raises:
        UsageError: it has other code, or none.
    """
    try:
        found = client.run_on_scheduler(environment)
    except ImportError as error:
        found = error
    why = _difference(found, only=(OUR_CODE,))
    _refuse({"the scheduler": why} if why else {}, "start it where the same fluxshard is installed")


def _difference(found: Mapping[str, str] | Exception, only: Collection[str] = ()) -> str:
    """What another place has instead, in words; "" if it is the same, or the place has gone."""
    if isinstance(found, OSError):
        return ""
    if isinstance(found, Exception):
        return f"fluxshard cannot be loaded ({found})"
    ours = environment()
    return ", ".join(
        f"{name} is {found.get(name, 'not told')}, here {ours[name]}"
        for name in only or ours
        if found.get(name) != ours[name]
    )


def check_reach(client: "Client", store: Store) -> None:
    """Every worker reads in a store what is written here, and what it writes is found here.

    Raises:
        UsageError: one sees another folder, or cannot read or write there; the message names it.
    """
    token = uuid.uuid4().hex
    names = [f"{TEMPORARY_PREFIX}{token}"]
    store.write(names[0], token.encode())
    try:
        told = client.run(_answer, store, token, on_error="return")
        unfit = {at: str(found) for at, found in told.items() if isinstance(found, Exception)}
        answers = {at: name for at, name in told.items() if at not in unfit}
        names += answers.values()
        for at, name in answers.items():
            if not store.exists(name):
                unfit[at] = "what it writes is not found here"
    finally:
        for name in names:
            store.delete(name)
    remedy = "give a folder that this machine and all workers share, or a URL of object storage"
    _refuse({at: f"{store.at()} is not the same there: {why}" for at, why in unfit.items()}, remedy)


def _answer(store: Store, token: str) -> str:
    """On a worker: read the client's file, write another one; returns its name."""
    name = f"{TEMPORARY_PREFIX}{token}"
    if store.read(name) != token.encode():
        raise ValueError("it reads something else than what was written")
    answer = f"{name}-{uuid.uuid4().hex[:8]}"
    store.write(answer, b"here")
    return answer


def _refuse(unfit: Mapping[str, str], remedy: str) -> None:
    """UsageError if there is any: each worker with what is wrong."""
    if unfit:
        lines = [f"{at}: {why}" for at, why in sorted(unfit.items())]
        more = [f"and {len(lines) - _SHOWN} more"] * (len(lines) > _SHOWN)
        raise UsageError("\n  ".join(["the cluster is not fit:", *lines[:_SHOWN], *more, remedy]))
