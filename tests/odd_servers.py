"""Servers that are not AWS, as people report them: each is a front of this process's moto that refuses, ignores or
alters what its kind does."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from cheroot.wsgi import Server
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from recording_proxy import Forward, Rule, refusal
from servers import moto_application
from werkzeug.wrappers import Request, Response


@dataclass(frozen=True)
class OddServer:
    """A running server."""

    endpoint: str
    seen: list[Request] = field(default_factory=list)
    """The requests so far, with their bodies."""


@contextmanager
def odd_server(rule: Rule) -> Iterator[OddServer]:
    """Starts a server on a port of its own that answers by the rule, which may set any header, even the Date."""
    moto = moto_application()
    seen: list[Request] = []

    def answer(environ, start_response):
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


# The kinds of servers


def _is_put(request: Request) -> bool:
    """Whether a request is PutObject."""
    return request.method == "PUT" and "uploadId" not in request.args


def _is_batch(request: Request) -> bool:
    return request.method == "POST" and "delete" in request.args


def _has_condition(request: Request) -> bool:
    return "If-Match" in request.headers or "If-None-Match" in request.headers


def _has_checksum(request: Request) -> bool:
    return any(name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")) for name, _ in request.headers)


def empty(status: int) -> Response:
    """An answer without a body."""
    return Response(b"", status)


def without_batches(answer: Response) -> Rule:
    """Answers DeleteObjects with this, and a deletion of a missing object with 404, as Google Cloud Storage does."""

    def rule(request: Request, forward: Forward) -> Response:
        if request.method == "DELETE" and "uploadId" not in request.args and not _exists(request, forward):
            return refusal("NoSuchKey", "The specified key does not exist.", 404)
        return answer if _is_batch(request) else forward()

    return rule


def _exists(request: Request, forward: Forward) -> bool:
    bucket, _, key = request.path[1:].partition("/")
    return key in get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys


def wants_md5_for_batches(request: Request, forward: Forward) -> Response:
    """OVH, older Ceph, Swift."""
    if _is_batch(request) and "Content-MD5" not in request.headers:
        return refusal("InvalidRequest", "Missing required header for this request: Content-MD5", 400)
    return forward()


def refuses_checksums(request: Request, forward: Forward) -> Response:
    """A server that is older than checksum headers."""
    return refusal("NotImplemented", "A header is not implemented", 501) if _has_checksum(request) else forward()


def locks_objects(request: Request, forward: Forward) -> Response:
    """A bucket with a default retention: every put must carry a digest."""
    if request.method == "PUT" and not (_has_checksum(request) or "Content-MD5" in request.headers):
        return refusal("InvalidRequest", "Content-MD5 HTTP header is required for Put requests with Object Lock", 400)
    return forward()


def without_single_deletes(request: Request, forward: Forward) -> Response:
    """A server that takes DeleteObjects only."""
    single = request.method == "DELETE" and "uploadId" not in request.args
    return refusal("MethodNotAllowed", "not allowed", 405) if single else forward()


def refuses_conditions(answer: Response) -> Rule:
    """Answers conditional puts with this, whatever the object."""
    return lambda request, forward: answer if _is_put(request) and _has_condition(request) else forward()


def answers_not_modified(request: Request, forward: Forward) -> Response:
    """304 instead of 412."""
    answer = forward()
    return empty(304) if answer.status_code == 412 else answer


def ignores_conditions(request: Request, forward: Forward) -> Response:
    """Ignores conditions and does what is asked."""
    if not _has_condition(request):
        return forward()
    bucket, _, key = request.path[1:].partition("/")
    stored = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
    if _is_put(request):
        etag = stored.put_object(bucket, key, request.get_data()).etag
        return Response(b"", 200, {"ETag": etag})
    if request.method == "DELETE":
        stored.delete_object(bucket, key)
        return Response(b"", 204)
    return forward()


def wants_bare_etags(request: Request, forward: Forward) -> Response:
    """Ceph 16: an ETag in quotes never matches, and there are no conditional deletions."""
    if _is_put(request) and request.headers.get("If-Match", "").startswith('"'):
        return refusal("PreconditionFailed", "At least one of the pre-conditions did not hold", 412)
    if request.method == "DELETE" and "If-Match" in request.headers:
        return ignores_conditions(request, forward)
    return forward()


def gives_no_tokens(request: Request, forward: Forward) -> Response:
    """A listing that is cut short without saying where it continues."""
    answer = forward()
    if "list-type" in request.args:
        answer.set_data(re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", answer.get_data()))
    return answer


def answers_no_etags(request: Request, forward: Forward) -> Response:
    """Answers to puts have no ETag."""
    answer = forward()
    if _is_put(request):
        del answer.headers["ETag"]
    return answer


ODD_SERVERS: dict[str, Rule] = {
    "no batches, 501": without_batches(refusal("NotImplemented", "A header is not implemented", 501)),
    "no batches, 400": without_batches(refusal("InvalidArgument", "Invalid argument.", 400)),
    "no batches, 405 without a body": without_batches(empty(405)),
    "batches with Content-MD5": wants_md5_for_batches,
    "no single deletions": without_single_deletes,
    "no checksums": refuses_checksums,
    "locked objects": locks_objects,
    "conditions refused, 400": refuses_conditions(refusal("InvalidArgument", "If-None-Match", 400)),
    "conditions refused, 405": refuses_conditions(refusal("MethodNotAllowed", "not allowed", 405)),
    "conditions refused, 501 without a body": refuses_conditions(empty(501)),
    "conditions refused, 304": answers_not_modified,
    "conditions ignored": ignores_conditions,
    "ETags without quotes": wants_bare_etags,
    "no tokens": gives_no_tokens,
    "no ETags of puts": answers_no_etags,
}
