"""Encoded batches become staged objects: written, cut at the size aimed at, uploaded, not visible.

It must not know manifests or the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from s3dest_dagster.destination import SYNC_METADATA
from s3dest_dagster.formats import Encoded, Encoder, ObjectWriter
from s3dest_dagster.landing.manifest import ManifestObject
from s3dest_dagster.landing.naming import ObjectNames
from s3dest_dagster.landing.rotation import Reason, reason_to_close
from s3dest_dagster.landing.target import Target
from s3dest_dagster.storage import Bucket, Upload, headers_of_data

_MARKER_BYTES = 16
_MB = 1_000_000
_MIB = 1 << 20


@dataclass(slots=True)
class _Open:
    """The object that is being written."""

    upload: Upload
    writer: ObjectWriter
    rows: int = 0


class ObjectStager:
    """Takes a sync's encoded batches in order. For one thread; uploads go on beside it."""

    def __init__(self, target: Target, encoder: Encoder, names: ObjectNames, segment: str) -> None:
        self._target = target
        self._encoder = encoder
        self._names = names
        self._bucket = target.bucket.with_headers(headers_of_data(target.destination))
        self._metadata = {**(target.destination.object_metadata or {}), SYNC_METADATA: segment}
        self._object_bytes = target.destination.object_size_mb * _MB
        self._open: _Open | None = None
        self._uploads: list[Upload] = []
        self._closed: list[Callable[[], ManifestObject]] = []

    @property
    def next_part(self) -> int:
        """The first part number that this sync did not use."""
        return self._names.next_part

    @property
    def bytes(self) -> int:
        """Bytes written so far, of all objects."""
        return sum(each.size for each in self._uploads)

    @property
    def objects(self) -> int:
        """Objects begun so far."""
        return len(self._uploads)

    def take(self, encoded: Encoded) -> None:
        """Writes one batch; closes the object when it is full."""
        current = self._open or self._begin()
        current.writer.write(encoded)
        current.rows += encoded.rows
        reason = reason_to_close(current.upload.size, self._object_bytes)
        if reason is not None:
            self._close(reason)

    def finish(self) -> tuple[ManifestObject, ...]:
        """Closes the last object and waits until every part of every object has arrived."""
        self._close(Reason.END)
        return tuple(staged() for staged in self._closed)

    def abort(self) -> None:
        """Gives up every object of the sync; raises the first failure once all have been tried."""
        self._target.parts.abort(self._uploads)

    def _begin(self) -> _Open:
        upload = new_upload(self._target, self._bucket, self._names.take(), self._metadata)
        self._uploads.append(upload)
        self._open = _Open(upload, self._encoder.open(upload.write, self._target.entropy(_MARKER_BYTES)))
        return self._open

    def _close(self, reason: Reason) -> None:
        current, self._open = self._open, None
        if current is None:
            return
        current.writer.close()
        current.upload.finish()
        self._closed.append(lambda: staged_object(current.upload, current.rows, reason))


def new_upload(target: Target, bucket: Bucket, key: str, metadata: Mapping[str, str]) -> Upload:
    """An upload with the destination's part size, by a view of its bucket."""
    part_bytes = int(target.destination.part_size_mb * _MIB)
    return Upload(bucket, key, target.parts, part_bytes=part_bytes, metadata=metadata)


def staged_object(upload: Upload, rows: int, reason: Reason) -> ManifestObject:
    """The manifest's entry of a finished upload; waits for its parts."""
    staged = upload.staged()
    return ManifestObject(
        key=staged.key,
        rows=rows,
        bytes=staged.size,
        reason=reason.value,
        upload_id=staged.upload_id,
        parts=staged.etags,
        crc32=staged.crc32,
    )
