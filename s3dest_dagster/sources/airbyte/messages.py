"""Airbyte messages as batches, states, statuses and estimates.

`MessageReader` turns blocks of lines into items. It passes every message that is neither record nor state to the
`SourceReport` (`source_report`), and collects records in a `RecordBuffer`. Must not know: processes, files, what
becomes of the items.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from s3dest_dagster.batch import (
    TARGET_BATCH_BYTES,
    BadRecord,
    JsonBatch,
    SourceFile,
    SourceItem,
    State,
    StreamBatch,
    StreamStatus,
)
from s3dest_dagster.errors import SourceError
from s3dest_dagster.record_changes import Change, Changes
from s3dest_dagster.sources.airbyte.protocol import (
    BadLine,
    Decoded,
    RecordMessage,
    StateLine,
    decode_block,
    parse_state,
)
from s3dest_dagster.sources.airbyte.source_report import SourceReport
from s3dest_dagster.sources.lines import count_line_breaks
from s3dest_dagster.stream import StreamId

# ---------------------------------------------------------------------- records, states and statuses

BUFFER_MB = 32
"""Limit for the records that wait for their batch to fill, over all streams, in MB."""

_MIN_BATCH_BYTES = TARGET_BATCH_BYTES // 2
_RECORD_OVERHEAD_BYTES = 100
"""The memory that a small record uses besides its text: a bytes object, a number, and an entry in two lists."""


@dataclass(slots=True)
class _WaitingRecords:
    """Records of one stream. The first `copied` of them are copies; the others are views that keep a block alive."""

    raws: list[bytes] = field(default_factory=list)
    emitted_at: list[int] = field(default_factory=list)
    changes: dict[int, tuple[Change, ...]] = field(default_factory=dict)
    nbytes: int = 0
    copied: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.nbytes + _RECORD_OVERHEAD_BYTES * len(self.raws)


class RecordBuffer:
    """Collects records into batches, in each stream's order.

    Between blocks it holds less than `max_bytes`, however many streams there are. A batch has 0.5 MB or more, unless a
    state, the end of the input or the limit requires it earlier.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: dict[StreamId, _WaitingRecords] = {}

    def add(self, stream: StreamId, raws: Sequence[bytes], emitted_at: Sequence[int], changes: Changes) -> None:
        """Adds records that are views of the current block. Call `end_block` before the next block.

        Args:
            stream: Their stream.
            raws: Their texts.
            emitted_at: When each was emitted, in milliseconds since 1970.
            changes: What was changed in them, by their numbers among these.
        """
        waiting = self._waiting.setdefault(stream, _WaitingRecords())
        waiting.changes.update((len(waiting.raws) + number, own) for number, own in changes.items())
        waiting.raws += raws
        waiting.emitted_at += emitted_at
        waiting.nbytes += sum(map(len, raws))

    def end_block(self) -> Iterator[StreamBatch]:
        """Yields the full batches, and more while the limit is exceeded. Copies the rest, so that the block can be
        freed."""
        for stream in [stream for stream, waiting in self._waiting.items() if waiting.nbytes >= _MIN_BATCH_BYTES]:
            yield self._pop_batch(stream)
        for waiting in self._waiting.values():
            waiting.raws[waiting.copied :] = map(bytes, waiting.raws[waiting.copied :])
            waiting.copied = len(waiting.raws)
        total = sum(waiting.memory_bytes for waiting in self._waiting.values())
        while total > self._max_bytes:
            largest = max(self._waiting, key=lambda stream: self._waiting[stream].memory_bytes)
            total -= self._waiting[largest].memory_bytes
            yield self._pop_batch(largest)

    def flush(self, stream: StreamId | None = None) -> Iterator[StreamBatch]:
        """Yields all records of the stream, or of all streams."""
        for name in list(self._waiting) if stream is None else [stream]:
            if name in self._waiting:
                yield self._pop_batch(name)

    def _pop_batch(self, stream: StreamId) -> StreamBatch:
        waiting = self._waiting.pop(stream)
        emitted_at = np.array(waiting.emitted_at, np.int64)
        return StreamBatch(stream, JsonBatch(waiting.raws, emitted_at, waiting.nbytes, changes=waiting.changes))


def _files_of(records: Iterable[RecordMessage | None]) -> dict[int, SourceFile]:
    """The files that records come with, by the number of the record."""
    found = ((index, record.source_file) for index, record in enumerate(records) if record is not None)
    return {index: file for index, file in found if file is not None}


