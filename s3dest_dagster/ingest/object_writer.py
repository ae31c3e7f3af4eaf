"""Turns encoded batches and bad records into staged objects. Decides when an object is closed, and why (`CloseReason`).

The objects are not visible yet. It must not know whether, or when, they are committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from threading import Event
from typing import Any

import msgspec

from s3dest_dagster.batch import BadRecord
from s3dest_dagster.commit.landed_objects import MultipartUpload, SegmentObject
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import Encoded, Encoder, ObjectWriter
from s3dest_dagster.ingest.key_allocator import KeyAllocator
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.destination import SYNC_METADATA
from s3dest_dagster.settings.partition_fields import FieldValues
from s3dest_dagster.storage import Bucket, Upload, headers_of_data
from s3dest_dagster.stream import Scope

_MARKER_BYTES = 16
# The memory that an open object uses besides the bytes that it holds: mostly the state of its compressor.
_OPEN_BYTES = 400 << 10
# Buffered rows use more memory than their bytes: the gaps between them cannot be returned to the system.
_MEMORY_PER_ROW_BYTE = 1.75
# Pieces that are held back lie between others that are written earlier.
_MEMORY_PER_PENDING_BYTE = 1.25
# A few records use more memory for what surrounds them than for themselves.
_MOST_PIECES = 4
_EXCERPT_BYTES = 200


class CloseReason(StrEnum):
    """The reason why an object was closed. It is recorded in the manifest."""

    SIZE = "size"
    """It reached `object_size_mb`. `RollingObjectWriter.append` checks this after every batch."""
    MEMORY = "memory"
    """The open objects held more than the memory budget allows, and this one held the most. `MemoryBudget.hold`
    chooses the object. `RollingObjectWriter.spill` closes it, unless it can end a row group early instead."""
    SCHEMA = "schema"
    """The next records have other columns. `RollingObjectWriter.append` finds that they were encoded by another
    encoder."""
    END = "end"
    """There are no more records, or a checkpoint is due. `RollingObjectWriter.finish` decides this."""


@dataclass(slots=True)
class _OpenObject:
    """The object that is being written."""

    upload: Upload
    encoder: Encoder
    writer: ObjectWriter
    rows: int = 0
    short_row_groups: int = 0

    @property
    def held(self) -> int:
        """Bytes in memory for it: buffered rows, lines being compressed, the part that is not full, and the fixed cost
        of an open object."""
        rows = int(self.writer.buffered * _MEMORY_PER_ROW_BYTE)
        return rows + self.writer.in_background + self.upload.buffered + _OPEN_BYTES


@dataclass(frozen=True, slots=True)
class _ClosedObject:
    """An object that is written. Its parts may still be on their way."""

    upload: Upload
    rows: int
    reason: CloseReason
    short_row_groups: int = 0


@dataclass(frozen=True, slots=True)
class Directories:
    """The directories of an object."""

    values: FieldValues = ()
    """Their values, in the order of the rule."""
    by_name: Mapping[str, str | None] | None = None
    """Their values by their names. None if the stream has no `partition_by`."""


class _Pending:
    """Batches that are held back: those of one directory, until there is enough of them."""

    __slots__ = ("_pieces", "encoder", "nbytes", "rows")

    def __init__(self, encoder: Encoder) -> None:
        self._pieces: list[Encoded] = []
        self.encoder = encoder
        """The encoder of the last piece."""
        self.rows = 0
        self.nbytes = 0

    @property
    def held(self) -> int:
        """Bytes in memory for them."""
        return int(self.nbytes * _MEMORY_PER_PENDING_BYTE)

    def append(self, piece: Encoded, encoder: Encoder) -> None:
        self._pieces.append(piece)
        self.encoder = encoder
        self.rows += piece.rows
        self.nbytes += piece.nbytes
        if len(self._pieces) >= _MOST_PIECES:
            self._pieces = [encoder.merged(self._pieces)]
            self.nbytes = self._pieces[0].nbytes

    def merged(self) -> Encoded:
        """All of them as one. There is at least one."""
        return self._pieces[0] if len(self._pieces) == 1 else self.encoder.merged(self._pieces)


def bytes_of_row_group(row_group_bytes: int, part_bytes: int) -> int:
    """Bytes that an open object holds in memory just before it writes a row group of this size."""
    return int(row_group_bytes * _MEMORY_PER_ROW_BYTE) + part_bytes + _OPEN_BYTES


class SegmentWriting:
    """What all objects of a segment share: where they are uploaded, under which keys, and with which metadata.

    Args:
        segment: The name of the segment, or the mark of its sync. It is a part of the metadata.
        metadata: Further metadata.
    """

    def __init__(self, target: Target, keys: KeyAllocator, segment: str, metadata: Mapping[str, str]) -> None:
        self.target = target
        self._keys = keys
        self._bucket = target.bucket.with_data_headers(headers_of_data(target.destination))
        self._metadata = {**(target.destination.object_metadata or {}), **metadata, SYNC_METADATA: segment}
        self._cancelled = Event()
        self.objects = 0
        """Objects begun so far."""
        self.bytes = 0
        """Bytes written so far, of all objects."""
        self.encoders: dict[Encoder, list[str]] = {}
        """The keys of the closed objects of each encoder."""

    def new_upload(self, fields: FieldValues) -> Upload:
        """Creates the upload of the next object in the directories of these values."""
        self.objects += 1
        key = self._keys.next_key(fields)
        return _new_upload(self.target, self._bucket, key, self._metadata, self._cancelled)

    def write(self, upload: Upload, data: bytes) -> None:
        """Appends bytes to an object."""
        upload.write(data)
        self.bytes += len(data)


class RollingObjectWriter:
    """Writes encoded batches of a segment into one object after another. Use it from one thread only; uploads run in
    the background.

    The open object counts towards the target's memory budget, which may make it end early at any time: it ends the row
    group early or, if that does not help, the object. Batches may also be held back until there is enough of them, so
    that many writers can wait for more without an open object each.

    Args:
        writing: What it shares with other writers of the segment.
        directories: The directories of all its objects.
        held_back: Bytes of batches that are held until they are written together.
    """

    __slots__ = (
        "_closed",
        "_directories",
        "_failure",
        "_held_back",
        "_object_bytes",
        "_open",
        "_pending",
        "_target",
        "_writing",
    )

    def __init__(self, writing: SegmentWriting, *, directories: Directories | None = None, held_back: int = 0) -> None:
        self._writing = writing
        self._target = writing.target
        self._directories = directories or Directories()
        self._held_back = held_back
        self._object_bytes = writing.target.destination.object_bytes
        self._open: _OpenObject | None = None
        self._pending: _Pending | None = None
        self._closed: list[_ClosedObject] = []
        self._failure: Exception | None = None

    @property
    def bytes(self) -> int:
        """Bytes written so far, of all objects of the segment."""
        return self._writing.bytes

    @property
    def objects(self) -> int:
        """Objects of the segment begun so far."""
        return self._writing.objects

    @property
    def encoders(self) -> dict[Encoder, list[str]]:
        """The keys of the closed objects of each encoder, of all objects of the segment."""
        return self._writing.encoders

    def append(self, encoded: Encoded, encoder: Encoder) -> None:
        """Writes a batch, and closes the object if it is full. Also raises the error of an earlier `spill`.

        Args:
            encoded: The batch.
            encoder: The encoder that encoded it. If it does not continue that of the open object, the batch begins the
                next object.
        """
        self._raise_failure()
        last = self._pending or self._open
        if last is not None and not encoder.continues(last.encoder):
            self._close(CloseReason.SCHEMA)
        if self._pending is None:
            self._pending = _Pending(encoder)
        self._pending.append(encoded, encoder)
        if self._pending.held >= self._held_back:
            self._write_pending()
            if self._open is not None and self._open.upload.size >= self._object_bytes:
                self._close(CloseReason.SIZE)
        self._target.memory.hold(self, self._held)
        self._raise_failure()

    def spill(self) -> int:
        """Ends the row group early or, if no rows are buffered, the object. Returns the bytes that are still held.

        An error is raised by this sync's next call, because the batch that used up the memory may belong to another
        sync.
        """
        try:
            if self._open is not None and self._open.writer.buffered:
                self._write_pending()
                self._open.writer.flush_rows()
                self._open.short_row_groups += 1
            else:
                self._close(CloseReason.MEMORY)
        except Exception as failure:
            self._failure = failure
            return 0
        return self._held

    def close(self) -> None:
        """Closes the last object. Does not wait for its parts."""
        self._raise_failure()
        self._close(CloseReason.END)
        self._target.memory.hold(self, 0)

    def finish(self) -> tuple[SegmentObject, ...]:
        """Closes the last object, and waits until every part of every object is uploaded."""
        self.close()
        return tuple(_segment_object(each, self._directories.by_name) for each in self._closed)

    def abort(self) -> None:
        """Aborts the uploads of all objects. Raises the first error after all have been tried."""
        self._target.parts.abort(self.abandon())

    def abandon(self) -> list[Upload]:
        """Holds nothing any more. Returns the uploads to abort."""
        self._pending = None
        self._target.memory.hold(self, 0)
        uploads = [each.upload for each in self._closed]
        return uploads if self._open is None else [*uploads, self._open.upload]

    @property
    def _held(self) -> int:
        return sum(each.held for each in (self._pending, self._open) if each is not None)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _open_next(self, encoder: Encoder) -> _OpenObject:
        for earlier in self._closed[-1:]:
            earlier.upload.settle()
        upload = self._writing.new_upload(self._directories.values)
        marker = self._target.entropy(_MARKER_BYTES)
        writer = encoder.open(partial(self._writing.write, upload), marker, self._target.encoding.run_in_background)
        self._open = _OpenObject(upload, encoder, writer)
        return self._open

    def _write_pending(self) -> None:
        """Writes the batches that are held back into the open object."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        current = self._open or self._open_next(pending.encoder)
        current.encoder = pending.encoder
        current.writer.append(pending.merged())
        current.rows += pending.rows

    def _close(self, reason: CloseReason) -> None:
        self._write_pending()
        current, self._open = self._open, None
        if current is None:
            return
        self._closed.append(_ClosedObject(current.upload, current.rows, reason, current.short_row_groups))
        current.writer.close()
        current.upload.finish()
        self._writing.encoders.setdefault(current.encoder, []).append(current.upload.key)


