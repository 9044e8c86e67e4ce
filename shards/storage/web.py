"""HTTP and HTTPS for reading, by ranges, over connections that are kept open.

fsspec's own takes every failure to look at a file (an answer 500, a lost connection) for its
absence; here only 404 and 410 are that.
"""

import errno
import http.client
import os
import urllib.parse
from functools import lru_cache
from typing import Any
from urllib.request import getproxies, proxy_bypass

import urllib3
from fsspec import AbstractFileSystem
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.response import BaseHTTPResponse

TIMEOUT_S = 30.0  # without a byte
_KEPT = 64  # connections to a host; threads beyond that open one for each request
# Who calls tries again, not the library.
_REDIRECTS = urllib3.Retry(total=None, connect=False, read=False, status=0, other=0, redirect=10)
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
        return _facts(path, _ask(path, method="HEAD"))

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
            return _ask(path).data
        first = start or 0
        if end is not None and end <= first:
            return b""
        last = "" if end is None else end - 1
        try:
            return _ask(path, Range=f"bytes={first}-{last}").data
        except _BeyondEnd:
            return b""


class _BeyondEnd(Exception):
    pass


def _ask(url: str, method: str = "GET", **headers: str) -> BaseHTTPResponse:
    """The answer to a request, its body read unless the whole file came for a range."""
    try:
        try:
            answer = _send(url, method, headers)
        except ProtocolError as error:
            if not isinstance(error.args[-1], ConnectionError):
                raise
            answer = _send(url, method, headers)  # the server may have closed what was kept open
        if answer.status == http.client.OK and "Range" in headers:
            answer.close()
            raise OSError(errno.ENOTSUP, "the server gives whole files only, no ranges", url)
        _ = answer.data  # which gives the connection back
    except HTTPError as error:
        raise _system_error(error) from error
    if answer.status >= http.client.BAD_REQUEST:
        raise _refusal(answer, url)
    return answer


def _send(url: str, method: str, headers: dict[str, str]) -> BaseHTTPResponse:
    host = urllib.parse.urlsplit(url)
    proxy = "" if proxy_bypass(host.netloc) else getproxies().get(host.scheme, "")
    timeout = urllib3.Timeout(connect=TIMEOUT_S, read=TIMEOUT_S)
    return _connections(os.getpid(), proxy).request(
        method,
        url,
        headers=headers,
        timeout=timeout,
        retries=_REDIRECTS,
        preload_content=False,
    )


@lru_cache(maxsize=4)
def _connections(process: int, proxy: str) -> urllib3.PoolManager:
    """Those that are kept open; a process that was forked has its own."""
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=_KEPT)
    return urllib3.PoolManager(maxsize=_KEPT)


def _system_error(error: BaseException) -> OSError:
    """What the system said, for `is_passing`; else that the transport failed."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError):
            return inner
        inner = getattr(inner, "reason", None) or inner.__cause__ or inner.__context__
    return OSError(str(error))


def _refusal(answer: BaseHTTPResponse, url: str) -> Exception:
    text = f"the server answers {answer.status} {answer.reason}"
    if answer.status in _ABSENT:
        return FileNotFoundError(errno.ENOENT, text, url)
    if answer.status in (401, 403):
        return PermissionError(errno.EACCES, text, url)
    if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        return _BeyondEnd()
    return OSError(errno.EAGAIN if answer.status in _PASSING else errno.EPROTO, text, url)


def _facts(url: str, answer: BaseHTTPResponse) -> dict[str, Any]:
    size = answer.headers.get("Content-Length")
    return {
        "name": url,
        "type": "file",
        "size": None if size is None else int(size),
        "ETag": answer.headers.get("ETag", ""),
        "LastModified": answer.headers.get("Last-Modified", ""),
    }
