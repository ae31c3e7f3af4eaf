"""One bucket, as the few verbs that a landing needs; each does one request (a listing: one per 1000 keys), and does it
again while that may help.

Only actions of the seed's IAM policy are used: put, get, head, delete, list, the multipart cycle. It must not know what
the keys mean.
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
from s3dest_dagster.storage import objects
from s3dest_dagster.storage.abilities import (
    AWS,
    WITHOUT_CONDITIONS,
    Condition,
    ServerAbilities,
    known_abilities,
    with_abilities,
)
from s3dest_dagster.storage.deletion import Deletions, delete_somehow
from s3dest_dagster.storage.headers import md5_of
from s3dest_dagster.storage.objects import (
    Listed,
    ObjectHead,
    PendingUpload,
    check_completed,
    etag_of,
    first_page,
    listed,
    pages,
    pending,
    upload_pages,
)
from s3dest_dagster.storage.probing import find_out
from s3dest_dagster.storage.requests import Requests
from s3dest_dagster.storage.retry import RetryPolicy, Tries

ONCE = RetryPolicy(max_attempts=1)
SERVER_FILE = "server.json"
"""What the server can do, kept in a bucket's place."""
TRIALS = "~"
"""How the keys in a bucket's place begin that are there for trial. What has one is deleted at once, but for what a
process leaves that is killed."""
_logger = logger("storage")


@dataclass
class _FoundOut:
    """What is known of the server, by the place where it is kept. A process asks once, whatever its threads."""

    abilities: dict[str, ServerAbilities] = field(default_factory=dict)
    lock: Any = field(default_factory=RLock)


