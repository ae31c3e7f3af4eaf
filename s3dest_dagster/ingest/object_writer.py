"""Encoded batches become staged objects: written, cut at the size aimed at, or where memory is short, and uploaded.

Nothing of them is visible yet. It must not know the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from s3dest_dagster.commit.manifest import ManifestObject
from s3dest_dagster.formats import Encoded, Encoder, ObjectWriter
from s3dest_dagster.ingest.key_allocator import KeyAllocator
from s3dest_dagster.ingest.receipt import Reason, reason_to_close
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.settings.destination import SYNC_METADATA
from s3dest_dagster.storage import Bucket, Upload, headers_of_data

_MARKER_BYTES = 16
_OPEN_BYTES = 400 << 10
"""What an open object costs beside the bytes that it holds: mostly the state of its compressor."""
_MEMORY_PER_ROW_BYTE = 1.75
"""Rows held back take more than their bytes: the gaps between them cannot be given to the system."""
_MB = 1_000_000


@dataclass(slots=True)
class _Open:
    """The object that is being written."""

    upload: Upload
    writer: ObjectWriter
    rows: int = 0
    short_row_groups: int = 0

    @property
    def held(self) -> int:
        """Bytes in memory for it: rows held back, lines that are compressed, the part that is not full, and what a
        writer takes at least."""
        return int(self.writer.buffered * _MEMORY_PER_ROW_BYTE) + self.writer.aside + self.upload.buffered + _OPEN_BYTES


def bytes_of_row_group(row_group_bytes: int, part_bytes: int) -> int:
    """What an open object holds in memory just before it writes a row group of this size."""
    return int(row_group_bytes * _MEMORY_PER_ROW_BYTE) + part_bytes + _OPEN_BYTES


class ObjectStager:
    """Takes a sync's encoded batches in order. For one thread; uploads go on beside it.

    Its open object counts in the target's memory budget, which may have it cut short at any time: a row group ends
    early, and, where that does not help, the object.
    """

    def __init__(self, target: Target, encoder: Encoder, names: KeyAllocator, segment: str) -> None:
        self._target = target
        self._encoder = encoder
        self._names = names
        self._bucket = target.bucket.with_data_headers(headers_of_data(target.destination))
        self._metadata = {**(target.destination.object_metadata or {}), SYNC_METADATA: segment}
        self._object_bytes = target.destination.object_size_mb * _MB
        self._open: _Open | None = None
        self._uploads: list[Upload] = []
        self._closed: list[Callable[[], ManifestObject]] = []
        self._closed_bytes = 0
        self._failure: Exception | None = None

    @property
    def next_part(self) -> int:
        """The first part number that this sync did not use."""
        return self._names.next_part

    @property
    def bytes(self) -> int:
        """Bytes written so far, of all objects."""
        return self._closed_bytes + (self._open.upload.size if self._open is not None else 0)

    @property
    def objects(self) -> int:
        """Objects begun so far."""
        return len(self._uploads)

    def take(self, encoded: Encoded) -> None:
        """Writes one batch; closes the object when it is full. Raises what cutting an object short met, too."""
        self._raise_failure()
        current = self._open or self._begin()
        current.writer.write(encoded)
        current.rows += encoded.rows
        reason = reason_to_close(current.upload.size, self._object_bytes)
        if reason is not None:
            self._close(reason)
        self._target.memory.hold(self, self._held)
        self._raise_failure()

    def let_go(self) -> int:
        """Cuts the row group short, or else the object. What goes wrong is raised by this sync's next call: the batch
        that used the memory up may be another's."""
        try:
            self._cut_short()
        except Exception as failure:
            self._failure = failure
            return 0
        return self._held

    def _cut_short(self) -> None:
        current = self._open
        if current is not None and current.writer.buffered:
            current.writer.flush_rows()
            current.short_row_groups += 1
        else:
            self._close(Reason.MEMORY)

    @property
    def _held(self) -> int:
        return self._open.held if self._open is not None else 0

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def finish(self) -> tuple[ManifestObject, ...]:
        """Closes the last object and waits until every part of every object has arrived."""
        self._raise_failure()
        self._close(Reason.END)
        self._target.memory.hold(self, 0)
        return tuple(staged() for staged in self._closed)

    def abort(self) -> None:
        """Gives up every object of the sync; raises the first failure once all have been tried."""
        self._target.memory.hold(self, 0)
        self._target.parts.abort(self._uploads)

    def _begin(self) -> _Open:
        upload = new_upload(self._target, self._bucket, self._names.take(), self._metadata)
        self._uploads.append(upload)
        marker = self._target.entropy(_MARKER_BYTES)
        self._open = _Open(upload, self._encoder.open(upload.write, marker, self._target.encoding.aside))
        return self._open

    def _close(self, reason: Reason) -> None:
        current, self._open = self._open, None
        if current is None:
            return
        current.writer.close()
        current.upload.finish()
        self._closed_bytes += current.upload.size
        self._closed.append(partial(staged_object, current.upload, current.rows, reason, current.short_row_groups))


def new_upload(target: Target, bucket: Bucket, key: str, metadata: Mapping[str, str]) -> Upload:
    """An upload with the destination's part size, by a view of its bucket."""
    return Upload(bucket, key, target.parts, part_bytes=target.destination.part_bytes, metadata=metadata)


def staged_object(upload: Upload, rows: int, reason: Reason, short_row_groups: int = 0) -> ManifestObject:
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
        short_row_groups=short_row_groups,
    )
