"""Encodes, stages and counts a sync's records, one segment after another.

Nothing is visible yet. It must not know when a segment ends, nor how it is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from io import RawIOBase
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.ipc
from isal.isal_zlib import adler32, crc32

from s3dest_dagster.batch import TARGET_BATCH_BYTES, ArrowBatch, BadRecord, Batch, Lineage, SourceFile, State, Tally
from s3dest_dagster.commit.documents import quarantine_key, segment_name
from s3dest_dagster.commit.generations import metadata_of
from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.segment import Counts, Segment
from s3dest_dagster.commit.segment_builder import StagedSync, replaces_all
from s3dest_dagster.commit.sync_commit import SyncCommit
from s3dest_dagster.errors import CommitError
from s3dest_dagster.formats import Encoder
from s3dest_dagster.ingest.encode_queue import EncodedBatch
from s3dest_dagster.ingest.file_copies import FileCopies
from s3dest_dagster.ingest.key_allocator import KeyAllocator
from s3dest_dagster.ingest.object_writer import Quarantine, RollingObjectWriter, SegmentWriting
from s3dest_dagster.ingest.partitioned_writer import PartitionedObjectWriter, directory_count, new_object_writer
from s3dest_dagster.ingest.receipt import Progress
from s3dest_dagster.ingest.stream_schema import StreamSchema
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.printable import amount
from s3dest_dagster.stream import Scope, Stream, Sync

_ID_BYTES = 16
_MAX_JOINED_BYTES = 2 * TARGET_BATCH_BYTES


class SyncWriter:
    """Stages the records of one sync, a segment at a time.

    `StreamSchema` provides the encoders. The first object creates the key allocator. Both serve all segments of the
    sync. Use it from one thread only.

    Args:
        stream: The stream, with its name as in the source.
        keys_distinct: See `KeyAllocator`.
    """

    def __init__(
        self, target: Target, stream: Stream, scope: Scope, sync: Sync, commit: SyncCommit, *, keys_distinct: bool
    ) -> None:
        self._target = target
        self._scope = scope
        self._sync = sync
        self._commit = commit
        self._keys_distinct = keys_distinct
        self._replaces = replaces_all(target.destination, stream, scope, commit.commit_log, commit.head)
        self._schema = StreamSchema(
            target.destination, stream, commit.registry_entry, commit.commit_log.scope, sync, replaces=self._replaces
        )
        self._directories = directory_count(target.destination, stream, scope)
        self._keys: KeyAllocator | None = None
        self._finished = Progress()
        self._segments = 0
        self.segment = self._new_segment()
        """The segment that is being written."""

    @property
    def stream(self) -> Stream:
        """The stream. Its schema is the inferred one if it declares none."""
        return self._schema.stream

    @property
    def progress(self) -> Progress:
        """The progress of all segments of this attempt."""
        finished, current = self._finished, self.segment
        return Progress(
            rows=finished.rows + current.read,
            objects=finished.objects + current.objects,
            bytes=finished.bytes + current.bytes,
        )

    def append(self, batch: Batch) -> None:
        """Stages the next records. Also raises what encoding or uploading an earlier batch raised."""
        if self._schema.is_changed_by(batch):
            self.segment.drain()
            self._schema.adapt(batch)
        assert self._schema.encoder is not None, "the schema is adapted to the first batch"
        self.segment.append(batch, self._schema.encoder)

    def finish(self, *, complete: bool, mentioned: bool, state: State | None, origin: Lineage | None) -> Segment:
        """Uploads everything that is left. Returns the segment to decide. The arguments are the fields of
        `StagedSync`."""
        objects, quarantine, counts = self.segment.finish()
        published = self._commit.segments
        staged = StagedSync(
            name=self.segment.name,
            complete=complete,
            previous_checkpoint=published[-1].name if published else None,
            stream=self.stream,
            sync=self._sync,
            objects=objects,
            quarantine=quarantine,
            next_part_number=(self._keys or self._commit.head).next_part_number,
            counts=counts,
            encoder=self._schema.encoder,
            earlier=[each for each in self.segment.encoders.items() if each[0] is not self._schema.encoder],
            silent=not mentioned,
            state=state,
            uploads_started_after=self.segment.since,
            origin=origin,
            content_checksum=self.segment.content,
        )
        return self._commit.build_segment(staged)

    def start_segment(self) -> None:
        """Begins the next segment, after the current one is published."""
        self._finished = self.progress
        self.segment = self._new_segment()

    def _new_segment(self) -> SegmentWriter:
        name = segment_name(self._sync.id, self._commit.attempt, self._segments)
        self._segments += 1
        quarantine = Quarantine(self._target, self._scope, quarantine_key(self._commit.commit_log.root, name), name)
        files = FileCopies(self._target, self._scope, self._commit.commit_log.root, name, metadata_of(self.stream))
        return SegmentWriter(name, self._target, self._scope, quarantine, self._schema, self._new_object_writer, files)

    def _new_object_writer(self, segment: str) -> RollingObjectWriter | PartitionedObjectWriter:
        if self._keys is None:
            self._keys = KeyAllocator(
                self._target,
                self._commit.template,
                self._commit.commit_log.scope,
                self._sync,
                self._commit.head,
                extension=self._target.destination.format.extension,
                replaces=self._replaces,
                keys_distinct=self._keys_distinct,
            )
        return new_object_writer(
            SegmentWriting(self._target, self._keys, segment, metadata_of(self.stream)), self._directories
        )


class BatchSchema(Protocol):
    """The columns of a segment's records."""

    def in_final_form(self, encoded: EncodedBatch) -> EncodedBatch:
        """A batch in the form in which it is written. Raises if it must not land."""


