"""What is tried again, and what is said in the end."""

import errno

import pytest
import tenacity

from shards.storage import failures
from shards.storage.failures import Exhausted, StorageFailure, attempt, is_passing


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("x"),
        FileExistsError("x"),
        PermissionError(errno.EACCES, "x"),
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EROFS, "read-only"),
        StorageFailure("was tried before"),
        ValueError("x"),
    ],
)
def test_errors_that_stay_are_not_tried_again(error: Exception):
    assert not is_passing(error)


def test_errors_of_transport_pass_although_they_are_no_oserror():
    from aiohttp import ClientPayloadError
    from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError

    assert is_passing(ReadTimeoutError(endpoint_url="x"))
    assert is_passing(EndpointConnectionError(endpoint_url="x"))
    assert is_passing(ClientPayloadError())
    assert not is_passing(NoCredentialsError())


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EMFILE, "this process has as many files open as it may"),
        (errno.ENFILE, "the machine has as many files open as it may: .*fs.file-max"),
        (errno.ENOMEM, "the machine has no memory left: free some, or lower stream.prefetch_mib"),
    ],
)
@pytest.mark.parametrize("url", ["/folder/file", "s3://bucket/file"])
def test_a_machine_that_has_no_more_is_no_failure_of_storage(number: int, says: str, url: str):
    """Asked once more, when what is kept open is closed; then said as what it is."""
    tries = []

    def opens() -> None:
        tries.append(url)
        raise OSError(number, "no more")

    with pytest.raises(Exhausted, match=says):
        attempt(opens, url)
    assert tries == [url] * 2


def failing(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "TimeoutError (tried 8 times): see whether the server can be reached"),
        (OSError(errno.EBUSY, "slow down"), "slow down (tried 8 times): see whether the server"),
        (PermissionError("no entry"), "no entry: check the credentials that the environment"),
        (OSError(errno.EINVAL, "odd"), "odd: see what the server says of it"),
    ],
)
def test_a_remote_file_s_failure_names_it_the_cause_and_a_remedy(error: Exception, says: str):
    with pytest.raises(StorageFailure) as caught:
        attempt(lambda: failing(error), "s3://bucket/file")
    assert str(caught.value).startswith(f"s3://bucket/file: {says}")


@pytest.mark.parametrize(
    ("error", "url"),
    [
        (OSError(errno.ENOSPC, "full"), "/folder/file"),
        (FileNotFoundError("gone"), "s3://bucket/file"),
        (RuntimeError("ours"), "s3://bucket/file"),
    ],
)
def test_local_errors_and_absence_stay_what_they_are(error: Exception, url: str):
    with pytest.raises(type(error)) as caught:
        attempt(lambda: failing(error), url)
    assert caught.value is error