class Quarantine:
    """Collects a segment's bad records in an object next to the manifests, which is published with the segment.

    Each bad record becomes a line of JSON with `reason`, `file` (if it came from a file), `line_number` and `line`. If
    the text must not be kept, `hidden_bytes` replaces `line`. The first bad record begins the object. It must not judge
    lines: the source has done so.
    """

    def __init__(self, target: Target, scope: Scope, key: str, segment: str) -> None:
        self._target = target
        self._scope = scope
        self._key = key
        self._segment = segment
        self._upload: Upload | None = None
        self.rows = 0

    def append(self, bad: BadRecord) -> None:
        """Keeps a bad record, or raises RecordError if `on_bad_record`, or `on_non_finite`, is "fail"."""
        destination = self._target.destination
        if (destination.on_bad_record if bad.finite is None else destination.non_finite_policy) == "fail":
            raise self._refusal(bad)
        if self._upload is None:
            self._target.memory.reserve(self, self._target.destination.part_bytes)
            self._upload = _new_upload(self._target, self._target.bucket, self._key, {SYNC_METADATA: self._segment})
        line: dict[str, Any] = {"reason": bad.reason, "file": bad.file, "line_number": bad.line_number}
        if bad.file is None:
            del line["file"]
        if bad.hidden_bytes is None:
            line["line"] = bad.raw.decode("utf-8", "backslashreplace")
        else:
            line["hidden_bytes"] = bad.hidden_bytes
        self._upload.write(msgspec.json.encode(line) + b"\n")
        self.rows += 1

    def finish(self) -> SegmentObject | None:
        """Stages the object. Returns None if there was no bad record."""
        if self._upload is None:
            return None
        self._upload.finish()
        self._target.memory.reserve(self, 0)
        return _segment_object(_ClosedObject(self._upload, self.rows, CloseReason.END))

    def abort(self) -> None:
        """Aborts the upload."""
        self._target.memory.reserve(self, 0)
        if self._upload is not None:
            self._upload.abort()

    def _refusal(self, bad: BadRecord) -> RecordError:
        excerpt = f"It begins {bad.raw[:_EXCERPT_BYTES].decode('utf-8', 'replace')!r}."
        if bad.hidden_bytes is not None:
            excerpt = f"Its {amount(bad.hidden_bytes, 'byte')} are not shown, since fields of the stream must not land."
        line = "a line" if bad.line_number is None else f"line {bad.line_number:,}"
        setting, cure = "on_bad_record", "'quarantine' to quarantine such lines"
        if bad.finite is not None:
            setting, cure = "on_non_finite", "'null' to land null in place of such numbers, or to 'quarantine'"
        return RecordError(
            f"{self._scope}: {line} of {bad.file or 'the source'} is no record: {bad.reason}. {excerpt} "
            f"Correct the source, or set {setting} to {cure}.",
            stream=str(self._scope.stream),
            partition=self._scope.partition,
            key=bad.file,
            setting=setting,
        )


def _new_upload(
    target: Target, bucket: Bucket, key: str, metadata: Mapping[str, str], cancelled: Event | None = None
) -> Upload:
    """Creates an upload with the destination's part size and the headers of `bucket`."""
    part_bytes = target.destination.part_bytes
    return Upload(bucket, key, target.parts, part_bytes=part_bytes, metadata=metadata, cancelled=cancelled)


def _segment_object(closed: _ClosedObject, partition_values: Mapping[str, str | None] | None = None) -> SegmentObject:
    """The segment's entry for an object. Waits for its parts."""
    staged = closed.upload.staged()
    parts = MultipartUpload(staged.upload_id, staged.etags)
    return SegmentObject(
        key=staged.key,
        rows=closed.rows,
        bytes=staged.size,
        etag=parts.object_etag,
        close_reason=closed.reason.value,
        upload=parts,
        crc32=staged.crc32,
        short_row_groups=closed.short_row_groups,
        partition_values=partition_values,
    )
