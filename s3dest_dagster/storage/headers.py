"""The headers that a destination asks for on its objects, by the names that an S3 client has for them.

It must not know what is written, but for whether it is data.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from s3dest_dagster.settings.destination import S3Destination

_OWNERS_RIGHTS = ("bucket-owner-read", "bucket-owner-full-control")


def headers_of_all(destination: S3Destination) -> dict[str, str]:
    """Headers of every object, manifests and trial objects included.

    Encryption, since a bucket's policy may deny what is not encrypted; and an ACL that gives the bucket's owner rights,
    since the policy of another account's bucket may deny what its owner could not read.
    """
    owner = destination.acl if destination.acl in _OWNERS_RIGHTS else None
    return _given(
        ServerSideEncryption=destination.server_side_encryption, SSEKMSKeyId=destination.kms_key_id, ACL=owner
    )


def headers_of_data(destination: S3Destination) -> dict[str, str]:
    """Headers of data objects: manifests are small, read by every sync, and nobody else's."""
    return headers_of_all(destination) | _given(ACL=destination.acl, StorageClass=destination.storage_class)


def _given(**headers: str | None) -> dict[str, str]:
    return {name: value for name, value in headers.items() if value is not None}


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
