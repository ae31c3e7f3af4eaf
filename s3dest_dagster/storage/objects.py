"""Looks at one object, where servers say in several ways that it is not there.

It must not change anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from s3dest_dagster.errors import AccessDeniedError, ObjectNotFoundError, StorageError
from s3dest_dagster.storage.answers import ObjectHead, etag_of, head_of
from s3dest_dagster.storage.listing import first_page
from s3dest_dagster.storage.requests import Requests

Answer = TypeVar("Answer")


def read(requests: Requests, key: str) -> tuple[bytes, str] | None:
    """An object's bytes and ETag; None when there is no such object. An answer that is cut short is read again."""

    def once() -> tuple[bytes, str]:
        answer = requests.send("get_object", Key=key)
        return answer["Body"].read(), etag_of(answer)

    return _unless_missing(requests, key, once)


def head(requests: Requests, key: str) -> ObjectHead | None:
    """Size, ETag and metadata (names in lower case) of an object; None when there is no such object."""
    return _unless_missing(requests, key, lambda: head_of(requests.send("head_object", Key=key)))


def _unless_missing(requests: Requests, key: str, do: Callable[[], Answer]) -> Answer | None:
    try:
        return requests.ask("s3:GetObject", key, do)
    except ObjectNotFoundError:
        return None
    except AccessDeniedError:
        if _may_exist(requests, key):
            raise
        return None


def _may_exist(requests: Requests, key: str) -> bool:
    """Whether a denial may hide an object: S3 denies what is missing, too, where the right to list has conditions, as
    under a policy that ends at a prefix."""
    try:
        return any(each["Key"] == key for each in first_page(requests, key).get("Contents") or ())
    except StorageError:
        return True