class SegmentWriter:
    """Stages and counts the content of one segment. The first batch creates the object writer.

    Args:
        name: The name of the segment, or the mark of its sync.
        quarantine: Receives its bad records.
        schema: The columns of its records.
        new_object_writer: Makes the object writer. Its argument is the name.
        files: Copies the files that come with records. None: there are none.
        sums_content: Whether `content` is computed.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        scope: Scope,
        quarantine: Quarantine,
        schema: BatchSchema,
        new_object_writer: Callable[[str], RollingObjectWriter | PartitionedObjectWriter],
        files: FileCopies | None = None,
        *,
        sums_content: bool = True,
    ) -> None:
        self.name = name
        self.since: datetime | None = None
        """A time of the server's clock before the first upload begins, if `publish_order` is "purge_first"."""
        if target.destination.publish_order == "purge_first":
            self.since = target.bucket.server_time()
        self._target = target
        self._scope = scope
        self._quarantine = quarantine
        self._schema = schema
        self._new_object_writer = new_object_writer
        self._files = files
        self._objects: RollingObjectWriter | PartitionedObjectWriter | None = None
        self._queue = target.encoding.stream_queue(self._write)
        self._decided = False
        self._tally = Tally()
        self._content = ContentChecksum() if sums_content else None
        self._encoded_rows = 0
        self.read = 0
        """Records and bad records so far."""
        self.has_files = False
        """Whether files were copied."""
        self.read_bytes = 0
        """Bytes of the records so far, as the source gave them."""

    @property
    def objects(self) -> int:
        """Objects begun so far."""
        return self._objects.objects if self._objects is not None else 0

    @property
    def bytes(self) -> int:
        """Bytes written so far, of all objects."""
        return self._objects.bytes if self._objects is not None else 0

    @property
    def encoders(self) -> Mapping[Encoder, Sequence[str]]:
        """The keys of the closed objects of each encoder."""
        return self._objects.encoders if self._objects is not None else {}

    @property
    def content(self) -> str | None:
        """The checksum of the records so far (see `ContentChecksum`). None if it is not computed."""
        return self._content.text if self._content is not None else None

    def append(self, batch: Batch, encoder: Encoder) -> None:
        """Stages the next records: counts them and submits them for encoding. `_write` writes them when it is their
        turn.

        Also raises what encoding or uploading an earlier batch raised.
        """
        self.read += batch.num_rows
        self.read_bytes += batch.nbytes
        if self._content is not None:
            self._content.update(batch)
        self._queue.append(encoder, batch, self._target.entropy(_ID_BYTES * batch.num_rows))

    def drain(self) -> None:
        """Writes all batches that are being encoded. Raises as `append` does."""
        self._queue.drain()

    def _write(self, batch: EncodedBatch) -> None:
        batch = self._schema.in_final_form(batch)
        encoded = batch.encoded
        if self._objects is None:
            self._objects = self._new_object_writer(self.name)
        self._objects.append(encoded, batch.encoder)
        self._encoded_rows += encoded.rows
        self._tally += encoded.tally

    def add_tally(self, tally: Tally) -> None:
        """Adds counts of what happened to values before they were encoded."""
        self._tally += tally

    def count_non_finite(self, counts: Mapping[str, int]) -> None:
        """Counts numbers that were NaN or infinite, and land as null, by field."""
        self._tally += Tally(non_finite=dict(counts))

    def reject(self, bad: BadRecord) -> None:
        """Quarantines a line that is no record, or raises RecordError, as `on_bad_record` says."""
        self._quarantine.append(bad)
        self.read += 1

    def copy_file(self, file: SourceFile) -> None:
        """Stages a copy of a file that came in place of a record. Raises as `FileCopies.append`."""
        assert self._files is not None, "sources with files land in one process"
        self._files.append(file)
        self.has_files = True

    def finish(self) -> tuple[tuple[SegmentObject, ...], SegmentObject | None, Counts]:
        """Uploads everything. Returns the objects, the quarantine's object, and the counts.

        Raises:
            CommitError: The counts do not add up, because not every record that was read is staged.
        """
        self._queue.drain()
        objects = self._objects.finish() if self._objects is not None else ()
        landed, quarantined = sum(item.rows for item in objects), self._quarantine.rows
        counts = Counts(read=self.read, landed=self._encoded_rows, quarantined=quarantined, tally=self._tally)
        if not counts.add_up(landed, quarantined):
            raise CommitError(
                f"The counts of {self._scope} do not add up: {amount(self.read, 'record')} read, {landed:,} landed, "
                f"{quarantined:,} quarantined. Nothing of these was published; please report this with the run's log.",
                stream=str(self._scope.stream),
                partition=self._scope.partition,
            )
        files = self._files.finish() if self._files is not None else ()
        return (*objects, *files), self._quarantine.finish(), counts

    def mark_decided(self) -> None:
        """Notes that the segment is, or may be, decided, or that a receipt names its uploads: from now on `abort` does
        nothing."""
        self._decided = True

    def abort(self) -> None:
        """Aborts all uploads, unless the segment is decided. Raises the first error after all have been tried."""
        if self._decided:
            return
        self._decided = True
        self._queue.cancel()
        with ExitStack() as both:
            both.callback(self._quarantine.abort)
            if self._files is not None:
                both.callback(self._files.abort)
            if self._objects is not None:
                both.callback(self._objects.abort)


