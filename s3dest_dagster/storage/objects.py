"""Reads, lists and deletes the objects of one bucket in the ways that its server supports.

Must not know: what the objects are, nor why one is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError, ResponseStreamingError

from s3dest_dagster.errors import AccessDeniedError, ObjectNotFoundError, PreconditionFailedError, StorageError
from s3dest_dagster.storage.abilities import BatchDelete, Condition, ServerAbilities
from s3dest_dagster.storage.requests import Answer, Requests, in_parallel

Page = dict[str, Any]
_LAST_CHARACTER = "\U0010ffff"
"""Appended to a directory, it sorts after every key in the directory."""
_NEVER = datetime.max.replace(tzinfo=UTC)
_MAX_DELETE = 1000
"""Keys in one DeleteObjects request (S3's limit)."""
_HEADS_PER_BATCH = 32
"""Objects whose ETags are read before they are deleted together."""
_DELETE = "s3:DeleteObject"
_GONE = {"NoSuchKey", "NotFound", "404"}
_CHANGED = {"PreconditionFailed", "412"}


# ---------------------------------------------------------------------- values, read from answers


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it."""

    key: str
    size: int
    """In bytes."""
    etag: str
    """Without quotes."""
    modified: datetime


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """An object as HEAD shows it."""

    size: int
    """In bytes."""
    etag: str
    """Without quotes."""
    metadata: Mapping[str, str]
    """Names in lower case. Empty on servers that do not store metadata."""
    has_opaque_etag: bool = False
    """Whether the ETag does not depend on the content, because the object is encrypted with a KMS or customer key."""


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime
    """The maximum time if the server does not report it, so that the upload is never considered old."""


def to_head(answer: Mapping[str, Any]) -> ObjectHead:
    """Converts the answer to HEAD. Raises a transient error if it was truncated."""
    # Some servers return the names in title case.
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    if "ContentLength" not in answer:
        raise _cut_short("its head has no Content-Length")
    opaque = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return ObjectHead(answer["ContentLength"], to_etag(answer), metadata, opaque)


def to_etag(answer: Mapping[str, Any]) -> str:
    """The ETag of an answer, without quotes. Raises a transient error if the answer was truncated."""
    etag: str = answer.get("ETag", "")
    if not etag or (etag[0] == '"') != (etag[-1] == '"' and len(etag) > 1):
        raise _cut_short(f"its ETag is {etag!r}")
    return unquoted(etag)


def check_head(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer if it has headers. Raises a transient error if it ends after its first line."""
    if not answer.get("ResponseMetadata", {}).get("HTTPHeaders"):
        raise _cut_short("it has no head")
    return answer


def check_completed(answer: Mapping[str, Any]) -> None:
    """Raises a transient error if the answer to a completion names no object. Its ETag may be empty, as in Ceph 16."""
    if not answer.keys() & {"Key", "ETag"}:
        raise _cut_short("it does not tell which object is complete")


def _cut_short(detail: str) -> ResponseStreamingError:
    # Python's HTTP library accepts a truncated head as complete.
    return ResponseStreamingError(error=f"the answer is cut short: {detail}")


def unquoted(etag: str) -> str:
    """An ETag without its quotes."""
    return etag.strip('"')


def to_listed(entry: Mapping[str, Any]) -> ListedObject:
    """Converts an entry of a listing."""
    return ListedObject(
        entry["Key"], entry.get("Size", 0), unquoted(entry.get("ETag", "")), entry.get("LastModified", _NEVER)
    )


def to_pending(entry: Mapping[str, Any]) -> PendingUpload:
    """Converts an entry of a listing of uploads."""
    return PendingUpload(entry["Key"], entry["UploadId"], entry.get("Initiated", _NEVER))


# ---------------------------------------------------------------------- one object


def read(requests: Requests, key: str) -> tuple[bytes, str] | None:
    """An object's bytes and ETag. None if there is no such object. A truncated answer is read again."""

    def once() -> tuple[bytes, str]:
        answer = requests.send("get_object", Key=key)
        return answer["Body"].read(), to_etag(answer)

    return _unless_missing(requests, key, once)


def read_range(requests: Requests, key: str, start: int, stop: int) -> bytes:
    """The bytes of an object from one position up to another, which is not included.

    Raises:
        ObjectNotFoundError: There is no such object.
    """

    def once() -> bytes:
        answer = requests.send("get_object", Key=key, Range=f"bytes={start}-{stop - 1}")
        content: bytes = answer["Body"].read()
        # A server that does not know ranges sends everything.
        return content if "ContentRange" in answer else content[start:stop]

    return requests.retry("s3:GetObject", key, once)


def head(requests: Requests, key: str) -> ObjectHead | None:
    """Size, ETag and metadata of an object. None if there is no such object."""
    return _unless_missing(requests, key, lambda: to_head(requests.send("head_object", Key=key)))


def etag_of(requests: Requests, key: str) -> str | None:
    """The ETag of an object. None if there is no such object."""
    answer = head(requests, key)
    return None if answer is None else answer.etag


def _unless_missing(requests: Requests, key: str, do: Callable[[], Answer]) -> Answer | None:
    try:
        return requests.retry("s3:GetObject", key, do)
    except ObjectNotFoundError:
        return None
    except AccessDeniedError:
        if _may_exist(requests, key):
            raise
        return None


def _may_exist(requests: Requests, key: str) -> bool:
    """Whether a denial may hide an object.

    S3 also denies access to a missing object if the right to list has conditions, for example in a policy that is
    limited to a prefix.
    """
    try:
        return any(entry["Key"] == key for entry in first_page(requests, key).get("Contents") or ())
    except StorageError:
        return True


# ---------------------------------------------------------------------- listings


def first_page(requests: Requests, prefix: str, **options: Any) -> Page:
    """The first page of the objects under a prefix."""
    return requests.call("s3:ListBucket", "list_objects_v2", Prefix=prefix, **options)


def pages(requests: Requests, prefix: str, **options: str) -> Iterator[Page]:
    """Yields all pages. If a server truncates a page without a token, the next page begins after its last key.

    Raises:
        StorageError: neither leads to the next page, so the listing would never end.
    """
    position: dict[str, str] = {}
    before = ""
    while True:
        page = first_page(requests, prefix, **options, **position)
        last = _last_key(page)
        if "StartAfter" in position and last <= before:
            raise _endless(requests, prefix)
        yield page
        if not page.get("IsTruncated"):
            return
        position = _next_position(page, last, position)
        if not position:
            raise _endless(requests, prefix)
        before = last


def _next_position(page: Page, last: str, used: Mapping[str, str]) -> dict[str, str]:
    """The argument for the next page. Empty if the page has none, or if it was already used."""
    token = page.get("NextContinuationToken")
    if token:
        return {"ContinuationToken": token} if token != used.get("ContinuationToken") else {}
    # The keys in a directory sort after its name, and would make the listing return the directory again.
    return {"StartAfter": f"{last}{_LAST_CHARACTER}" if last.endswith("/") else last} if last else {}


def _last_key(page: Page) -> str:
    """The last key or directory of a page. "" if the page is empty."""
    keys = [entry["Key"] for entry in page.get("Contents") or ()]
    directories = [entry["Prefix"] for entry in page.get("CommonPrefixes") or ()]
    return max((*keys[-1:], *directories[-1:]), default="")


def upload_pages(requests: Requests, prefix: str) -> Iterator[Page]:
    """Yields all pages of the multipart uploads under a prefix. Raises as `pages` does."""
    markers: dict[str, str] = {}
    while True:
        page = requests.call("s3:ListBucketMultipartUploads", "list_multipart_uploads", Prefix=prefix, **markers)
        yield page
        if not page.get("IsTruncated"):
            return
        uploads: Sequence[Mapping[str, str]] = page.get("Uploads") or ({},)
        key = page.get("NextKeyMarker") or uploads[-1].get("Key", "")
        upload_id = page.get("NextUploadIdMarker") or uploads[-1].get("UploadId", "")
        following = {"KeyMarker": key, "UploadIdMarker": upload_id}
        if not key or following == markers:
            raise _endless(requests, prefix)
        markers = following


def _endless(requests: Requests, prefix: str) -> StorageError:
    return StorageError(
        f"The server at {requests.endpoint} cut the listing of s3://{requests.bucket}/{prefix} short and does not say "
        "where it continues: it gives no token, and continuing behind the last key leads nowhere. What is stored there "
        "is unknown, so nothing was done. Put the bucket on a server that lists more than one page."
    )


# ---------------------------------------------------------------------- deletions


class Deletions:
    """Deletes objects of one bucket according to its server's abilities. A key without an object is not an error."""

    def __init__(self, requests: Requests, abilities: ServerAbilities) -> None:
        self._requests = requests
        self._abilities = abilities

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes these objects unconditionally."""
        if self._abilities.batch_delete is BatchDelete.NONE:
            in_parallel(self._delete_one, keys)
            return
        for chunk in _chunks(keys, _MAX_DELETE):
            self._delete_batch([{"Key": key} for key in chunk])

    def delete_unchanged(self, etags: Mapping[str, str]) -> None:
        """Deletes each object only while it has the given ETag."""
        in_batches = self._abilities.batch_delete is not BatchDelete.NONE
        if in_batches and self._abilities.batch_delete_if_match is not Condition.NONE:
            format_etag = self._abilities.batch_delete_if_match.format_etag
            for chunk in _chunks(list(etags), _MAX_DELETE):
                self._delete_batch([{"Key": key, "ETag": format_etag(etags[key])} for key in chunk])
        elif self._abilities.deletes_if_unchanged:
            in_parallel(lambda key: self._delete_one(key, etags[key]), etags)
        elif in_batches:
            for chunk in _chunks(list(etags), _HEADS_PER_BATCH):
                self._requests.retry(_DELETE, chunk[0], partial(self._compare_and_delete, chunk, etags))
        else:
            in_parallel(lambda key: self._compare_and_delete_one(key, etags[key]), etags)

    def _delete_one(self, key: str, etag: str | None = None) -> None:
        condition = {} if etag is None else {"IfMatch": self._abilities.delete_if_match.format_etag(etag)}
        with self._requests.relying_on("deletions"):
            try:
                self._requests.call(_DELETE, "delete_object", Key=key, **condition)
            except ObjectNotFoundError:
                return
            except PreconditionFailedError:
                if etag is None:
                    raise

    def _delete_batch(self, objects: Sequence[Mapping[str, str]]) -> None:
        with self._requests.relying_on("deletions of many objects in one request"):
            self._requests.retry(_DELETE, objects[0]["Key"], partial(self._send_batch, objects))

    def _send_batch(self, objects: Sequence[Mapping[str, str]]) -> None:
        send_batch(self._requests, objects, self._abilities.batch_delete)

    def _compare_and_delete(self, keys: Sequence[str], etags: Mapping[str, str]) -> None:
        """One try: reads the ETags, and deletes the objects that are unchanged."""
        current = in_parallel(partial(etag_of, self._requests), keys)
        unchanged = [key for key, etag in zip(keys, current, strict=True) if etag == etags[key]]
        if unchanged:
            self._send_batch([{"Key": key} for key in unchanged])

    def _compare_and_delete_one(self, key: str, etag: str) -> None:
        def once() -> None:
            if etag_of(self._requests, key) == etag:
                self._requests.send("delete_object", Key=key)

        with suppress(ObjectNotFoundError):
            self._requests.retry(_DELETE, key, once)


def send_batch(requests: Requests, objects: Sequence[Mapping[str, str]], form: BatchDelete) -> None:
    """Sends one DeleteObjects request once.

    Raises:
        ClientError: the answer refuses a key. A key that is gone, or that has another ETag than given, is not a
            refusal.
    """
    send = requests.send_with_md5 if form is BatchDelete.MD5 else requests.send
    answer = send("delete_objects", Delete={"Objects": list(objects), "Quiet": True})
    conditional = {entry["Key"] for entry in objects if "ETag" in entry}
    for error in answer.get("Errors") or ():
        code = error.get("Code", "")
        if code not in _GONE and not (code in _CHANGED and error.get("Key") in conditional):
            raise ClientError({"Error": error}, "DeleteObjects")


def _chunks(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
