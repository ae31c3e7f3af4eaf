"""Servers that are not AWS, as people report them: each stands before the moto of this process, and refuses, ignores or
alters what its kind does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from cheroot.wsgi import Server
from doors import Rule
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Request, Response


@dataclass(frozen=True)
class OddServer:
    """A server that runs. `seen` are the requests so far, bodies included."""

    endpoint: str
    seen: list[Request] = field(default_factory=list)


@contextmanager
def odd_server(rule: Rule) -> Iterator[OddServer]:
    """The server whose answers the rule makes, on a port of its own. It may set every header, the Date too."""
    moto = DomainDispatcherApplication(create_backend_app)
    seen: list[Request] = []

    def answer(environ, start_response):
        # moto looks for the path as it was sent, and signed, under the name that its own server gives it.
        environ["RAW_URI"] = environ["REQUEST_URI"]
        request = Request(environ)
        environ["wsgi.input"] = BytesIO(request.get_data(cache=True))
        seen.append(request)
        return rule(request, lambda: Response.from_app(moto, environ, buffered=True))(environ, start_response)

    server = Server(("127.0.0.1", 0), answer, numthreads=12)
    server.prepare()
    thread = threading.Thread(target=server.serve, name="odd server", daemon=True)
    thread.start()
    try:
        yield OddServer("http://{}:{}".format(*server.bind_addr), seen)
    finally:
        server.stop()
        thread.join()
