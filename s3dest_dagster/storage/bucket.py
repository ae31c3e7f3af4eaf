"""One bucket, as the few verbs that a landing needs, with the guarantees of each verb.

A verb is one request (a listing is one per 1000 keys), with retries. Uses only actions of the connector's documented
IAM policy: put, get, head, delete, list and the multipart cycle. Must not know: what the keys mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from threading import Event, RLock
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from s3dest_dagster.errors import ObjectNotFoundError, PreconditionFailedError, StorageError, UploadVanishedError
from s3dest_dagster.printable import logger
from s3dest_dagster.settings.connection import console_host, is_aws
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import objects
from s3dest_dagster.storage.abilities import (
    AWS,
    WITHOUT_CONDITIONS,
    Condition,
    ServerAbilities,
    read_abilities,
    with_abilities,
)
from s3dest_dagster.storage.headers import headers_of_all, md5_of
from s3dest_dagster.storage.objects import Deletions, ListedObject, ObjectHead, PendingUpload
from s3dest_dagster.storage.probing import delete_anyhow, probe
from s3dest_dagster.storage.requests import Requests, RetryPolicy, Tries

ONCE = RetryPolicy(max_attempts=1)
SERVER_FILE = "server.json"
"""Name of the file, under the bucket's root, that stores the server's abilities."""
TRIALS = "~"
"""First character of the keys of trial objects under the bucket's root. Only a killed process leaves any behind."""
_logger = logger("storage")


@dataclass
class _AbilityCache:
    """The server's abilities by root. A process reads or probes them once, however many threads it has."""

    abilities: dict[str, ServerAbilities] = field(default_factory=dict)
    lock: Any = field(default_factory=RLock)