class MessageReader:
    """Turns blocks of lines into items. Between blocks it holds less than `buffer_mb` of records."""

    def __init__(
        self, streams: Collection[StreamId], report: SourceReport, *, buffer_mb: int = BUFFER_MB, lines_before: int = 0
    ) -> None:
        self._streams = frozenset(streams)
        self._report = report
        self._buffer = RecordBuffer(buffer_mb << 20)
        self._bad_records: list[BadRecord] = []
        self._lines_before = lines_before
        self._has_begun = False
        self._may_tell_changes = False

    def read(self, block: bytes) -> Iterator[SourceItem]:
        """Yields the items of the block. Bad records after its last state or status come with the next block."""
        yield from self.bad_records()
        if not self._has_begun:
            block, self._has_begun = block.removeprefix(BOM_UTF8), True
        messages = decode_block(block)
        records = cast(list[RecordMessage], [message.record for message in messages])
        self._may_tell_changes = b'"changes"' in block
        files = _files_of(records) if b'"file' in block else {}
        others = [] if all(records) else [index for index, record in enumerate(records) if record is None]
        start = 0
        for index in sorted((*others, *files)):
            self._add_records(records[start:index])
            yield from self._receive_file(files[index]) if index in files else self._receive(messages[index])
            start = index + 1
        self._add_records(records[start:])
        self._lines_before += count_line_breaks(block)
        yield from self._buffer.end_block()

    def pass_records(self, lines: bytes) -> int:
        """Notes lines of records that are decoded elsewhere. Returns the number of lines before them."""
        self._report.has_data = self._report.has_messages = self._has_begun = True
        before = self._lines_before
        self._lines_before += count_line_breaks(lines)
        return before

    def flush(self) -> Iterator[SourceItem]:
        """Yields the records that still wait for their batch to fill."""
        return self._buffer.flush()

    def bad_records(self) -> list[BadRecord]:
        """Returns the bad records that are held back, and forgets them.

        They come right before the item that follows them, and not earlier. A source that dies leaves half a line
        behind; once its death is known, that is the better error to report.
        """
        records, self._bad_records = self._bad_records, []
        return records

    def _add_records(self, records: list[RecordMessage]) -> None:
        """Adds consecutive records to the buffer. In the usual case of one stream, the stream is not looked up per
        record."""
        if not records:
            return
        self._report.has_data = self._report.has_messages = True
        names = {record.stream for record in records}
        namespaces = {record.namespace for record in records}
        if len(names) == len(namespaces) == 1:
            self._add_stream_records(namespaces.pop(), names.pop(), records)
            return
        by_stream: defaultdict[tuple[str | None, str], list[RecordMessage]] = defaultdict(list)
        for record in records:
            by_stream[record.namespace, record.stream].append(record)
        for (namespace, name), group in by_stream.items():
            self._add_stream_records(namespace, name, group)

    def _add_stream_records(self, namespace: str | None, name: str, records: list[RecordMessage]) -> None:
        stream = self._check_stream(StreamId(namespace or None, name))
        raws, emitted_at = [record.data for record in records], [record.emitted_at for record in records]
        found = ((row, record.changes) for row, record in enumerate(records)) if self._may_tell_changes else ()
        self._buffer.add(stream, raws, emitted_at, {row: changes for row, changes in found if changes})

    def _check_stream(self, stream: StreamId) -> StreamId:
        if stream in self._streams:
            return stream
        known = ", ".join(sorted(map(str, self._streams))) or "none"
        raise SourceError(
            f"The source wrote records of the stream {stream}, which is not in the catalog (it has: {known}). "
            "Add the stream to the catalog, or do not select it at the source.",
            stream=str(stream),
        )

    def _receive_file(self, file: SourceFile) -> Iterator[SourceItem]:
        self._report.has_data = self._report.has_messages = True
        self._check_stream(file.stream)
        yield from self.bad_records()
        yield file

    def _receive(self, message: Decoded) -> Iterator[SourceItem]:
        """Yields the items of a message that is not a record."""
        if isinstance(message, StateLine):
            yield from self.bad_records()
            yield from self._receive_state(message)
        elif isinstance(message, BadLine):
            self._receive_bad_line(message)
        elif (notice := self._report.receive(message)) is not None:
            if isinstance(notice, StreamStatus) and notice.status in ("COMPLETE", "INCOMPLETE"):
                yield from self._buffer.flush(notice.stream)
                yield from self.bad_records()
            yield notice

    def _receive_bad_line(self, line: BadLine) -> None:
        if line.is_cut_short:
            raise SourceError(
                "The source's last line is incomplete: it ends without a line break and cannot be read "
                f"({line.reason}). What would have followed is unknown; run the source again."
            )
        if line.intended_type == "STATE":
            raise SourceError(f"The source wrote a STATE message that cannot be read: {line.reason}.")
        if line.intended_type is None:
            self._report.receive_text(line)
            return
        self._report.has_data = self._report.has_messages = True
        stream = None if line.stream is None else self._check_stream(line.stream)
        number = self._lines_before + line.number
        self._bad_records.append(BadRecord(stream, line.raw, line.reason, number, finite=line.finite))

    def _receive_state(self, line: StateLine) -> Iterator[SourceItem]:
        """Yields the records that the state covers, then the state. Ignores a state of a stream outside the catalog."""
        self._report.has_data = self._report.has_messages = True
        try:
            stream = parse_state(line.state).stream_id
        except ValueError as error:
            raise SourceError(f"The source wrote a STATE message that cannot be read: {error}.") from None
        if stream is not None and stream not in self._streams:
            self._report.log("WARN", f"A state of the stream {stream}, which is not in the catalog, is ignored.")
            return
        yield from self._buffer.flush(stream)
        yield State(stream, line.state, line.text)
