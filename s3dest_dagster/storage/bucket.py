"""One bucket, as the few verbs that a landing needs; each does one request (a listing: one per 1000 keys).

Only actions of the seed's IAM policy are used: put, get, head, delete, list, the multipart cycle. It must not know what
the keys mean.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import uuid4

from botocore.exceptions import HTTPClientError, ResponseStreamingError

from s3dest_dagster.connection import is_aws
from s3dest_dagster.errors import ObjectNotFoundError, PreconditionFailedError, StorageError, UploadVanishedError
from s3dest_dagster.storage.faults import mapped, policy_statement

MAX_DELETE = 1000
"""Keys in one DeleteObjects request (S3's limit)."""
_READ_ATTEMPTS = 4
WITHOUT_CONDITIONS = (
    "This server ignores conditional puts: every promise holds, but two syncs of one stream at the same time are not "
    "told apart. See to it that only one runs."
)
_logger = logging.getLogger("s3dest_dagster.storage")


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it. `size` in bytes; `etag` without quotes."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """An object as HEAD shows it. `metadata` is empty on servers that do not keep it."""

    size: int
    etag: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime


class Bucket:
    """A bucket behind a client that has `boto3`'s S3 methods and is safe to use from several threads.

    Every verb raises a StorageError (see `errors`) with a sentence for people; retries are the client's.
    """

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name
        self._conditional: bool | None = None

    @property
    def endpoint(self) -> str:
        """The URL that requests go to."""
        return str(self.client.meta.endpoint_url)

    def uri(self, key: str = "") -> str:
        """The `s3://` address of a key."""
        return f"s3://{self.name}/{key}"

    # ------------------------------------------------------------------ whole objects

    def put(self, key: str, body: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Writes an object as a whole and returns its ETag.

        With `if_absent` or `if_match` (an ETag) only if no other writer was first: else PreconditionFailedError. A
        server that ignores conditions is looked at before the write, which narrows the gap and does not close it.
        """
        conditions: dict[str, str] = {}
        if if_absent or if_match is not None:
            conditions = self._conditions(key, if_absent, if_match)
        with mapped("s3:PutObject", self.name, key):
            answer = self.client.put_object(Bucket=self.name, Key=key, Body=body, **conditions)
        return _bare(answer["ETag"])

    def _conditions(self, key: str, if_absent: bool, if_match: str | None) -> dict[str, str]:
        if self.has_conditional_puts(key):
            return {"IfNoneMatch": "*"} if if_absent else {"IfMatch": f'"{if_match}"'}
        _tell_once(self.endpoint)
        found = self.get(key)
        if (found is None) != if_absent or (found is not None and found[1] != if_match):
            raise PreconditionFailedError(f"{self.uri(key)} is not what this sync last saw.", key=key)
        return {}

    def get(self, key: str) -> tuple[bytes, str] | None:
        """An object's bytes and ETag; None when there is no such object. Answers that are cut short are read again."""
        for attempt in range(1, _READ_ATTEMPTS + 1):
            try:
                with mapped("s3:GetObject", self.name, key):
                    answer = self.client.get_object(Bucket=self.name, Key=key)
                    return answer["Body"].read(), _bare(answer["ETag"])
            except ObjectNotFoundError:
                return None
            except StorageError as error:
                cut = isinstance(error.__cause__, ResponseStreamingError | HTTPClientError)
                if not cut or attempt == _READ_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def head(self, key: str) -> ObjectHead | None:
        """Size, ETag and metadata (names in lower case) of an object; None when there is no such object."""
        try:
            with mapped("s3:GetObject", self.name, key):
                answer = self.client.head_object(Bucket=self.name, Key=key)
        except ObjectNotFoundError:
            return None
        # Some servers give the names back in title case.
        metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        return ObjectHead(answer["ContentLength"], _bare(answer["ETag"]), metadata)

    def delete(self, keys: Iterable[str]) -> int:
        """Deletes objects, up to 1000 per request; a key that is not there is no error. Returns how many were asked.

        A key that the server refuses inside its answer raises, naming it.
        """
        deleted = 0
        for chunk in _chunks(list(keys), MAX_DELETE):
            request = {"Objects": [{"Key": key} for key in chunk], "Quiet": True}
            with mapped("s3:DeleteObject", self.name, chunk[0]):
                answer = self.client.delete_objects(Bucket=self.name, Delete=request)
            self._raise_first_refusal(answer.get("Errors", []))
            deleted += len(chunk)
        return deleted

    def _raise_first_refusal(self, refusals: Sequence[Mapping[str, str]]) -> None:
        for each in refusals:
            if each.get("Code") == "NoSuchKey":
                continue
            raise StorageError(
                f"S3 did not delete {self.uri(each.get('Key', '?'))}: {each.get('Code')}: {each.get('Message')}. "
                f"If it is a matter of rights, the policy needs {policy_statement('s3:DeleteObject', self.name)}",
                key=each.get("Key"),
                action="s3:DeleteObject",
            )

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

    def first_page(self, prefix: str) -> tuple[list[Listed], bool]:
        """The first up to 1000 objects under `prefix`, and whether there are more. One request."""
        page = self._page(prefix, {})
        return [_listed(each) for each in page.get("Contents", ())], bool(page.get("IsTruncated"))

    def _page(self, prefix: str, token: Mapping[str, str]) -> dict[str, Any]:
        with mapped("s3:ListBucket", self.name):
            answer: dict[str, Any] = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix, **token)
        return answer

    # ------------------------------------------------------------------ multipart uploads

    def create_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begins a multipart upload, of which nothing is visible until it is completed. Returns its id."""
        with mapped("s3:PutObject", self.name, key):
            answer = self.client.create_multipart_upload(Bucket=self.name, Key=key, Metadata=dict(metadata))
        return str(answer["UploadId"])

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> str:
        """Sends one part (1 to 10,000; at least 5 MiB but for the last) and returns its ETag."""
        with mapped("s3:PutObject", self.name, key):
            answer = self.client.upload_part(
                Bucket=self.name, Key=key, UploadId=upload_id, PartNumber=number, Body=body
            )
        return _bare(answer["ETag"])

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str]) -> str:
        """Makes the object visible, parts in order; returns its ETag. UploadVanishedError if the upload is unknown."""
        parts = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        with mapped("s3:PutObject", self.name, key):
            answer = self.client.complete_multipart_upload(
                Bucket=self.name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        return _bare(answer["ETag"])

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Gives up a multipart upload and its parts. One that is not there (any more) is no error."""
        try:
            with mapped("s3:AbortMultipartUpload", self.name, key):
                self.client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)
        except UploadVanishedError:
            return

    def list_uploads(self, prefix: str) -> Iterator[PendingUpload]:
        """All multipart uploads under `prefix` that are neither completed nor aborted."""
        markers: dict[str, str] = {}
        while True:
            with mapped("s3:ListBucketMultipartUploads", self.name):
                page = self.client.list_multipart_uploads(Bucket=self.name, Prefix=prefix, **markers)
            for each in page.get("Uploads", ()):
                yield PendingUpload(each["Key"], each["UploadId"], each["Initiated"])
            if not page.get("IsTruncated"):
                return
            markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    # ------------------------------------------------------------------ what the server can do

    def has_conditional_puts(self, beside: str) -> bool:
        """Whether the server honours If-None-Match and If-Match on puts.

        AWS does. Another server is asked once in the life of this object, with a probe object beside the given key
        that is deleted again (four requests): it must refuse a second creation and accept the right ETag.
        """
        if self._conditional is None:
            self._conditional = is_aws(self.endpoint) or self._probe(f"{beside}.{uuid4().hex[:12]}.probe")
        return self._conditional

    def _probe(self, key: str) -> bool:
        with mapped("s3:PutObject", self.name, key):
            etag = self.client.put_object(Bucket=self.name, Key=key, Body=b"probe")["ETag"]
        try:
            return not self._accepts(key, IfNoneMatch="*") and self._accepts(key, IfMatch=etag)
        finally:
            self.delete([key])

    def _accepts(self, key: str, **condition: str) -> bool:
        try:
            with mapped("s3:PutObject", self.name, key):
                self.client.put_object(Bucket=self.name, Key=key, Body=b"probe", **condition)
        except PreconditionFailedError:
            return False
        except StorageError as error:
            if "NotImplemented" in error.message:
                return False
            raise
        return True


@cache
def _tell_once(endpoint: str) -> None:
    _logger.warning("%s: %s", endpoint, WITHOUT_CONDITIONS)


def _bare(etag: str) -> str:
    return etag.strip('"')


def _listed(entry: Mapping[str, Any]) -> Listed:
    return Listed(entry["Key"], entry["Size"], _bare(entry.get("ETag", "")), entry["LastModified"])


def _chunks(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