class ContentChecksum:
    """A checksum of records. The same records in the same order have the same checksum, whenever they are landed. The
    ids and times that landing adds are ignored.

    For JSON, the spelling counts, but not how the records are split into batches. For Arrow data, the memory layout of
    each batch counts. The probability that different records have the same checksum by chance is one in many billions.
    It does not protect against forgery.
    """

    def __init__(self) -> None:
        self._crc, self._adler = crc32(b""), adler32(b"")
        self._rows = 0

    def update(self, batch: Batch) -> None:
        """Adds the next records."""
        if not batch.num_rows:
            return
        self._rows += batch.num_rows
        if isinstance(batch, ArrowBatch):
            with pa.ipc.new_stream(pa.PythonFile(_Sink(self._add), mode="w"), batch.data.schema) as stream:
                stream.write_batch(batch.data)
        else:
            # Joining is fast, but a batch that is one large record is not copied.
            for text in (b"\n".join(batch.raws),) if batch.nbytes <= _MAX_JOINED_BYTES else batch.raws:
                self._add(text)
                self._add(b"\n")

    @property
    def text(self) -> str:
        """A CRC-32 and an Adler-32 in hexadecimal, and the number of records."""
        return f"{self._crc:08x}{self._adler:08x}-{self._rows}"

    def _add(self, data: Any) -> None:
        self._crc, self._adler = crc32(data, self._crc), adler32(data, self._adler)


class _Sink(RawIOBase):
    """A file that passes on the data that is written to it, so that no batch is copied as a whole."""

    def __init__(self, pass_on: Callable[[Any], None]) -> None:
        self._pass_on = pass_on

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pass_on(data)
        return len(data)
