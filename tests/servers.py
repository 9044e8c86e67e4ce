"""An S3 server and a web server on loopback, and a proxy before them that fails as it is told."""

import http.client
import json
import logging
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

# What may happen to a request: an answer that says no, "drop": none, "half": half of its body,
# "stall": one that comes too late, "lost": the connection ends before the body is read.
FAULTS = ("500", "503", "drop", "half", "lost", "stall")
STALL_S = 1.5


def s3_settings(endpoint: str, **more: Any) -> dict[str, Any]:
    """Of fsspec, for its protocol `s3`: where the server is, and who asks."""
    region = {"region_name": "us-east-1"}
    return {
        "endpoint_url": endpoint,
        "key": "tester",
        "secret": "x",
        "client_kwargs": region,
    } | more


def use_s3(patch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    """In this process, and in those that it starts."""
    patch.setitem(fsspec.config.conf, "s3", settings)
    patch.setenv("FSSPEC_S3", json.dumps(settings))


def make_bucket() -> str:
    """The URL of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    fsspec.filesystem("s3").call_s3("create_bucket", Bucket=name)
    return f"s3://{name}"


@contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint of an S3 API server, an empty one."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """The address of a folder's files over HTTP, whole or by ranges."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Files(SimpleHTTPRequestHandler):
    """The standard library's, which knows no ranges, with them."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        given = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not given or not file.is_file() or file.name.startswith("whole"):
            super().do_GET()
            return
        size, first = file.stat().st_size, int(given[1])
        last = min(int(given[2] or size), size - 1)
        if first >= size:
            self.send_error(416)
            return
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        with file.open("rb") as opened:
            opened.seek(first)
            self.wfile.write(opened.read(last - first + 1))


class Proxy(ThreadingHTTPServer):
    """Hands requests on to a server, or fails.

    Attributes:
        faults: called with the number of a request, its method and path: the fault that it meets.
        met: method, path and fault of each request so far.
        connections: that were opened so far.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        self.target = target.removeprefix("http://")
        self.faults: Callable[[int, str, str], str | None] = lambda *_: None
        self.met: list[tuple[str, str, str | None]] = []
        self.connections = 0
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, method: str, path: str) -> str | None:
        with self._lock:
            fault = self.faults(len(self.met), method, path)
            self.met.append((method, path, fault))
            return fault

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, *_: Any) -> None:
        """Clients go away; that is what is tested."""

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


def every(step: int, faults: Sequence[str]) -> Callable[[int, str, str], str | None]:
    """One request of each `step` meets the next fault; what stops it never does."""

    def fault(number: int, *_: str) -> str | None:
        return faults[number // step % len(faults)] if number % step == step - 1 else None

    return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a kept connection waits 40 ms between head and body
    server: Proxy

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        fault = self.server.fault(self.command, self.path)
        if fault == "lost":
            self._hang_up()
            return
        body = self._body()
        if fault == "drop":
            self._hang_up()
            return
        if fault in _CODES:
            code = _CODES[fault]
            text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            self._answer(int(fault), {"Content-Type": "application/xml"}, text)
            return
        status, headers, data = self._ask(body)
        if fault == "stall":
            time.sleep(STALL_S)
        self._answer(status, headers, data, half=fault == "half")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # the base class has answered
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.target)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body or None, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), data

    def _answer(
        self, status: int, headers: dict[str, str], data: bytes, *, half: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP | {"content-length"}:
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[: len(data) // 2] if half else data)
        if half:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


_CODES = {"403": "AccessDenied", "500": "InternalError", "503": "SlowDown"}
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
