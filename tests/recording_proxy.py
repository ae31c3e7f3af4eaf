"""Proxies for the moto of this process, which record requests, can answer them by a rule, or use TLS."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from servers import moto_application
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

Forward = Callable[[], Response]
Rule = Callable[[Request, Forward], Response]
"""Answers a request. The second argument returns moto's answer to it."""


@dataclass(frozen=True)
class RecordingProxy:
    """An open proxy. `seen` are the requests so far, including bodies."""

    endpoint: str
    seen: list[Request] = field(default_factory=list)


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        """Says nothing."""

    def log(self, *_: object) -> None:
        """Says nothing, also when a client does not trust the certificate."""


def straight(_: Request, forward: Forward) -> Response:
    """moto's own answer."""
    return forward()


@contextmanager
def recording_proxy(rule: Rule = straight, *, tls: ssl.SSLContext | None = None) -> Iterator[RecordingProxy]:
    """A proxy with its own port. Signatures and policies are enforced behind it, as everywhere in this process."""
    moto = moto_application()
    seen: list[Request] = []

    def answer(environ, start_response):
        request = Request(environ)
        environ["wsgi.input"] = BytesIO(request.get_data(cache=True))
        seen.append(request)
        return rule(request, lambda: Response.from_app(moto, environ, buffered=True))(environ, start_response)

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=_Quiet, ssl_context=tls)
    # It ends at the next poll.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield RecordingProxy(f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}", seen)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sent_form(request: Request) -> dict[str, str]:
    """The parameters of a request to STS."""
    return dict(Request.from_values(data=request.get_data(), content_type=request.content_type, method="POST").form)


def sts_answer(call: str, credentials: dict[str, str]) -> Response:
    """Credentials as STS answers them to this call."""
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in credentials.items())
    result = f"<{call}Result><Credentials>{inner}</Credentials></{call}Result>"
    return Response(f"<{call}Response>{result}</{call}Response>", content_type="text/xml")


def sts_refusal(code: str, message: str, status: int = 403) -> Response:
    """An error as STS answers it."""
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(f"<ErrorResponse>{error}</ErrorResponse>", status, content_type="text/xml")


def refusal(code: str, message: str, status: int = 403) -> Response:
    """An error as S3 answers it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(body, status, content_type="application/xml")
