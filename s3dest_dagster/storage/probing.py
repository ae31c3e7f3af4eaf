"""Determines a server's abilities by trying requests on objects that are deleted again.

A server lacks an ability only if it definitely refused or ignored a request, while the same request without the
condition works. Any other failure is an error and says nothing about the server. Must not know: where the result is
stored.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from s3dest_dagster.storage.error_mapping import is_refusal
from s3dest_dagster.storage.headers import md5_of
from s3dest_dagster.storage.objects import check_head, etag_of, first_page, send_batch, to_etag, unquoted
from s3dest_dagster.storage.requests import Requests

_BODY = b"probe"
_WRONG_ETAG = "0123456789abcdef0123456789abcdef"
_LONGEST = timedelta(hours=12)
"""The longest time that probing may take by the server's clock. After a day, a sweep deletes trial objects."""
_ETAG_FORMS = (Condition.QUOTED, Condition.UNQUOTED)
_DELETE = "s3:DeleteObject"


class _Outcome(Enum):
    DONE = auto()
    UNMET = auto()
    """Not done, since the condition was not met."""
    REFUSED = auto()
    """The server does not support such a request."""


def probe(requests: Requests, key: str, headers: Mapping[str, str]) -> ServerAbilities:
    """Determines the server's abilities with about 25 requests. Leaves nothing behind.

    Nothing is written before it is certain that it can be deleted again. Objects that a killed process leaves have keys
    that begin with `key`.

    Args:
        key: the key of the first trial object. The key of the second object begins with it.
        headers: the headers that puts need in this bucket.

    Raises:
        AccessDeniedError: a request is denied.
        StorageError: a request that every server must support fails.
    """
    return _Probe(requests, key, headers).abilities()


def delete_anyhow(requests: Requests, key: str) -> None:
    """Deletes one object in the first way that the server supports. Raises as `_ways_to_delete` does."""
    if not _is_supported(lambda: _delete_object(requests, key)):
        _ways_to_delete(requests, key)


def _ways_to_delete(requests: Requests, key: str) -> tuple[bool, BatchDelete]:
    """Whether the server supports DeleteObject, and how it accepts DeleteObjects. Deletes the object, which may be
    missing.

    Raises:
        StorageError: the server supports neither.
    """
    single = _is_supported(lambda: _delete_object(requests, key))
    batch = next(
        (form for form in (BatchDelete.CHECKSUM, BatchDelete.MD5) if _takes_batches(requests, key, form)),
        BatchDelete.NONE,
    )
    if not single and batch is BatchDelete.NONE:
        raise StorageError(
            f"The server at {requests.endpoint} takes neither DeleteObject nor DeleteObjects: nothing could ever be "
            "replaced. Nothing was written. Put the lake on another server."
        )
    return single, batch


def _takes_batches(requests: Requests, key: str, form: BatchDelete) -> bool:
    return _is_supported(lambda: _delete_batch(requests, [{"Key": key}], form))


def _delete_object(requests: Requests, key: str, **condition: str) -> None:
    # Some servers answer 404 if the object is missing.
    with suppress(ObjectNotFoundError):
        requests.call(_DELETE, "delete_object", Key=key, **condition)


def _delete_batch(requests: Requests, objects: Sequence[Mapping[str, str]], form: BatchDelete) -> None:
    requests.retry(_DELETE, objects[0]["Key"], partial(send_batch, requests, objects, form))


def _is_supported(request: Callable[[], object]) -> bool:
    """Sends a request. Returns whether the server supports it. Raises errors that say nothing about the server."""
    try:
        request()
    except StorageError as error:
        if not is_refusal(error):
            raise
        return False
    return True


def _outcome(request: Callable[[], object]) -> _Outcome:
    """Sends a request. Returns its outcome. Raises errors that say nothing about the server."""
    try:
        return _Outcome.DONE if _is_supported(request) else _Outcome.REFUSED
    except PreconditionFailedError:
        return _Outcome.UNMET
    except UploadVanishedError:
        return _Outcome.REFUSED


