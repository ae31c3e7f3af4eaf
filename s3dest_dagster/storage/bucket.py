"""One bucket, as the few verbs that a landing needs; each does one request (a listing: one per 1000 keys), and does it
again while that may help.

Only actions of the seed's IAM policy are used: put, get, head, delete, list, the multipart cycle. It must not know what
the keys mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from threading import Event
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from botocore.exceptions import ClientError, ResponseStreamingError

from s3dest_dagster.connection import console_host, is_aws
from s3dest_dagster.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageError,
    UploadVanishedError,
)
from s3dest_dagster.printable import logger
from s3dest_dagster.storage.abilities import AWS, Condition, ServerAbilities
from s3dest_dagster.storage.patience import Patience, Tries
from s3dest_dagster.storage.requests import Requests
from s3dest_dagster.storage.workers import in_parallel

MAX_DELETE = 1000
"""Keys in one DeleteObjects request (S3's limit)."""
LOOKED_AT_ONCE = 32
"""Objects that are looked at before they are deleted together, where deletions know no condition."""
ONCE = Patience(max_attempts=1)
WITHOUT_CONDITIONS = (
    "This server ignores conditional puts: every promise holds, but two syncs of one stream at the same time are not "
    "told apart. See to it that only one runs."
)
_logger = logger("storage")


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
    """A multipart upload that is neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime


class Bucket:
    """A bucket behind a client that has `boto3`'s S3 methods and is safe to use from several threads.

    Every verb raises a StorageError (see `errors`) with a sentence for people. `patience` says how often and how long a
    request is tried; where the client retries, too, each of those tries is a series of its own.
    """

    def __init__(self, client: Any, name: str, patience: Patience = ONCE) -> None:
        self._requests = Requests(client, name, patience)
        self._headers: Mapping[str, str] = {}
        self._place = ""
        self._found_out: dict[str, ServerAbilities] = {}

    @property
    def client(self) -> Any:
        """The client that requests go through."""
        return self._requests.client

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._requests.bucket

    def until(self, given_up: Event) -> Bucket:
        """The same bucket for requests that are not tried again once the event is set; a pause ends at once then."""
        same = copy(self)
        same._requests = self._requests.until(given_up)
        return same

    def at(self, place: str) -> Bucket:
        """The same bucket, which keeps under this prefix what it finds out about its server."""
        same = copy(self)
        same._place = place
        return same

    def with_headers(self, headers: Mapping[str, str]) -> Bucket:
        """The same bucket, whose objects are written with these headers (see `headers_of_all`)."""
        same = copy(self)
        same._headers = dict(headers)
        return same

    @property
    def endpoint(self) -> str:
        """The URL that requests go to."""
        return self._requests.endpoint

    @property
    def partition(self) -> str:
        """The part of AWS that ARNs name: "aws-cn" in China, "aws-us-gov"; "aws" elsewhere and on other servers."""
        return self._requests.partition

    def uri(self, key: str = "") -> str:
        """The `s3://` address of a key."""
        return f"s3://{self.name}/{key}"

    def page(self, prefix: str) -> str | None:
        """The page of AWS's console that shows what stands under a prefix; None for other servers, and where AWS has
        other consoles."""
        region = self.client.meta.region_name or ""
        host = console_host(self.endpoint, region)
        if host is None:
            return None
        query = urlencode({"region": region, "prefix": prefix} if region else {"prefix": prefix})
        return f"https://{host}/s3/buckets/{quote(self.name)}?{query}"

    def server_time(self) -> datetime:
        """What time it is on the server, by its newest answer; it is asked (one listing) where that is not from the
        last minute. This machine's time where the server's answers tell none.

        Whatever several machines must agree on, as how old an upload is, goes by this clock.
        """
        clock = self._requests.clock
        if clock.now() is None:
            self.first_page(self._place)
        return clock.now() or datetime.now(UTC)

    # ------------------------------------------------------------------ whole objects

    def put(self, key: str, body: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Writes an object as a whole and returns its ETag.

        With `if_absent` or `if_match` (an ETag) only if no other writer was first: else PreconditionFailedError. A
        server that ignores conditions is looked at before the write, which narrows the gap and does not close it.
        """
        conditions: dict[str, str] = {}
        if if_absent or if_match is not None:
            conditions = self._conditions(key, if_absent, if_match)
        tries = self._requests.begin()
        try:
            return self._put(key, body, conditions, tries)
        except PreconditionFailedError:
            # The answer to an earlier try may be what was lost, and the version that is met our own.
            found = self.get(key) if tries.count > 1 else None
            if found is None or found[0] != body:
                raise
            return found[1]

    def _put(self, key: str, body: bytes, conditions: Mapping[str, str], tries: Tries | None = None) -> str:
        put = partial(self._requests.send, "put_object", Key=key, Body=body, **self._headers, **conditions)
        return self._requests.ask("s3:PutObject", key, lambda: _etag(put()), tries)

    def _conditions(self, key: str, if_absent: bool, if_match: str | None) -> dict[str, str]:
        if self.abilities.tells_writers_apart:
            return {"IfNoneMatch": "*"} if if_absent else {"IfMatch": f'"{if_match}"'}
        _tell_once(self.endpoint)
        found = self.get(key)
        if (found is None) != if_absent or (found is not None and found[1] != if_match):
            raise PreconditionFailedError(f"{self.uri(key)} is not what this sync last saw.", key=key)
        return {}

    def get(self, key: str) -> tuple[bytes, str] | None:
        """An object's bytes and ETag; None when there is no such object. An answer that is cut short is read again."""

        def read() -> tuple[bytes, str]:
            answer = self._requests.send("get_object", Key=key)
            return answer["Body"].read(), _etag(answer)

        try:
            return self._requests.ask("s3:GetObject", key, read)
        except ObjectNotFoundError:
            return None
        except AccessDeniedError:
            if self._may_exist(key):
                raise
            return None

    def head(self, key: str) -> ObjectHead | None:
        """Size, ETag and metadata (names in lower case) of an object; None when there is no such object."""
        try:
            return self._requests.ask("s3:GetObject", key, lambda: _head(self._requests.send("head_object", Key=key)))
        except ObjectNotFoundError:
            return None
        except AccessDeniedError:
            if self._may_exist(key):
                raise
            return None

    def _may_exist(self, key: str) -> bool:
        """Whether a denial may hide an object: S3 denies what is missing, too, where the right to list has conditions,
        as under a policy that ends at a prefix."""
        try:
            return any(each.key == key for each in self.first_page(key)[0])
        except StorageError:
            return True

    def delete(self, keys: Iterable[str]) -> int:
        """Deletes objects, up to 1000 per request; a key that is not there is no error. Returns how many were asked.

        A key that the server refuses inside its answer raises, naming it.
        """
        deleted = 0
        for chunk in _chunks(list(keys), MAX_DELETE):
            self._requests.ask("s3:DeleteObject", chunk[0], partial(self._delete, chunk))
            deleted += len(chunk)
        return deleted

    def _delete(self, keys: Sequence[str]) -> None:
        request = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._requests.send("delete_objects", Delete=request)
        for each in answer.get("Errors", []):
            if each.get("Code") != "NoSuchKey":
                raise ClientError({"Error": each}, "DeleteObjects")

    def delete_unchanged(self, etags: Mapping[str, str]) -> None:
        """Deletes each of these keys only while its object has the given ETag (without quotes). Objects that changed,
        and those that are gone, are left alone.

        By a condition where the server honours one on deletions. Elsewhere each object is looked at right before each
        try to delete it, a few at a time, which narrows the gap and does not close it.
        """
        for chunk in _chunks(list(etags), LOOKED_AT_ONCE):
            self._requests.ask("s3:DeleteObject", chunk[0], partial(self._delete_looking, chunk, etags))

    def _delete_looking(self, keys: Sequence[str], etags: Mapping[str, str]) -> None:
        heads = in_parallel(self.head, keys)
        unchanged = [key for key, head in zip(keys, heads, strict=True) if head and head.etag == etags[key]]
        if unchanged:
            self._delete(unchanged)

    # ------------------------------------------------------------------ listings

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        """All objects whose keys begin with `prefix`, in the server's order, a page at a time."""
        token: dict[str, str] = {}
        while True:
            page = self._page(prefix, token)
            yield from map(_listed, page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def list_directories(self, prefix: str) -> Iterator[str]:
        """The directories right under `prefix` (which ends with a slash), each with its slash at the end. What stands
        in them is not listed, however much it is."""
        token: dict[str, str] = {}
        while True:
            page = self._page(prefix, {**token, "Delimiter": "/"})
            yield from (each["Prefix"] for each in page.get("CommonPrefixes", ()))
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def first_page(self, prefix: str) -> tuple[list[Listed], bool]:
        """The first up to 1000 objects under `prefix`, and whether there are more. One request."""
        page = self._page(prefix, {})
        return [_listed(each) for each in page.get("Contents", ())], bool(page.get("IsTruncated"))

    def _page(self, prefix: str, options: Mapping[str, str]) -> dict[str, Any]:
        listing = partial(self._requests.send, "list_objects_v2", Prefix=prefix, **options)
        return self._requests.ask("s3:ListBucket", None, listing)

    # ------------------------------------------------------------------ multipart uploads

    def create_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begins a multipart upload, of which nothing is visible until it is completed. Returns its id."""
        place = {"Key": key, "Metadata": dict(metadata)}
        create = partial(self._requests.send, "create_multipart_upload", **place, **self._headers)
        return str(self._requests.ask("s3:PutObject", key, create)["UploadId"])

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> str:
        """Sends one part (1 to 10,000; at least 5 MiB but for the last) and returns its ETag."""
        place = {"Key": key, "UploadId": upload_id, "PartNumber": number}
        send = partial(self._requests.send, "upload_part", **place, Body=body)
        return self._requests.ask("s3:PutObject", key, lambda: _etag(send()))

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Makes the object visible, parts in order.

        UploadVanishedError if the upload is unknown: it was aborted, or completed before, perhaps by a first try of
        this very request, of which the answer was lost.
        """
        parts = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        place = {"Key": key, "UploadId": upload_id, "MultipartUpload": {"Parts": parts}}
        complete = partial(self._requests.send, "complete_multipart_upload", **place)
        self._requests.ask("s3:PutObject", key, lambda: _check_completed(complete()))

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Gives up a multipart upload and its parts. One that is not there (any more) is no error."""
        try:
            abort = partial(self._requests.send, "abort_multipart_upload", Key=key, UploadId=upload_id)
            self._requests.ask("s3:AbortMultipartUpload", key, abort)
        except UploadVanishedError:
            return

    def list_uploads(self, prefix: str) -> Iterator[PendingUpload]:
        """All multipart uploads under `prefix` that are neither completed nor aborted."""
        markers: dict[str, str] = {}
        while True:
            listing = partial(self._requests.send, "list_multipart_uploads", Prefix=prefix, **markers)
            page = self._requests.ask("s3:ListBucketMultipartUploads", None, listing)
            for each in page.get("Uploads", ()):
                yield PendingUpload(each["Key"], each["UploadId"], each["Initiated"])
            if not page.get("IsTruncated"):
                return
            markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    # ------------------------------------------------------------------ what the server can do

    @property
    def abilities(self) -> ServerAbilities:
        """What the server can do. AWS's abilities are known; another server is asked once."""
        if is_aws(self.endpoint):
            return AWS
        if self._place not in self._found_out:
            conditional = self._probe(f"{self._place}probe/{uuid4().hex}")
            self._found_out[self._place] = ServerAbilities(
                create_if_absent=conditional,
                replace_if_match=Condition.QUOTED if conditional else Condition.NONE,
                delete_if_match=Condition.NONE,
                batch_delete_if_match=Condition.NONE,
            )
        return self._found_out[self._place]

    def _probe(self, key: str) -> bool:
        etag = self._put(key, b"probe", {})
        try:
            return not self._accepts(key, IfNoneMatch="*") and self._accepts(key, IfMatch=f'"{etag}"')
        finally:
            self.delete([key])

    def _accepts(self, key: str, **condition: str) -> bool:
        try:
            self._put(key, b"probe", condition)
        except PreconditionFailedError:
            return False
        except StorageError as error:
            if "NotImplemented" in error.message:
                return False
            raise
        return True


@lru_cache(maxsize=64)
def _tell_once(endpoint: str) -> None:
    _logger.warning("%s: %s", endpoint, WITHOUT_CONDITIONS)


def _head(answer: Mapping[str, Any]) -> ObjectHead:
    # Some servers give the names back in title case.
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    if "ContentLength" not in answer:
        raise ResponseStreamingError(error="the head of the answer is cut short: it has no Content-Length")
    opaque = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return ObjectHead(answer["ContentLength"], _etag(answer), metadata, opaque)


def _etag(answer: Mapping[str, Any]) -> str:
    """The ETag of an answer, which must be whole: Python takes a head whose end never came for one that is complete."""
    etag: str = answer.get("ETag", "")
    if not etag or (etag[0] == '"') != (etag[-1] == '"' and len(etag) > 1):
        raise ResponseStreamingError(error=f"the head of the answer is cut short: its ETag is {etag!r}")
    return _bare(etag)


def _check_completed(answer: Mapping[str, Any]) -> None:
    """The answer must tell of an object: of one that is cut short in its head nothing is left. Its ETag may be empty,
    as Ceph 16 leaves it."""
    if not answer.keys() & {"Key", "ETag"}:
        raise ResponseStreamingError(error="the answer is cut short: it does not tell which object is complete")


def _bare(etag: str) -> str:
    return etag.strip('"')


def _listed(entry: Mapping[str, Any]) -> Listed:
    return Listed(entry["Key"], entry["Size"], _bare(entry.get("ETag", "")), entry["LastModified"])


def _chunks(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