class Bucket:
    """A bucket, accessed through a client that has the methods of boto3's S3 client. Safe to use from several threads.

    Every verb can raise AccessDeniedError, BucketNotFoundError, CredentialsError, EndpointUnreachableError and other
    kinds of StorageError, which say what happened, where, and what to do. If the client retries on its own, each series
    of its tries counts as one try of `retry_policy`.
    """

    def __init__(self, client: Any, name: str, retry_policy: RetryPolicy = ONCE) -> None:
        self._requests = Requests(client, name, retry_policy)
        self._headers: Mapping[str, str] = {}
        self._own_headers: Mapping[str, str] = {}
        self._root = ""
        self._cache = _AbilityCache()

    @property
    def client(self) -> Any:
        """The client that sends the requests."""
        return self._requests.client

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._requests.bucket

    def cancelled_by(self, event: Event) -> Bucket:
        """The same bucket, but once the event is set, pauses end and no request is retried."""
        same = copy(self)
        same._requests = self._requests.cancelled_by(event)
        return same

    def with_root(self, root: str) -> Bucket:
        """The same bucket, which stores the server's abilities and trial objects under this prefix."""
        same = copy(self)
        same._root = root
        return same

    def with_headers(self, headers: Mapping[str, str]) -> Bucket:
        """The same bucket, which writes all objects with these headers (see `headers_of_all`)."""
        same = copy(self)
        same._headers = same._own_headers = dict(headers)
        return same

    def for_destination(self, destination: S3Destination) -> Bucket:
        """The same bucket, with a destination's manifest root and the headers of all its objects."""
        return self.with_root(destination.template.manifest_root).with_headers(headers_of_all(destination))

    def with_data_headers(self, headers: Mapping[str, str]) -> Bucket:
        """The same bucket, which writes data with these headers (`headers_of_data`), but not the server file."""
        same = copy(self)
        same._headers = dict(headers)
        return same

    @property
    def endpoint(self) -> str:
        """The URL that requests go to."""
        return self._requests.endpoint

    @property
    def partition(self) -> str:
        """The AWS partition for ARNs: "aws-cn" in China, "aws-us-gov", and "aws" elsewhere and on other servers."""
        return self._requests.partition

    def uri(self, key: str = "") -> str:
        """The `s3://` address of a key."""
        return f"s3://{self.name}/{key}"

    def console_url(self, prefix: str) -> str | None:
        """The AWS console page that shows a prefix. None for other servers and AWS partitions without a console."""
        region = self.client.meta.region_name or ""
        host = console_host(self.endpoint, region)
        if host is None:
            return None
        query = urlencode({"region": region, "prefix": prefix} if region else {"prefix": prefix})
        return f"https://{host}/s3/buckets/{quote(self.name)}?{query}"

    def server_time(self) -> datetime:
        """The server's time, on which machines can agree. This machine's time if the server sends no Date.

        Taken from the newest answer. Sends one listing if there was no answer within the last minute.
        """
        clock = self._requests.clock
        if clock.now() is None:
            self.first_page(self._root)
        return clock.now() or datetime.now(UTC)

    # ------------------------------------------------------------------ whole objects

    def put(self, key: str, body: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Writes an object atomically and returns its ETag.

        On a server that ignores conditions, the object is read right before it is written. This reduces the gap between
        two writers to milliseconds but does not close it.

        Args:
            if_absent: writes only if there is no object.
            if_match: writes only if the object has this ETag (without quotes).

        Raises:
            PreconditionFailedError: another writer was first.
        """
        if not if_absent and if_match is None:
            return self._put(key, body, {}, self._requests.begin())
        condition = self._condition(key, if_absent, if_match)
        tries = self._requests.begin()
        try:
            with self._requests.relying_on("conditional puts"):
                return self._put(key, body, condition, tries)
        except PreconditionFailedError:
            # A lost answer to an earlier try looks the same. In that case the current object is our own.
            current = self.get(key) if tries.count > 1 else None
            if current is None or current[0] != body:
                raise
            return current[1]

    def _put(self, key: str, body: bytes, condition: Mapping[str, str], tries: Tries) -> str:
        arguments = {"Key": key, "Body": body, **self._digest(body), **self._headers, **condition}

        def once() -> str:
            answer = self._requests.send("put_object", **arguments)
            if "ETag" in answer or self.abilities.etags_answered:
                return objects.to_etag(answer)
            current = self.get(key)
            if current is None or current[0] != body:
                raise PreconditionFailedError(f"{self.uri(key)} was changed by another writer at once.", key=key)
            return current[1]

        return self._requests.retry("s3:PutObject", key, once, tries)

    def _digest(self, body: bytes) -> dict[str, str]:
        """Content-MD5, which all servers support and Object Lock requires. For AWS, boto3 sends a checksum instead."""
        return {} if is_aws(self.endpoint) else {"ContentMD5": md5_of(body)}

    def _condition(self, key: str, if_absent: bool, if_match: str | None) -> dict[str, str]:
        abilities = self.abilities
        if if_absent and abilities.create_if_absent:
            return {"IfNoneMatch": "*"}
        if if_match is not None and abilities.replace_if_match is not Condition.NONE:
            return {"IfMatch": abilities.replace_if_match.format_etag(if_match)}
        _warn_without_conditions(self.endpoint)
        current = self.get(key)
        if (current is None) != if_absent or (current is not None and current[1] != if_match):
            raise PreconditionFailedError(f"{self.uri(key)} is not what this sync last saw.", key=key)
        return {}

    def get(self, key: str) -> tuple[bytes, str] | None:
        """An object's complete bytes and its ETag. None if there is no object. A truncated answer is read again."""
        return objects.read(self._requests, key)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """The bytes of an object from one position up to another, which is not included.

        Raises:
            ObjectNotFoundError: There is no object.
        """
        return objects.read_range(self._requests, key, start, stop)

    def head(self, key: str) -> ObjectHead | None:
        """Size, ETag and metadata of an object. None if there is no object."""
        return objects.head(self._requests, key)

    def delete(self, keys: Iterable[str]) -> int:
        """Deletes objects unconditionally, and returns the number of keys. A key without an object is not an error.

        Not atomic: after an error some objects are deleted. Sends one request per 1000 keys if the server supports
        that.

        Raises:
            StorageError: the server refuses a key. The error names the key.
        """
        todo = list(keys)
        if todo:
            Deletions(self._requests, self.abilities).delete(todo)
        return len(todo)

    def delete_unchanged(self, etags: Mapping[str, str]) -> None:
        """Deletes each of these objects only while it has the given ETag (without quotes).

        Skips objects that have changed or are gone. Not atomic, like `delete`. On a server without conditional
        deletions, the ETag is read right before each try. This reduces the gap to milliseconds but does not close it.
        """
        if etags:
            Deletions(self._requests, self.abilities).delete_unchanged(etags)

    # ------------------------------------------------------------------ rights

    def check_delete(self, key: str) -> None:
        """Deletes one object in any way that the server supports. A missing object is not an error. Needs no abilities.

        Raises:
            AccessDeniedError: this identity may not delete.
        """
        delete_anyhow(self._requests, key)

    def check_read(self, key: str) -> None:
        """Reads the head of an object, which may be missing.

        Raises:
            AccessDeniedError: this identity may not read. `head` may mistake such a denial for a missing object.
        """
        with suppress(ObjectNotFoundError):
            self._requests.call("s3:GetObject", "head_object", Key=key)

    # ------------------------------------------------------------------ listings

    def list_objects(self, prefix: str) -> Iterator[ListedObject]:
        """All objects whose keys begin with `prefix`, in the server's order, read page by page.

        Raises:
            StorageError: a request fails, or the server truncates the listing without saying where it continues.
        """
        for page in objects.pages(self._requests, prefix):
            yield from map(objects.to_listed, page.get("Contents") or ())

    def list_directories(self, prefix: str) -> Iterator[str]:
        """The directories directly under `prefix`, with trailing slashes. Does not list their content."""
        for page in objects.pages(self._requests, prefix, Delimiter="/"):
            yield from (entry["Prefix"] for entry in page.get("CommonPrefixes") or ())

    def first_page(self, prefix: str) -> tuple[list[ListedObject], bool]:
        """The first objects under `prefix`, at most 1000, and whether there are more. One request."""
        page = objects.first_page(self._requests, prefix)
        return [objects.to_listed(entry) for entry in page.get("Contents") or ()], bool(page.get("IsTruncated"))

    # ------------------------------------------------------------------ multipart uploads

    def create_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begins a multipart upload and returns its id. Nothing is visible until it is completed."""
        arguments = {"Key": key, "Metadata": dict(metadata), **self._headers}
        return str(self._requests.call("s3:PutObject", "create_multipart_upload", **arguments)["UploadId"])

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> str:
        """Sends one part and returns its ETag. Sending a part twice is harmless.

        Args:
            number: 1 to 10,000.
            body: at least 5 MiB, unless it is the last part.
        """
        digest = {} if self.abilities.parts_without_md5 else self._digest(body)
        part = {"Key": key, "UploadId": upload_id, "PartNumber": number, "Body": body, **digest}
        return self._requests.retry(
            "s3:PutObject", key, lambda: objects.to_etag(self._requests.send("upload_part", **part))
        )

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Makes the object visible atomically, with its parts in the order of their ETags.

        Raises:
            UploadVanishedError: it was already aborted or completed, possibly by a first try whose answer was lost.
        """
        parts = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        arguments = {"Key": key, "UploadId": upload_id, "MultipartUpload": {"Parts": parts}}
        complete = partial(self._requests.send, "complete_multipart_upload", **arguments)
        self._requests.retry("s3:PutObject", key, lambda: objects.check_completed(complete()))

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drops a multipart upload with its parts. An upload that does not exist (any more) is not an error."""
        with suppress(UploadVanishedError):
            self._requests.call("s3:AbortMultipartUpload", "abort_multipart_upload", Key=key, UploadId=upload_id)

    def list_uploads(self, prefix: str) -> Iterator[PendingUpload]:
        """All multipart uploads under `prefix` that are neither completed nor aborted. Raises as `list_objects`."""
        for page in objects.upload_pages(self._requests, prefix):
            yield from map(objects.to_pending, page.get("Uploads") or ())

    # ------------------------------------------------------------------ the server's abilities

    @property
    def abilities(self) -> ServerAbilities:
        """The server's abilities, from the server file, which a process reads once. AWS needs no file.

        If there is no file, the server is probed and the file written.
        """
        if is_aws(self.endpoint):
            return AWS
        with self._cache.lock:
            known = self._cache.abilities.get(self._root)
            return known or self.with_headers(self._own_headers)._load_abilities(again=False)

    def probe_again(self) -> ServerAbilities:
        """Probes the server's abilities again, and stores them for every process that starts later."""
        if is_aws(self.endpoint):
            return AWS
        with self._cache.lock:
            return self.with_headers(self._own_headers)._load_abilities(again=True)

    def _load_abilities(self, *, again: bool) -> ServerAbilities:
        key = f"{self._root}{SERVER_FILE}"
        current = self.get(key)
        body = current[0] if current is not None else None
        abilities = None if again else read_abilities(body, self.endpoint, self.name)
        if abilities is None:
            abilities = probe(self._requests, f"{self._root}{TRIALS}probe-{uuid4().hex}", self._headers)
            self._keep_abilities(key, body, abilities)
        self._cache.abilities[self._root] = abilities
        return abilities

    def _keep_abilities(self, key: str, body: bytes | None, abilities: ServerAbilities) -> None:
        before = dict(self._cache.abilities)
        self._cache.abilities[self._root] = abilities  # which this very put asks for
        try:
            self.put(key, with_abilities(body, self.endpoint, self.name, abilities))
        except StorageError:
            self._cache.abilities = before
            raise


@lru_cache(maxsize=64)
def _warn_without_conditions(endpoint: str) -> None:
    """Warns once per endpoint."""
    _logger.warning("%s: %s", endpoint, WITHOUT_CONDITIONS)
