"""The headers of objects: those that a destination's settings require, and Content-MD5.

A header that is a setting is one line of a table here and one field of `S3Destination`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from s3dest_dagster.settings.destination import ObjectHeaders

_EVERY_OBJECT = {"ServerSideEncryption": "server_side_encryption", "SSEKMSKeyId": "kms_key_id"}
"""Arguments of boto3's put_object, and the setting with the value of each. They apply to manifests and trial objects
too, because a bucket policy may deny unencrypted objects."""
_DATA_OBJECTS = {"ACL": "acl", "StorageClass": "storage_class"}
"""The same for data objects only: manifests are small, and only syncs read them."""
_OWNER_ACLS = {"bucket-owner-read", "bucket-owner-full-control"}
"""ACLs that also apply to manifests: the policy of another account's bucket may deny objects that its owner cannot
read."""


def headers_of_all(settings: ObjectHeaders) -> dict[str, str]:
    """The headers of every object, manifests and trial objects included, as arguments of boto3."""
    owner = {"ACL": settings.acl} if settings.acl in _OWNER_ACLS else {}
    return _values(settings, _EVERY_OBJECT) | owner


def headers_of_data(settings: ObjectHeaders) -> dict[str, str]:
    """The headers of data objects, as arguments of boto3."""
    return _values(settings, _EVERY_OBJECT | _DATA_OBJECTS)


def _values(settings: ObjectHeaders, table: Mapping[str, str]) -> dict[str, str]:
    values = {header: getattr(settings, setting) for header, setting in table.items()}
    return {header: value for header, value in values.items() if value is not None}


_md5_wanted: ContextVar[bool] = ContextVar("content_md5_wanted", default=False)
_CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-")


def md5_of(body: bytes) -> str:
    """The value of the Content-MD5 header for a body."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


@contextmanager
def content_md5(client: Any, operation: str) -> Iterator[None]:
    """Replaces the checksum by Content-MD5 in this thread's requests, for operations that have no argument for it."""
    name = client.meta.method_to_api_mapping[operation]
    client.meta.events.register(f"before-sign.s3.{name}", _replace_checksum, unique_id="s3dest-content-md5")
    token = _md5_wanted.set(True)
    try:
        yield
    finally:
        _md5_wanted.reset(token)


def _replace_checksum(request: Any, **_: Any) -> None:
    if not _md5_wanted.get():
        return
    for name in [name for name in request.headers if name.lower().startswith(_CHECKSUMS)]:
        del request.headers[name]
    request.headers["Content-MD5"] = md5_of(request.data)
