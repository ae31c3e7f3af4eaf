"""Deletions, in whatever way the server takes them: many in a request or one by one, by condition or after a look.

It must not know why something is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from s3dest_dagster.errors import ObjectNotFoundError, PreconditionFailedError, StorageError
from s3dest_dagster.storage.abilities import BatchDelete, Condition, ServerAbilities
from s3dest_dagster.storage.error_mapping import is_refusal
from s3dest_dagster.storage.objects import head
from s3dest_dagster.storage.pool import in_parallel
from s3dest_dagster.storage.requests import Requests

MAX_DELETE = 1000
"""Keys in one DeleteObjects request (S3's limit)."""
LOOKED_AT_ONCE = 32
"""Objects that are looked at before they are deleted together."""
_ACTION = "s3:DeleteObject"
_GONE = frozenset({"NoSuchKey", "NotFound", "404"})
_CHANGED = frozenset({"PreconditionFailed", "412"})


class Deletions:
    """Deletes objects of one bucket, as its server's abilities allow. Keys that are not there are no error."""

    def __init__(self, requests: Requests, abilities: ServerAbilities) -> None:
        self._requests = requests
        self._abilities = abilities

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes these objects, whatever they hold."""
        if self._abilities.batch_delete is BatchDelete.NONE:
            in_parallel(self._delete_one, keys)
            return
        for chunk in chunks(keys, MAX_DELETE):
            self._batch(chunk, [{"Key": key} for key in chunk])

    def delete_unchanged(self, etags: Mapping[str, str]) -> None:
        """Deletes each object only while it has the given ETag."""
        in_batches = self._abilities.batch_delete is not BatchDelete.NONE
        if in_batches and self._abilities.batch_delete_if_match is not Condition.NONE:
            self._delete_by_condition(etags)
        elif self._abilities.deletes_if_unchanged:
            in_parallel(lambda key: self._delete_one(key, etags[key]), etags)
        elif in_batches:
            for chunk in chunks(list(etags), LOOKED_AT_ONCE):
                self._requests.ask(_ACTION, chunk[0], partial(self._look_and_delete, chunk, etags))
        else:
            in_parallel(lambda key: self._look_and_delete_one(key, etags[key]), etags)

    def _delete_by_condition(self, etags: Mapping[str, str]) -> None:
        spelled = self._abilities.batch_delete_if_match.spelled
        for chunk in chunks(list(etags), MAX_DELETE):
            self._batch(chunk, [{"Key": key, "ETag": spelled(etags[key])} for key in chunk])

    def _delete_one(self, key: str, etag: str | None = None) -> None:
        condition = {} if etag is None else {"IfMatch": self._abilities.delete_if_match.spelled(etag)}
        with self._requests.promised("deletions"):
            try:
                self._requests.ask(_ACTION, key, partial(self._requests.send, "delete_object", Key=key, **condition))
            except ObjectNotFoundError:
                return
            except PreconditionFailedError:
                if etag is None:
                    raise

    def _batch(self, keys: Sequence[str], objects: Sequence[Mapping[str, str]]) -> None:
        with self._requests.promised("deletions of many objects in one request"):
            self._requests.ask(_ACTION, keys[0], partial(self._send_batch, objects))

    def _send_batch(self, objects: Sequence[Mapping[str, str]]) -> None:
        send_batch(self._requests, objects, self._abilities.batch_delete)

    def _look_and_delete(self, keys: Sequence[str], etags: Mapping[str, str]) -> None:
        """One try: looks at the objects, and deletes those that are unchanged."""
        unchanged = [key for key, etag in zip(keys, in_parallel(self._etag, keys), strict=True) if etag == etags[key]]
        if unchanged:
            self._send_batch([{"Key": key} for key in unchanged])

    def _look_and_delete_one(self, key: str, etag: str) -> None:
        def look_and_delete() -> None:
            if self._etag(key) == etag:
                self._requests.send("delete_object", Key=key)

        try:
            self._requests.ask(_ACTION, key, look_and_delete)
        except ObjectNotFoundError:
            return

    def _etag(self, key: str) -> str | None:
        """The ETag of an object; None when it is not there."""
        found = head(self._requests, key)
        return found.etag if found is not None else None


def send_batch(requests: Requests, objects: Sequence[Mapping[str, str]], way: BatchDelete) -> None:
    """One try of one DeleteObjects request. A key that the server refuses inside its answer raises, naming it; one that
    is gone, or has another ETag than is asked for, does not."""
    request: dict[str, Any] = {"Objects": list(objects), "Quiet": True}
    send = requests.send_with_md5 if way is BatchDelete.MD5 else requests.send
    answer = send("delete_objects", Delete=request)
    conditional = {each["Key"] for each in objects if "ETag" in each}
    for each in answer.get("Errors") or ():
        code = each.get("Code", "")
        if code not in _GONE and not (code in _CHANGED and each.get("Key") in conditional):
            raise ClientError({"Error": each}, "DeleteObjects")


def ways_to_delete(requests: Requests, key: str) -> tuple[bool, BatchDelete]:
    """Whether the server takes DeleteObject, and how it takes DeleteObjects, found out by deleting one object, which
    need not be there. StorageError where it takes neither."""
    single = _is_taken(lambda: _delete_singly(requests, key))
    ways = (BatchDelete.CHECKSUM, BatchDelete.MD5)
    batch = next((way for way in ways if _is_taken(partial(_delete_in_batch, requests, key, way))), BatchDelete.NONE)
    if not single and batch is BatchDelete.NONE:
        raise StorageError(
            f"The server at {requests.endpoint} takes neither DeleteObject nor DeleteObjects: nothing could ever be "
            "replaced. Nothing was written. Put the lake on another server."
        )
    return single, batch


def delete_somehow(requests: Requests, key: str) -> None:
    """Deletes one object in the first way that the server takes."""
    if not _is_taken(lambda: _delete_singly(requests, key)):
        ways_to_delete(requests, key)


def _is_taken(delete: Callable[[], None]) -> bool:
    try:
        delete()
    except StorageError as error:
        if not is_refusal(error):
            raise
        return False
    return True


def _delete_singly(requests: Requests, key: str) -> None:
    with suppress(ObjectNotFoundError):
        requests.ask(_ACTION, key, partial(requests.send, "delete_object", Key=key))


def _delete_in_batch(requests: Requests, key: str, way: BatchDelete) -> None:
    requests.ask(_ACTION, key, partial(send_batch, requests, [{"Key": key}], way))


def chunks(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The keys, so many at a time."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
