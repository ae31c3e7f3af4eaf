"""Looks at one object, where servers say in several ways that it is not there.

It must not change anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import ResponseStreamingError

from s3dest_dagster.errors import AccessDeniedError, ObjectNotFoundError, StorageError
from s3dest_dagster.storage.requests import Requests

_BEHIND_ALL = "\U0010ffff"
"""Behind every key of a directory that keys are made of: the last character there is."""
Page = dict[str, Any]


def first_page(requests: Requests, prefix: str, **options: Any) -> Page:
    """The first page of the objects under a prefix."""
    listing = partial(requests.send, "list_objects_v2", Prefix=prefix, **options)
    return requests.ask("s3:ListBucket", None, listing)


def pages(requests: Requests, prefix: str, **options: str) -> Iterator[Page]:
    """All pages. Where a server truncates one and gives no token, the next begins behind the last key of this one.

    Raises StorageError where neither leads on: the listing would never end.
    """
    going_on: dict[str, str] = {}
    before = ""
    while True:
        page = first_page(requests, prefix, **options, **going_on)
        last = _last_of(page)
        if "StartAfter" in going_on and last <= before:
            raise _endless(requests, prefix)
        yield page
        if not page.get("IsTruncated"):
            return
        going_on = _next_of(page, last, going_on)
        if not going_on:
            raise _endless(requests, prefix)
        before = last


def _next_of(page: Page, last: str, used: Mapping[str, str]) -> dict[str, str]:
    """How the next page is asked for; nothing where the page does not tell, or tells what it told before."""
    token = page.get("NextContinuationToken")
    if token:
        return {"ContinuationToken": token} if token != used.get("ContinuationToken") else {}
    # What stands in a directory comes behind its name, and would bring it up again.
    return {"StartAfter": f"{last}{_BEHIND_ALL}" if last.endswith("/") else last} if last else {}


def _last_of(page: Page) -> str:
    """The last key or directory of a page; "" for an empty one."""
    keys = [each["Key"] for each in page.get("Contents") or ()]
    directories = [each["Prefix"] for each in page.get("CommonPrefixes") or ()]
    return max((*keys[-1:], *directories[-1:]), default="")


def upload_pages(requests: Requests, prefix: str) -> Iterator[Page]:
    """All pages of the multipart uploads under a prefix; raises as `pages`."""
    markers: dict[str, str] = {}
    while True:
        listing = partial(requests.send, "list_multipart_uploads", Prefix=prefix, **markers)
        page = requests.ask("s3:ListBucketMultipartUploads", None, listing)
        yield page
        if not page.get("IsTruncated"):
            return
        uploads: Sequence[Mapping[str, str]] = page.get("Uploads") or ({},)
        key = page.get("NextKeyMarker") or uploads[-1].get("Key", "")
        upload_id = page.get("NextUploadIdMarker") or uploads[-1].get("UploadId", "")
        behind = {"KeyMarker": key, "UploadIdMarker": upload_id}
        if not key or behind == markers:
            raise _endless(requests, prefix)
        markers = behind


def _endless(requests: Requests, prefix: str) -> StorageError:
    return StorageError(
        f"The server at {requests.endpoint} cut the listing of s3://{requests.bucket}/{prefix} short and does not say "
        "where it goes on: it gives no token, and going on behind the last key leads nowhere. What stands there cannot "
        "be told, so nothing was done. Put the bucket on a server that lists more than one page."
    )


_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it. `size` in bytes; `etag` without quotes."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """An object as HEAD shows it. `metadata` is empty on servers that do not keep it. An opaque ETag, one of an object
    that is encrypted with a key of KMS or of the customer, says nothing about the content."""

    size: int
    etag: str
    metadata: Mapping[str, str]
    has_opaque_etag: bool = False


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that is neither completed nor aborted. One whose begin the server does not tell is never
    old."""

    key: str
    upload_id: str
    initiated: datetime


def head_of(answer: Mapping[str, Any]) -> ObjectHead:
    """The answer to HEAD. Raises for one that is cut short, which is worth another try."""
    # Some servers give the names back in title case.
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    if "ContentLength" not in answer:
        raise ResponseStreamingError(error="the head of the answer is cut short: it has no Content-Length")
    opaque = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return ObjectHead(answer["ContentLength"], etag_of(answer), metadata, opaque)


def etag_of(answer: Mapping[str, Any]) -> str:
    """The ETag of an answer, which must be whole: Python takes a head whose end never came for one that is complete."""
    etag: str = answer.get("ETag", "")
    if not etag or (etag[0] == '"') != (etag[-1] == '"' and len(etag) > 1):
        raise ResponseStreamingError(error=f"the head of the answer is cut short: its ETag is {etag!r}")
    return bare(etag)


def with_head(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, if it has a head. Raises for one that ends behind its first line, which is worth another try."""
    if not answer.get("ResponseMetadata", {}).get("HTTPHeaders"):
        raise ResponseStreamingError(error="the answer is cut short: it has no head")
    return answer


def check_completed(answer: Mapping[str, Any]) -> None:
    """The answer must tell of an object: of one that is cut short in its head nothing is left. Its ETag may be empty,
    as Ceph 16 leaves it."""
    if not answer.keys() & {"Key", "ETag"}:
        raise ResponseStreamingError(error="the answer is cut short: it does not tell which object is complete")


def bare(etag: str) -> str:
    """An ETag without its quotes."""
    return etag.strip('"')


def listed(entry: Mapping[str, Any]) -> Listed:
    """An entry of a listing."""
    return Listed(entry["Key"], entry.get("Size", 0), bare(entry.get("ETag", "")), entry.get("LastModified", _NEVER))


def pending(entry: Mapping[str, Any]) -> PendingUpload:
    """An entry of a listing of uploads."""
    return PendingUpload(entry["Key"], entry["UploadId"], entry.get("Initiated", _NEVER))


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