class Bucket:
    """A bucket behind a client that has `boto3`'s S3 methods and is safe to use from several threads.

    Every verb raises a StorageError (see `errors`) with a sentence for people. `retry_policy` says how often and how
    long a request is tried; where the client retries, too, each of those tries is a series of its own.
    """

    def __init__(self, client: Any, name: str, retry_policy: RetryPolicy = ONCE) -> None:
        self._requests = Requests(client, name, retry_policy)
        self._headers: Mapping[str, str] = {}
        self._own_headers: Mapping[str, str] = {}
        self._place = ""
        self._found_out = _FoundOut()

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
        same._headers = same._own_headers = dict(headers)
        return same

    def for_data(self, headers: Mapping[str, str]) -> Bucket:
        """The same bucket, whose objects are written with these headers (see `headers_of_data`), but for what it finds
        out about its server: that is kept with the headers of before."""
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
        server that ignores the condition is looked at before the write, which narrows the gap and does not close it.
        """
        if not if_absent and if_match is None:
            return self._put(key, body, {}, self._requests.begin())
        conditions = self._conditions(key, if_absent, if_match)
        tries = self._requests.begin()
        try:
            with self._requests.promised("conditional puts"):
                return self._put(key, body, conditions, tries)
        except PreconditionFailedError:
            # The answer to an earlier try may be what was lost, and the version that is met our own.
            found = self.get(key) if tries.count > 1 else None
            if found is None or found[0] != body:
                raise
            return found[1]

    def _put(self, key: str, body: bytes, conditions: Mapping[str, str], tries: Tries) -> str:
        arguments = {"Key": key, "Body": body, **self._digest(body), **self._headers, **conditions}

        def once() -> str:
            answer = self._requests.send("put_object", **arguments)
            if "ETag" in answer or self.abilities.etags_answered:
                return etag_of(answer)
            found = self.get(key)
            if found is None or found[0] != body:
                raise PreconditionFailedError(f"{self.uri(key)} was changed by another writer at once.", key=key)
            return found[1]

        return self._requests.ask("s3:PutObject", key, once, tries)

    def _digest(self, body: bytes) -> dict[str, str]:
        """The header that names what is sent. For AWS the SDK sends a checksum; other servers all know this one, and
        ask for it where a bucket locks its objects."""
        return {} if is_aws(self.endpoint) else {"ContentMD5": md5_of(body)}

    def _conditions(self, key: str, if_absent: bool, if_match: str | None) -> dict[str, str]:
        abilities = self.abilities
        if if_absent and abilities.create_if_absent:
            return {"IfNoneMatch": "*"}
        if if_match is not None and abilities.replace_if_match is not Condition.NONE:
            return {"IfMatch": abilities.replace_if_match.spelled(if_match)}
        _tell_once(self.endpoint)
        found = self.get(key)
        if (found is None) != if_absent or (found is not None and found[1] != if_match):
            raise PreconditionFailedError(f"{self.uri(key)} is not what this sync last saw.", key=key)
        return {}

    def get(self, key: str) -> tuple[bytes, str] | None:
        """An object's bytes and ETag; None when there is no such object. An answer that is cut short is read again."""
        return objects.read(self._requests, key)

    def head(self, key: str) -> ObjectHead | None:
        """Size, ETag and metadata (names in lower case) of an object; None when there is no such object."""
        return objects.head(self._requests, key)

    def delete(self, keys: Iterable[str]) -> int:
        """Deletes objects, up to 1000 per request where the server takes many at once; a key that is not there is no
        error. Returns how many were asked.

        A key that the server refuses inside its answer raises, naming it.
        """
        asked = list(keys)
        if asked:
            Deletions(self._requests, self.abilities).delete(asked)
        return len(asked)

    def delete_unchanged(self, etags: Mapping[str, str]) -> None:
        """Deletes each of these keys only while its object has the given ETag (without quotes). Objects that changed,
        and those that are gone, are left alone.

        By a condition where the server honours one on deletions. Elsewhere each object is looked at right before each
        try to delete it, a few at a time, which narrows the gap and does not close it.
        """
        if etags:
            Deletions(self._requests, self.abilities).delete_unchanged(etags)

    # ------------------------------------------------------------------ for trial

    def delete_trial(self, key: str) -> None:
        """Deletes one object in any way that the server takes: what it can do need not be known. One that is not there
        is no error, so that this tells whether anything may be deleted."""
        delete_somehow(self._requests, key)

    def read_trial(self, key: str) -> None:
        """Looks at an object. AccessDeniedError where that is denied, also for one that is not there: unlike `head`, to
        which a denial may mean that."""
        with suppress(ObjectNotFoundError):
            self._requests.ask("s3:GetObject", key, partial(self._requests.send, "head_object", Key=key))

    # ------------------------------------------------------------------ listings

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        """All objects whose keys begin with `prefix`, in the server's order, a page at a time."""
        for page in pages(self._requests, prefix):
            yield from map(listed, page.get("Contents") or ())

    def list_directories(self, prefix: str) -> Iterator[str]:
        """The directories right under `prefix` (which ends with a slash), each with its slash at the end. What stands
        in them is not listed, however much it is."""
        for page in pages(self._requests, prefix, Delimiter="/"):
            yield from (each["Prefix"] for each in page.get("CommonPrefixes") or ())

    def first_page(self, prefix: str) -> tuple[list[Listed], bool]:
        """The first up to 1000 objects under `prefix`, and whether there are more. One request."""
        page = first_page(self._requests, prefix)
        return [listed(each) for each in page.get("Contents") or ()], bool(page.get("IsTruncated"))

    # ------------------------------------------------------------------ multipart uploads

    def create_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begins a multipart upload, of which nothing is visible until it is completed. Returns its id."""
        place = {"Key": key, "Metadata": dict(metadata)}
        create = partial(self._requests.send, "create_multipart_upload", **place, **self._headers)
        return str(self._requests.ask("s3:PutObject", key, create)["UploadId"])

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> str:
        """Sends one part (1 to 10,000; at least 5 MiB but for the last) and returns its ETag."""
        digest = {} if self.abilities.parts_without_md5 else self._digest(body)
        part = {"Key": key, "UploadId": upload_id, "PartNumber": number, "Body": body, **digest}
        return self._requests.ask("s3:PutObject", key, lambda: etag_of(self._requests.send("upload_part", **part)))

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Makes the object visible, parts in order.

        UploadVanishedError if the upload is unknown: it was aborted, or completed before, perhaps by a first try of
        this very request, of which the answer was lost.
        """
        parts = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        place = {"Key": key, "UploadId": upload_id, "MultipartUpload": {"Parts": parts}}
        complete = partial(self._requests.send, "complete_multipart_upload", **place)
        self._requests.ask("s3:PutObject", key, lambda: check_completed(complete()))

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Gives up a multipart upload and its parts. One that is not there (any more) is no error."""
        try:
            abort = partial(self._requests.send, "abort_multipart_upload", Key=key, UploadId=upload_id)
            self._requests.ask("s3:AbortMultipartUpload", key, abort)
        except UploadVanishedError:
            return

    def list_uploads(self, prefix: str) -> Iterator[PendingUpload]:
        """All multipart uploads under `prefix` that are neither completed nor aborted."""
        for page in upload_pages(self._requests, prefix):
            yield from map(pending, page.get("Uploads") or ())

    # ------------------------------------------------------------------ what the server can do

    @property
    def abilities(self) -> ServerAbilities:
        """What the server can do. AWS's abilities are known. Another server is asked on the first use of the bucket,
        and what it can do is kept in a file beside the manifests, which a process reads once."""
        if is_aws(self.endpoint):
            return AWS
        with self._found_out.lock:
            known = self._found_out.abilities.get(self._place)
            return known or self.with_headers(self._own_headers)._find_out(again=False)

    def find_out_again(self) -> ServerAbilities:
        """What the server can do now, whatever it could before; kept for every process that begins later."""
        if is_aws(self.endpoint):
            return AWS
        with self._found_out.lock:
            return self.with_headers(self._own_headers)._find_out(again=True)

    def _find_out(self, *, again: bool) -> ServerAbilities:
        key = f"{self._place}{SERVER_FILE}"
        found = self.get(key)
        body = found[0] if found is not None else None
        abilities = None if again else known_abilities(body, self.endpoint, self.name)
        if abilities is None:
            abilities = find_out(self._requests, f"{self._place}{TRIALS}probe-{uuid4().hex}", self._headers)
            self._remember(key, body, abilities)
        self._found_out.abilities[self._place] = abilities
        return abilities

    def _remember(self, key: str, body: bytes | None, abilities: ServerAbilities) -> None:
        """Writes down what the server can do, which this very put may depend on."""
        before = dict(self._found_out.abilities)
        self._found_out.abilities[self._place] = abilities
        try:
            self.put(key, with_abilities(body, self.endpoint, self.name, abilities))
        except StorageError:
            self._found_out.abilities = before
            raise


@lru_cache(maxsize=64)
def _tell_once(endpoint: str) -> None:
    _logger.warning("%s: %s", endpoint, WITHOUT_CONDITIONS)
