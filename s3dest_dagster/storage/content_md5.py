"""Content-MD5 where servers ask for it, in place of the checksum headers that newer SDKs send and older servers refuse.

It must not know which server asks.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_wanted: ContextVar[bool] = ContextVar("content_md5_wanted", default=False)
_CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-")


def md5_of(body: bytes) -> str:
    """The value of the Content-MD5 header for a body."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


@contextmanager
def content_md5(client: Any, operation: str) -> Iterator[None]:
    """Requests of this thread carry Content-MD5 meanwhile. For operations that boto3 has no argument for it."""
    name = client.meta.method_to_api_mapping[operation]
    client.meta.events.register(f"before-sign.s3.{name}", _replace_checksum, unique_id="s3dest-content-md5")
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def _replace_checksum(request: Any, **_: Any) -> None:
    if not _wanted.get():
        return
    for name in [each for each in request.headers if each.lower().startswith(_CHECKSUMS)]:
        del request.headers[name]
    request.headers["Content-MD5"] = md5_of(request.data)
