"""A proxy in front of an S3 server that fails a share of the requests, each in one of the ways that S3 does."""

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

INTERNAL, SLOW_DOWN, RESET, DELAY, LOST = "500", "503", "reset", "delay", "lost"
FAULTS = (INTERNAL, SLOW_DOWN, RESET, DELAY, LOST)
WRITES = ("PUT", "POST", "DELETE")
_ERRORS = {INTERNAL: (500, "InternalError"), SLOW_DOWN: (503, "SlowDown")}
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class FaultyProxy:
    """Serves on a port of the loopback interface until it is closed.

    Attributes:
        endpoint: its URL.
        share: of requests that fail, 0..1; may be changed at any time.
        delay_s: of a delayed request.
        lose_first: whether the answer to the first write of each object is lost, beside what `share` says.
        away: while set, every connection is closed without an answer.
        done: number of faults of each kind; `lost` counts writes that reached the store, answers to reads as `reset`.
    """

    def __init__(self, target: str, *, share: float = 0.1, delay_s: float = 0.2, seed: int = 0) -> None:
        """Begins to serve in front of the server at the URL `target`."""
        parts = urlsplit(target)
        self.target = (str(parts.hostname), int(parts.port or 80))
        self.share, self.delay_s, self.away = share, delay_s, threading.Event()
        self.lose_first, self._written = False, set[str]()
        self.done: Counter[str] = Counter()
        self.requests = 0
        self._random, self._lock = random.Random(seed), threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def choose(self, method: str, path: str) -> str | None:
        """The fault of the next request, None for most of them."""
        with self._lock:
            self.requests += 1
            if self.lose_first and method == "PUT" and path not in self._written:
                self._written.add(path)
                self.done[LOST] += 1
                return LOST
            if self._random.random() >= self.share:
                return None
            fault = self._random.choice(FAULTS)
            fault = RESET if fault == LOST and method not in WRITES else fault
            self.done[fault] += 1
            return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are no news."""


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        if self.proxy.away.is_set():
            self._reset()
            return
        body = self._body()
        fault = self.proxy.choose(self.command, self.path)
        if fault == RESET:
            self._reset()
        elif fault in _ERRORS:
            self._refuse(*_ERRORS[fault])
        else:
            if fault == DELAY:
                time.sleep(self.proxy.delay_s)
            answer = self._forward(body)
            if fault == LOST:
                self._reset()
            else:
                self._answer(*answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        with contextlib.closing(http.client.HTTPConnection(*self.proxy.target, timeout=60)) as server:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            headers.pop("Expect", None)
            server.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
            answer = server.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self.send_header("Content-Length", lengths[0] if self.command == "HEAD" and lengths else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>reduce your request rate</Message></Error>"
        self._answer(status, [("Content-Type", "application/xml")], body.encode())

    def _reset(self) -> None:
        """Ends the connection as a crash does: the other side reads `connection reset by peer`."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
