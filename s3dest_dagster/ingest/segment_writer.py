"""A segment in the making: records encoded and staged, lines kept aside, all of it counted; nothing is visible.

It must not know the commit, nor which segments come before or after it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from io import RawIOBase
from typing import Any

import pyarrow as pa
import pyarrow.ipc
from isal.isal_zlib import adler32, crc32

from s3dest_dagster.batch import TARGET_BATCH_BYTES, ArrowBatch, BadRecord, Batch, Tally
from s3dest_dagster.commit.manifest import Counts, ManifestObject
from s3dest_dagster.errors import CommitError
from s3dest_dagster.formats import Encoded, Encoder
from s3dest_dagster.ingest.object_writer import ObjectStager
from s3dest_dagster.ingest.quarantine import Quarantine
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.printable import amount
from s3dest_dagster.stream import Scope

_MOST_JOINED = 2 * TARGET_BATCH_BYTES


class ContentChecksum:
    """The same records in the same order give the same text, whenever they are landed: what landing adds to them (ids,
    times) does not count.

    JSON counts as it is spelled, however it is cut into batches; Arrow data batch by batch, as it lies in memory.
    Different records have the same text by accident once in many billions of cases; it is no defence against forgery.
    """

    def __init__(self) -> None:
        self._crc, self._adler = crc32(b""), adler32(b"")
        self._rows = 0

    def take(self, batch: Batch) -> None:
        """Counts the next records in."""
        if not batch.num_rows:
            return
        self._rows += batch.num_rows
        if isinstance(batch, ArrowBatch):
            with pa.ipc.new_stream(pa.PythonFile(_Sink(self._add), mode="w"), batch.data.schema) as stream:
                stream.write_batch(batch.data)
        else:
            # Joined it is fast; a batch that is one large record is not copied.
            for text in (b"\n".join(batch.raws),) if batch.nbytes <= _MOST_JOINED else batch.raws:
                self._add(text)
                self._add(b"\n")

    @property
    def text(self) -> str:
        """A CRC-32 and an Adler-32, in hexadecimal, and the number of records."""
        return f"{self._crc:08x}{self._adler:08x}-{self._rows}"

    def _add(self, data: Any) -> None:
        self._crc, self._adler = crc32(data, self._crc), adler32(data, self._adler)


class _Sink(RawIOBase):
    """A file that hands on what is written to it, so that no batch is copied as a whole."""

    def __init__(self, take: Callable[[Any], None]) -> None:
        self._take = take

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._take(data)
        return len(data)


_ID_BYTES = 16


class SegmentWriter:
    """Takes what one segment will hold; its first batch makes the stager. For one thread, like a landing."""

    def __init__(
        self, name: str, target: Target, scope: Scope, quarantine: Quarantine, stager: Callable[[str], ObjectStager]
    ) -> None:
        self.name = name
        self.since: datetime | None = None
        """A moment of the server's clock before the first upload begins, where purging first asks for it."""
        if target.destination.publish_order == "purge_first":
            self.since = target.bucket.server_time()
        self._target = target
        self._scope = scope
        self._quarantine = quarantine
        self._make_stager = stager
        self._stager: ObjectStager | None = None
        self._lane = target.encoding.lane(self._stage)
        self._settled = False
        self._tally = Tally()
        self._content = ContentChecksum()
        self._encoded_rows = 0
        self.read = 0
        """Records and bad lines taken so far."""
        self.read_bytes = 0
        """Bytes of the records taken so far, as the source gave them."""

    @property
    def objects(self) -> int:
        """Objects begun so far."""
        return self._stager.objects if self._stager is not None else 0

    @property
    def bytes(self) -> int:
        """Bytes written so far, of all objects."""
        return self._stager.bytes if self._stager is not None else 0

    @property
    def content(self) -> str:
        """What tells the content of the records taken so far."""
        return self._content.text

    def write(self, batch: Batch, encoder: Encoder) -> None:
        """Takes the next records. Raises what encoding or uploading an earlier batch met, too."""
        self.read += batch.num_rows
        self.read_bytes += batch.nbytes
        self._content.take(batch)
        self._lane.push(encoder, batch, self._target.entropy(_ID_BYTES * batch.num_rows))

    def reject(self, bad: BadRecord) -> None:
        """Takes a line that is no record: keeps it aside, or raises RecordError, as the settings say."""
        self._quarantine.take(bad)
        self.read += 1

    def finish(self) -> tuple[tuple[ManifestObject, ...], ManifestObject | None, Counts]:
        """The objects, those of the lines kept aside, and the counts: everything sent, and the counts proven."""
        self._lane.drain()
        objects = self._stager.finish() if self._stager is not None else ()
        landed, kept = sum(each.rows for each in objects), self._quarantine.rows
        if landed != self._encoded_rows or self.read != landed + kept:
            raise CommitError(
                f"The counts of {self._scope} do not add up: {amount(self.read, 'record')} read, {landed:,} landed, "
                f"{kept:,} quarantined. Nothing of these was published; please report this with the run's log.",
                stream=str(self._scope.stream),
                partition=self._scope.partition,
            )
        counts = Counts(read=self.read, landed=landed, quarantined=kept, tally=self._tally)
        return objects, self._quarantine.finish(), counts

    def settle(self) -> None:
        """What was staged belongs to a decision now, or may: it is not given up any more."""
        self._settled = True

    def abort(self) -> None:
        """Gives everything up, unless it is settled; raises the first failure once all has been tried."""
        if self._settled:
            return
        self._settled = True
        self._lane.cancel()
        with ExitStack() as both:
            both.callback(self._quarantine.abort)
            if self._stager is not None:
                both.callback(self._stager.abort)

    def _stage(self, encoded: Encoded) -> None:
        if self._stager is None:
            self._stager = self._make_stager(self.name)
        self._stager.take(encoded)
        self._encoded_rows += encoded.rows
        self._tally += encoded.tally
