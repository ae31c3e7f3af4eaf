"""A proxy between client and S3 server that injects the faults of networks and servers.

    with fault_proxy(server) as proxy:
        proxy.next("PutObject", BUSY, LOST)
        bucket = open_bucket(proxy.connection(max_attempts=5), name)

The first two PutObject requests get these faults, and later ones pass. The Host header is forwarded unchanged, so that
signatures stay valid. Requests and answers are kept whole in memory.
"""

from __future__ import annotations

import re
import socket
import socketserver
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from servers import S3Server

from s3dest_dagster.settings.connection import S3Connection


class Fault(Enum):
    """What happens to one request."""

    ERROR = "500 Internal Server Error"
    BUSY = "503 Slow Down"
    THROTTLED = "429 Too Many Requests"
    RESET = "the connection is reset before the request is read"
    RESET_IN_BODY = "the connection is reset in the middle of the request's body"
    CUT_BODY = "the server gets half of the request's body, then the connection ends"
    HANG = "the request is read and never answered"
    CUT_ANSWER = "the server acts and the client gets half of the answer"
    LOST = "the server acts and the connection is reset instead of an answer"


_ANSWERS = {Fault.ERROR: "InternalError", Fault.BUSY: "SlowDown", Fault.THROTTLED: "TooManyRequests"}
_WITH_QUERY = {
    ("POST", "delete"): "DeleteObjects",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("PUT", "partNumber"): "UploadPart",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "uploads"): "ListMultipartUploads",
}
_WITHOUT_QUERY = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
CALLS = (*_WITH_QUERY.values(), "PutObject", "GetObject", "HeadObject")
"""The calls that the library makes."""


def call_of(method: str, target: str) -> str:
    """The name of the S3 call of a request."""
    query = urlsplit(target).query
    for (verb, parameter), name in _WITH_QUERY.items():
        if verb == method and re.search(rf"(^|&){parameter}(=|&|$)", query):
            return name
    return _WITHOUT_QUERY[method]


@dataclass(frozen=True)
class Request:
    """One request as it was received."""

    line: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def call(self) -> str:
        return call_of(self.method, self.line.split(" ")[1])

    def forwarded(self) -> bytes:
        """The request for the server, which closes the connection after its answer."""
        kept = [f"{name}: {value}" for name, value in self.fields if name.lower() not in ("connection", "expect")]
        return "\r\n".join([self.line, *kept, "Connection: close", "", ""]).encode("latin-1") + self.body


class FaultProxy:
    """The faults to inject, and the calls received."""

    def __init__(self, server: S3Server) -> None:
        self.behind = server
        self.calls: list[str] = []
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        address = urlsplit(server.endpoint)
        self._server_address = (address.hostname, address.port)
        self.server = server
        """The server as reached through the proxy."""

    def next(self, call: str, *faults: Fault) -> None:
        """Gives these faults to the next requests of this call, one each."""
        with self._lock:
            self._faults[call] += faults

    def always(self, fault: Fault, *calls: str) -> None:
        """Gives this fault to all further requests of these calls, or of all calls."""
        with self._lock:
            self._always |= dict.fromkeys(calls or CALLS, fault)

    def clear(self) -> None:
        """Lets everything pass from now on."""
        with self._lock:
            self._faults.clear()
            self._always.clear()
            self.calls.clear()

    @property
    def waiting(self) -> int:
        """How many faults no request has met yet."""
        with self._lock:
            return sum(map(len, self._faults.values()))

    def connection(self, **settings: Any) -> S3Connection:
        """A connection through the proxy, with many tries and short timeouts unless the settings say otherwise."""
        return replace(self.server.connection, **{"max_attempts": 8, "read_timeout_s": 10, **settings})

    def fault_for(self, call: str) -> Fault | None:
        """Records a call, and returns the fault for it."""
        with self._lock:
            self.calls.append(call)
            faults = self._faults[call]
            return faults.popleft() if faults else self._always.get(call)

    def ask_server(self, request: Request, fault: Fault | None) -> bytes:
        """The server's whole answer; empty if it was sent only half of the request."""
        with socket.create_connection(self._server_address) as upstream:
            sent = request.forwarded()
            if fault is Fault.CUT_BODY:
                upstream.sendall(sent[: len(sent) - len(request.body) // 2])
                return b""
            upstream.sendall(sent)
            return b"".join(iter(lambda: upstream.recv(1 << 16), b""))

    def hang(self) -> None:
        """Returns when the proxy is closed."""
        self._closing.wait()

    def close(self) -> None:
        self._closing.set()


class _Connection(socketserver.StreamRequestHandler):
    """One connection of a client."""

    server: _Listener

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):
            while (request_line := self.rfile.readline().decode("latin-1").rstrip()) and self._serve(request_line):
                pass

    def _serve(self, line: str) -> bool:
        """Serves one request; returns whether another may follow on this connection."""
        fields = tuple(self._fields())
        values = {name.lower(): value for name, value in fields}
        size = int(values.get("content-length", 0))
        proxy = self.server.proxy
        method, target, _ = line.split(" ", 2)
        fault = proxy.fault_for(call_of(method, target))
        if fault is Fault.RESET:
            return self._reset()
        if values.get("expect", "").lower() == "100-continue":
            self._answer(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault is Fault.RESET_IN_BODY:
            self.rfile.read(size // 2)
            return self._reset()
        request = Request(line, fields, self.rfile.read(size))
        if fault is Fault.HANG:
            proxy.hang()
            return False
        if fault in _ANSWERS:
            return self._refuse(request, fault)
        answer = proxy.ask_server(request, fault)
        if fault in (Fault.LOST, Fault.CUT_BODY):
            return self._reset()
        self._answer(_half(answer) if fault is Fault.CUT_ANSWER else answer)
        return False

    def _fields(self) -> Iterator[tuple[str, str]]:
        while line := self.rfile.readline().decode("latin-1").rstrip():
            name, _, value = line.partition(":")
            yield name.strip(), value.strip()

    def _refuse(self, request: Request, fault: Fault) -> bool:
        code = _ANSWERS[fault]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
        head = f"HTTP/1.1 {fault.value}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        self._answer(head.encode() + (b"" if request.method == "HEAD" else body))
        return True

    def _answer(self, data: bytes) -> None:
        self.wfile.write(data)

    def _reset(self) -> bool:
        """Ends the connection with a RST, as a broken network does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


def _half(answer: bytes) -> bytes:
    """The head of an answer and half of its body; the first line of the head if there is no body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + body[: len(body) // 2] if body else head[: head.index(b"\r\n") + 2]


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    proxy: FaultProxy

    def shutdown_request(self, request: Any) -> None:
        """Closes without the usual shutdown, which would turn a reset into an orderly close."""
        self.close_request(request)


@contextmanager
def fault_proxy(server: S3Server) -> Iterator[FaultProxy]:
    """Starts a proxy in front of the server, on a port of its own."""
    proxy = FaultProxy(server)
    with _Listener(("127.0.0.1", 0), _Connection) as listener:
        listener.proxy = proxy
        proxy.server = replace(server, endpoint=f"http://127.0.0.1:{listener.server_address[1]}")
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.close()
            listener.shutdown()
            thread.join()
