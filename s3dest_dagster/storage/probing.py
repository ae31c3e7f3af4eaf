"""What a server can do, found out by trying it on objects that are deleted again.

A "no" is only what a server said definitely, or what it ignored, while the same request without the condition works.
All else that goes wrong is an error, and tells nothing of what the server can do. It must not know where the answer is
kept.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import Any

from s3dest_dagster.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageError,
    UploadVanishedError,
)
from s3dest_dagster.storage.abilities import BatchDelete, Condition, ServerAbilities
from s3dest_dagster.storage.deletion import send_batch, ways_to_delete
from s3dest_dagster.storage.error_mapping import is_refusal
from s3dest_dagster.storage.headers import md5_of
from s3dest_dagster.storage.objects import bare, etag_of, first_page, head, with_head
from s3dest_dagster.storage.requests import Requests

_BODY = b"probe"
_WRONG_ETAG = "0123456789abcdef0123456789abcdef"
_LONGEST = timedelta(hours=12)
"""How long it may take by the server's clock: a sweep takes what is left of trials after a day."""
_SPELLINGS = (Condition.QUOTED, Condition.UNQUOTED)


class _Outcome(Enum):
    """What became of a request: done, not done since its condition was not met, or not taken at all."""

    DONE = auto()
    UNMET = auto()
    REFUSED = auto()


def find_out(requests: Requests, key: str, headers: Mapping[str, str]) -> ServerAbilities:
    """What the server can do: about 25 requests, on objects and uploads with this key and one that begins with it.

    `headers` are those that puts need here. Nothing is made before it is known that it can be deleted again, and
    nothing stays; what a process leaves that is killed begins with the key. Raises StorageError where a request fails
    that every server must take, AccessDeniedError where one is denied.
    """
    return _Probe(requests, key, headers).abilities()


