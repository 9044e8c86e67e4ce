"""HTTP and HTTPS for reading, by ranges.

fsspec's own takes every failure to look at a file (an answer 500, a lost connection) for its
absence; here only 404 and 410 are that. And it needs no package.
"""

import errno
import http.client
import urllib.error
import urllib.request
from typing import Any

from fsspec import AbstractFileSystem

TIMEOUT_S = 30.0  # without a byte
_ABSENT = {404, 410}
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class WebFileSystem(AbstractFileSystem):
    """Files by their URLs; folders cannot be listed, nothing can be written.

    Raises:
        FileNotFoundError: the server says that there is no such file.
        PermissionError: it does not give it.
        OSError: it fails, does not answer in time, or does not know ranges.
    """

    protocol = ("http", "https")
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """`size` in bytes, None if the server does not tell; `ETag` and `LastModified`, or ""."""
        with _ask(path, method="HEAD") as answer:
            return _facts(path, answer)

    def exists(self, path: str, **_: Any) -> bool:
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        if start is None and end is None:
            with _ask(path) as answer:
                return answer.read()
        first = start or 0
        if end is not None and end <= first:
            return b""
        last = "" if end is None else end - 1
        try:
            with _ask(path, Range=f"bytes={first}-{last}") as answer:
                if answer.status != http.client.PARTIAL_CONTENT:
                    raise OSError(
                        errno.ENOTSUP, "the server gives whole files only, no ranges", path
                    )
                return answer.read()
        except _BeyondEnd:
            return b""


class _BeyondEnd(Exception):
    pass


def _ask(url: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            raise _as_os_error(error, url) from None
    except urllib.error.URLError as error:
        reason = error.reason
        raise (reason if isinstance(reason, OSError) else OSError(str(reason))) from None


def _as_os_error(error: urllib.error.HTTPError, url: str) -> Exception:
    text = f"the server answers {error.code} {error.reason}"
    if error.code in _ABSENT:
        return FileNotFoundError(errno.ENOENT, text, url)
    if error.code in (401, 403):
        return PermissionError(errno.EACCES, text, url)
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        return _BeyondEnd()
    return OSError(errno.EAGAIN if error.code in _PASSING else errno.EPROTO, text, url)


def _facts(url: str, answer: http.client.HTTPResponse) -> dict[str, Any]:
    size = answer.headers.get("Content-Length")
    return {
        "name": url,
        "type": "file",
        "size": None if size is None else int(size),
        "ETag": answer.headers.get("ETag", ""),
        "LastModified": answer.headers.get("Last-Modified", ""),
    }
