"""What goes wrong with files: what is worth another try, and one sentence for what is not."""

import errno
import resource
import threading
from collections.abc import Callable
from typing import TypeVar

import tenacity

from shards.storage.open_files import close_idle

ATTEMPTS = 8
PAUSE = tenacity.wait_random_exponential(multiplier=0.25, max=15)  # some 15 s for all attempts

Result = TypeVar("Result")


class StorageFailure(OSError):
    """A remote file cannot be read or written; the message names it, the cause and a remedy."""


class Exhausted(OSError):
    """The machine gives this process no more files or memory; the message says what to do.

    It says nothing of the file that was asked for: nobody may take that for damaged.
    """


EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}

# What trying again will not mend, and the numbers of errors that it may. Remote file systems
# often give no number at all; EBUSY and EREMOTEIO are what s3fs makes of 503 and 500.
_NAMED = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_SETTLED = (*_NAMED, PermissionError, StorageFailure)
_PASSING = {None, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EPIPE}
_PASSING |= {errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTUNREACH}
_PASSING |= {errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO)}
# Transport errors of the libraries below fsspec, which are no OSError. By name: none of these
# packages need be there.
_TRANSPORT = {
    *("botocore.exceptions.ConnectionError", "botocore.exceptions.HTTPClientError"),
    *("botocore.exceptions.IncompleteReadError", "aiohttp.client_exceptions.ClientError"),
    "http.client.HTTPException",
}


class UsageError(ValueError):
    """What the user asks for cannot be: the message names the value, the rule and the remedy.

    The command line shows it as one sentence and exits with 2. Any other exception is a fault of
    ours or of the machine, and shows as such.
    """


def is_passing(error: BaseException) -> bool:
    """Whether an error may be gone at the next attempt: a connection lost, a mount gone stale."""
    if isinstance(error, _SETTLED):
        return False
    if isinstance(error, OSError):
        return error.errno in _PASSING
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return bool(names & _TRANSPORT)


def attempt(
    operation: Callable[[], Result],
    url: str,
    *,
    attempts: int = ATTEMPTS,
    stop: threading.Event | None = None,
) -> Result:
    """The result of an operation, tried again while it fails for a passing reason.

    Args:
        url: of the file it is about, for the message.
        stop: once it is set, nothing is tried again and no pause goes on.

    Raises:
        StorageFailure: a remote file cannot be read or written. That it is absent, is there
            already or is a folder stays FileNotFoundError, FileExistsError or IsADirectoryError.
        Exhausted: too many files are open, or memory is full, also without those kept open.
        OSError: the same of a local file, as the system says it.
    """
    stop = stop or threading.Event()
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_passing),
        stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_when_event_set(stop),
        sleep=tenacity.sleep_using_event(stop),
        wait=PAUSE,
        reraise=True,
    )
    try:
        return again(_spared, operation, url)
    except Exception as error:
        if "://" not in url or not _is_of_storage(error):
            raise
        tried = again.statistics["attempt_number"]
        raise StorageFailure(_sentence(error, url, tried)) from error


def _spared(operation: Callable[[], Result], url: str) -> Result:
    """The result of an operation; where the machine has no files left, of those kept open."""
    try:
        return operation()
    except OSError as error:
        if error.errno not in EXHAUSTED:
            raise
    close_idle()
    try:
        return operation()
    except OSError as error:
        if error.errno not in EXHAUSTED:
            raise
        raise Exhausted(error.errno, _exhaustion(error), url) from error


def _exhaustion(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        most, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most == ceiling:
            remedy = "which is the hard limit, too: raise that (limits.conf, LimitNOFILE=)"
            return f"this process has as many files open as it may, {most}, {remedy}"
        more = 4 * most if ceiling == resource.RLIM_INFINITY else ceiling
        return (
            f"this process has as many files open as it may, {most}: allow more by `ulimit -n "
            f"{more}` in the shell that starts it"
        )
    if error.errno == errno.ENFILE:
        return (
            "the machine has as many files open as it may: allow more by `sysctl fs.file-max`, or "
            "end what holds them"
        )
    return "the machine has no memory left: free some, or lower stream.prefetch_mib"


def _is_of_storage(error: Exception) -> bool:
    """Not what callers tell apart (absent, there already), and no fault of ours."""
    if isinstance(error, OSError):
        return not isinstance(error, (*_NAMED, StorageFailure, Exhausted))
    return type(error).__module__.partition(".")[0] in {"botocore", "aiohttp", "gcsfs", "http"}


def _sentence(error: Exception, url: str, tried: int) -> str:
    cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if is_passing(error):
        return (
            f"{url}: {cause} (tried {tried} times): see whether the server can be reached and is "
            "well, then run the same command again"
        )
    if isinstance(error, PermissionError) or "credential" in cause.lower():
        remedy = "check the credentials that the environment holds, and what they allow"
    else:
        remedy = "see what the server says of it"
    return f"{url}: {cause}: {remedy}"