class _Probe:
    def __init__(self, requests: Requests, key: str, headers: Mapping[str, str]) -> None:
        self._requests = requests
        self._key = key
        self._second = f"{key}-2"
        self._headers = headers
        self._single = True
        self._batch = BatchDelete.NONE
        self._etags_answered = True

    def abilities(self) -> ServerAbilities:
        self._single, self._batch = ways_to_delete(self._requests, self._key)
        try:
            begun = self._requests.clock.now()
            found = self._try_all()
            self._refuse_late(begun)
            return found
        finally:
            with suppress(StorageError):
                self._delete(self._key, self._second)

    def _refuse_late(self, begun: datetime | None) -> None:
        """Raises where the machine slept meanwhile, so that a sweep may have taken the object that was looked at."""
        now = self._requests.clock.now()
        if begun is not None and now is not None and now - begun > _LONGEST:
            raise StorageError(
                f"Finding out what the server at {self._requests.endpoint} can do took {now - begun}: this machine "
                "slept meanwhile. Nothing was noted. Run the sync again."
            )

    def _try_all(self) -> ServerAbilities:
        self._first_put()
        checksum_headers = self._takes_checksums()
        creates = self._put(IfNoneMatch="*") is _Outcome.UNMET
        replaces = self._replaces_if_match()
        pages = self._says_where_pages_go_on()
        by_batch, by_one = self._batch_deletes_if_match(), self._deletes_if_match()
        parts_without_md5, completes = self._completes_if_absent()
        return ServerAbilities(
            create_if_absent=creates,
            replace_if_match=replaces,
            complete_if_absent=completes,
            delete_if_match=by_one,
            batch_delete_if_match=by_batch,
            single_delete=self._single,
            batch_delete=self._batch,
            checksum_headers=checksum_headers,
            parts_without_md5=parts_without_md5,
            page_tokens=pages,
            etags_answered=self._etags_answered,
        )

    # ------------------------------------------------------------------ deletions

    def _send_batch(self, objects: Sequence[Mapping[str, str]], way: BatchDelete) -> None:
        self._requests.ask("s3:DeleteObject", self._key, partial(send_batch, self._requests, objects, way))

    def _delete(self, *keys: str) -> None:
        if self._single:
            for key in keys:
                self._outcome("s3:DeleteObject", "delete_object", Key=key)
        else:
            self._send_batch([{"Key": key} for key in keys], self._batch)

    def _deletes_if_match(self) -> Condition:
        """Whether a deletion of one object keeps to an ETag: a wrong one must leave the object, the right one not."""
        if not self._single:
            return Condition.NONE
        for spelling in _SPELLINGS:
            etag = self._put_anew(self._key)
            delete = partial(self._outcome, "s3:DeleteObject", "delete_object")
            if delete(IfMatch=spelling.spelled(_WRONG_ETAG)) is _Outcome.REFUSED:
                continue
            if self._etag_of(self._key) is None:
                return Condition.NONE
            delete(IfMatch=spelling.spelled(etag))
            if self._etag_of(self._key) is None:
                return spelling
        return Condition.NONE

    def _batch_deletes_if_match(self) -> Condition:
        """The same for a deletion of several objects in one request."""
        if self._batch is BatchDelete.NONE:
            return Condition.NONE
        for spelling in _SPELLINGS:
            self._put_anew(self._key)
            right = spelling.spelled(self._put_anew(self._second))
            wrong = spelling.spelled(_WRONG_ETAG)
            objects = [{"Key": self._key, "ETag": wrong}, {"Key": self._second, "ETag": right}]
            try:
                self._send_batch(objects, self._batch)
            except StorageError as error:
                if not is_refusal(error):
                    raise
                continue
            if self._etag_of(self._key) is None:
                return Condition.NONE
            if self._etag_of(self._second) is None:
                return spelling
        return Condition.NONE

    # ------------------------------------------------------------------ puts

    def _first_put(self) -> None:
        """Puts the object without any condition, which every server must take; learns whether it answers an ETag."""
        put = partial(self._requests.send, "put_object", **self._put_arguments(self._key))
        for _ in range(3):
            # An answer that is cut short has none either.
            answer = self._requests.ask("s3:PutObject", self._key, lambda: with_head(put()))
            self._etags_answered = bool(answer.get("ETag"))
            if self._etags_answered:
                return

    def _takes_checksums(self) -> bool:
        checksum = b64encode(zlib.crc32(_BODY).to_bytes(4, "big")).decode()
        arguments = {"Body": _BODY, "ChecksumCRC32": checksum, **self._headers}
        return self._outcome("s3:PutObject", "put_object", **arguments) is _Outcome.DONE

    def _replaces_if_match(self) -> Condition:
        """Whether a put keeps to an ETag: a wrong one must be refused, the right one taken."""
        for spelling in _SPELLINGS:
            wrong = self._put(IfMatch=spelling.spelled(_WRONG_ETAG))
            if wrong is _Outcome.DONE:
                return Condition.NONE
            if wrong is _Outcome.UNMET and self._takes_right_etag(spelling):
                return spelling
        return Condition.NONE

    def _takes_right_etag(self, spelling: Condition) -> bool:
        etag = self._present_etag(self._key)
        outcome = self._put(IfMatch=spelling.spelled(etag))
        # Where the answer to a first try was lost, and the same bytes get another ETag, it was taken then.
        return outcome is _Outcome.DONE or self._present_etag(self._key) != etag

    def _put(self, **condition: str) -> _Outcome:
        return self._outcome("s3:PutObject", "put_object", **self._put_arguments(self._key), **condition)

    def _put_anew(self, key: str) -> str:
        """Puts an object whatever stands there, and gives its ETag."""
        answer = self._sent("s3:PutObject", "put_object", **self._put_arguments(key))
        return bare(answer.get("ETag", "")) or self._present_etag(key)

    def _put_arguments(self, key: str) -> dict[str, Any]:
        return {"Key": key, "Body": _BODY, "ContentMD5": md5_of(_BODY), **self._headers}

    # ------------------------------------------------------------------ uploads

    def _completes_if_absent(self) -> tuple[bool, bool]:
        """Whether parts are taken without Content-MD5; and whether the completion of an upload keeps to If-None-Match,
        and does not take the place of the object that is there."""
        self._put_anew(self._key)
        created = self._sent("s3:PutObject", "create_multipart_upload", Key=self._key, **self._headers)
        upload = {"Key": self._key, "UploadId": created["UploadId"]}
        try:
            without_md5, etag = self._first_part(upload)
            parts = {"Parts": [{"PartNumber": 1, "ETag": f'"{etag}"'}]}
            arguments = {**upload, "MultipartUpload": parts, "IfNoneMatch": "*"}
            outcome = self._outcome("s3:PutObject", "complete_multipart_upload", **arguments)
            return without_md5, outcome is _Outcome.UNMET
        finally:
            with suppress(UploadVanishedError):
                self._sent("s3:AbortMultipartUpload", "abort_multipart_upload", **upload)

    def _first_part(self, upload: Mapping[str, str]) -> tuple[bool, str]:
        part = {**upload, "PartNumber": 1, "Body": _BODY}
        try:
            return True, self._part_sent(part)
        except StorageError as error:
            if not is_refusal(error):
                raise
            return False, self._part_sent({**part, "ContentMD5": md5_of(_BODY)})

    def _part_sent(self, part: Mapping[str, Any]) -> str:
        send = partial(self._requests.send, "upload_part", **part)
        return self._requests.ask("s3:PutObject", self._key, lambda: etag_of(send()))

    # ------------------------------------------------------------------ listings

    def _says_where_pages_go_on(self) -> bool:
        self._put_anew(self._second)
        try:
            page = first_page(self._requests, self._key, MaxKeys=1)
        except AccessDeniedError:
            return True
        return not page.get("IsTruncated") or bool(page.get("NextContinuationToken"))

    # ------------------------------------------------------------------ requests

    def _etag_of(self, key: str) -> str | None:
        """The ETag of an object; None when it is not there."""
        found = head(self._requests, key)
        return found.etag if found is not None else None

    def _present_etag(self, key: str) -> str:
        etag = self._etag_of(key)
        if etag is None:
            raise StorageError(
                f"s3://{self._requests.bucket}/{key} was written to find out what the server can do, and is not there. "
                "Somebody, or a rule, deleted it at once, or the server does not show what was just written. Nothing "
                "was noted. Run the sync again.",
                key=key,
            )
        return etag

    def _sent(self, action: str, operation: str, **arguments: Any) -> dict[str, Any]:
        return self._requests.ask(action, self._key, partial(self._requests.send, operation, **arguments))

    def _outcome(self, action: str, operation: str, **arguments: Any) -> _Outcome:
        try:
            self._sent(action, operation, **{"Key": self._key, **arguments})
        except PreconditionFailedError:
            return _Outcome.UNMET
        except UploadVanishedError:
            return _Outcome.REFUSED
        except ObjectNotFoundError:
            # Some servers say so of a deletion, which has nothing to do then.
            return _Outcome.DONE if operation == "delete_object" else _Outcome.REFUSED
        except StorageError as error:
            if not is_refusal(error):
                raise
            return _Outcome.REFUSED
        return _Outcome.DONE