@contextmanager
def _cleaned_up(clean_up: Callable[[], None]) -> Iterator[None]:
    """Cleans up after the block, also if it fails, but not if it is interrupted: a server that hangs would keep the
    process from ending. The sweep deletes what is left."""
    try:
        yield
    except Exception:
        clean_up()
        raise
    clean_up()


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
        self._single, self._batch = _ways_to_delete(self._requests, self._key)
        with _cleaned_up(self._delete_trials):
            began = self._requests.clock.now()
            abilities = self._try_all()
            self._check_duration(began)
            return abilities

    def _check_duration(self, began: datetime | None) -> None:
        """Raises StorageError if the machine slept in the meantime, because a sweep may have deleted the trial
        objects."""
        now = self._requests.clock.now()
        if began is not None and now is not None and now - began > _LONGEST:
            raise StorageError(
                f"Probing the server at {self._requests.endpoint} took {now - began}: this machine slept meanwhile. "
                "Nothing was kept. Run the sync again."
            )

    def _try_all(self) -> ServerAbilities:
        self._put_first()
        checksum_headers = self._accepts_checksums()
        create_if_absent = self._put(IfNoneMatch="*") is _Outcome.UNMET
        replace_if_match = self._replaces_if_match()
        page_tokens = self._gives_page_tokens()
        batch_delete_if_match, delete_if_match = self._batch_deletes_if_match(), self._deletes_if_match()
        parts_without_md5, complete_if_absent = self._completes_if_absent()
        return ServerAbilities(
            create_if_absent=create_if_absent,
            replace_if_match=replace_if_match,
            complete_if_absent=complete_if_absent,
            delete_if_match=delete_if_match,
            batch_delete_if_match=batch_delete_if_match,
            single_delete=self._single,
            batch_delete=self._batch,
            checksum_headers=checksum_headers,
            parts_without_md5=parts_without_md5,
            page_tokens=page_tokens,
            etags_answered=self._etags_answered,
        )

    # ------------------------------------------------------------------ deletions

    def _delete_trials(self) -> None:
        with suppress(StorageError):
            self._delete_both()

    def _delete_both(self) -> None:
        keys = (self._key, self._second)
        if not self._single:
            _delete_batch(self._requests, [{"Key": key} for key in keys], self._batch)
            return
        for key in keys:
            _outcome(partial(_delete_object, self._requests, key))

    def _deletes_if_match(self) -> Condition:
        """How DeleteObject accepts an ETag: with a wrong ETag it must keep the object, with the right one delete it."""
        if not self._single:
            return Condition.NONE
        for form in _ETAG_FORMS:
            etag = self._put_again(self._key)
            if self._delete(IfMatch=form.format_etag(_WRONG_ETAG)) is _Outcome.REFUSED:
                continue
            if etag_of(self._requests, self._key) is None:
                return Condition.NONE
            self._delete(IfMatch=form.format_etag(etag))
            if etag_of(self._requests, self._key) is None:
                return form
        return Condition.NONE

    def _delete(self, **condition: str) -> _Outcome:
        return _outcome(partial(_delete_object, self._requests, self._key, **condition))

    def _batch_deletes_if_match(self) -> Condition:
        """How DeleteObjects accepts an ETag for each key."""
        if self._batch is BatchDelete.NONE:
            return Condition.NONE
        for form in _ETAG_FORMS:
            self._put_again(self._key)
            right = form.format_etag(self._put_again(self._second))
            wrong = form.format_etag(_WRONG_ETAG)
            objects = [{"Key": self._key, "ETag": wrong}, {"Key": self._second, "ETag": right}]
            if not _is_supported(partial(_delete_batch, self._requests, objects, self._batch)):
                continue
            if etag_of(self._requests, self._key) is None:
                return Condition.NONE
            if etag_of(self._requests, self._second) is None:
                return form
        return Condition.NONE

    # ------------------------------------------------------------------ puts

    def _put_first(self) -> None:
        """Puts the object without a condition, which every server must support. Notes whether the answer has an ETag.

        A truncated answer has no ETag either, so there are three tries.
        """
        put = partial(self._requests.send, "put_object", **self._put_arguments(self._key))
        for _ in range(3):
            answer = self._requests.retry("s3:PutObject", self._key, lambda: check_head(put()))
            self._etags_answered = bool(answer.get("ETag"))
            if self._etags_answered:
                return

    def _accepts_checksums(self) -> bool:
        checksum = b64encode(zlib.crc32(_BODY).to_bytes(4, "big")).decode()
        arguments = {"Key": self._key, "Body": _BODY, "ChecksumCRC32": checksum, **self._headers}
        return _outcome(lambda: self._write("put_object", **arguments)) is _Outcome.DONE

    def _replaces_if_match(self) -> Condition:
        """How a put accepts an ETag: a wrong ETag must be refused, the right one accepted."""
        for form in _ETAG_FORMS:
            outcome = self._put(IfMatch=form.format_etag(_WRONG_ETAG))
            if outcome is _Outcome.DONE:
                return Condition.NONE
            if outcome is _Outcome.UNMET and self._accepts_right_etag(form):
                return form
        return Condition.NONE

    def _accepts_right_etag(self, form: Condition) -> bool:
        etag = self._present_etag(self._key)
        outcome = self._put(IfMatch=form.format_etag(etag))
        # If the answer to a first try was lost, the second try is refused. If the same bytes get a new ETag with each
        # put, the ETag shows that the first try was accepted.
        return outcome is _Outcome.DONE or self._present_etag(self._key) != etag

    def _put(self, **condition: str) -> _Outcome:
        return _outcome(lambda: self._write("put_object", **self._put_arguments(self._key), **condition))

    def _put_again(self, key: str) -> str:
        """Puts an object without a condition, and returns its ETag."""
        answer = self._write("put_object", **self._put_arguments(key))
        return unquoted(answer.get("ETag", "")) or self._present_etag(key)

    def _put_arguments(self, key: str) -> dict[str, Any]:
        return {"Key": key, "Body": _BODY, "ContentMD5": md5_of(_BODY), **self._headers}

    # ------------------------------------------------------------------ uploads

    def _completes_if_absent(self) -> tuple[bool, bool]:
        """Whether the server accepts parts without Content-MD5, and whether a completion respects If-None-Match."""
        self._put_again(self._key)
        created = self._write("create_multipart_upload", Key=self._key, **self._headers)
        upload = {"Key": self._key, "UploadId": created["UploadId"]}
        with _cleaned_up(partial(self._abort_upload, upload)):
            without_md5, etag = self._upload_part(upload)
            parts = {"Parts": [{"PartNumber": 1, "ETag": f'"{etag}"'}]}
            arguments = {**upload, "MultipartUpload": parts, "IfNoneMatch": "*"}
            return without_md5, _outcome(
                lambda: self._write("complete_multipart_upload", **arguments)
            ) is _Outcome.UNMET

    def _abort_upload(self, upload: Mapping[str, str]) -> None:
        with suppress(UploadVanishedError):
            self._requests.call("s3:AbortMultipartUpload", "abort_multipart_upload", **upload)

    def _upload_part(self, upload: Mapping[str, str]) -> tuple[bool, str]:
        """Whether a part without Content-MD5 was accepted, and the part's ETag."""
        part = {**upload, "PartNumber": 1, "Body": _BODY}
        try:
            return True, self._send_part(part)
        except StorageError as error:
            if not is_refusal(error):
                raise
            return False, self._send_part({**part, "ContentMD5": md5_of(_BODY)})

    def _send_part(self, part: Mapping[str, Any]) -> str:
        send = partial(self._requests.send, "upload_part", **part)
        return self._requests.retry("s3:PutObject", self._key, lambda: to_etag(send()))

    # ------------------------------------------------------------------ listings and requests

    def _gives_page_tokens(self) -> bool:
        self._put_again(self._second)
        try:
            page = first_page(self._requests, self._key, MaxKeys=1)
        except AccessDeniedError:
            return True
        return not page.get("IsTruncated") or bool(page.get("NextContinuationToken"))

    def _present_etag(self, key: str) -> str:
        etag = etag_of(self._requests, key)
        if etag is None:
            raise StorageError(
                f"s3://{self._requests.bucket}/{key} was written to probe the server, and is missing. Somebody, or a "
                "rule, deleted it at once, or the server does not show what was just written. Nothing was kept. Run "
                "the sync again.",
                key=key,
            )
        return etag

    def _write(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self._requests.call("s3:PutObject", operation, **arguments)
