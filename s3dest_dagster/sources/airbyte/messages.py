"""Airbyte messages as batches, states and statuses, and as a report on whether the source succeeded.

`MessageReader` turns blocks of lines into items. It passes every message that is neither record nor state to the
`SourceReport`, and collects records in a `RecordBuffer`. Must not know: processes, files, what becomes of the items.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeVar, cast

import msgspec
import numpy as np

from s3dest_dagster.batch import TARGET_BATCH_BYTES, BadRecord, JsonBatch, SourceItem, State, StreamBatch, StreamStatus
from s3dest_dagster.errors import SourceError
from s3dest_dagster.printable import amount, logger
from s3dest_dagster.sources import Log
from s3dest_dagster.sources.airbyte.config import CurrentConfig
from s3dest_dagster.sources.airbyte.protocol import (
    CONTROL,
    LOG,
    TRACE,
    BadLine,
    Decoded,
    ErrorTrace,
    Message,
    RecordMessage,
    StateLine,
    StatusTrace,
    decode_block,
    parse_state,
)
from s3dest_dagster.sources.lines import count_line_breaks
from s3dest_dagster.stream import StreamId, join_names

LOG_LEVELS = {
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": logging.DEBUG,
}
"""The protocol's levels as Python's."""

_logger = logger("sources")


def log_to_logging(level: str, message: str) -> None:
    """Logs to the Python logger `s3dest_dagster.sources`."""
    _logger.log(LOG_LEVELS[level], "%s", message)


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

    def add(self, stream: StreamId, raws: list[bytes], emitted_at: list[int]) -> None:
        """Adds records that are views of the current block. Call `end_block` before the next block."""
        waiting = self._waiting.setdefault(stream, _WaitingRecords())
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
        return StreamBatch(stream, JsonBatch(waiting.raws, emitted_at, waiting.nbytes))


class MessageReader:
    """Turns blocks of lines into items. Between blocks it holds less than `buffer_mb` of records."""

    def __init__(self, streams: Collection[StreamId], report: SourceReport, *, buffer_mb: int = BUFFER_MB) -> None:
        self._streams = frozenset(streams)
        self._report = report
        self._buffer = RecordBuffer(buffer_mb << 20)
        self._bad_records: list[BadRecord] = []
        self._lines_before = 0

    def read(self, block: bytes) -> Iterator[SourceItem]:
        """Yields the items of the block. Bad records after its last state or status come with the next block."""
        yield from self.bad_records()
        messages = decode_block(block)
        records = cast(list[RecordMessage], [message.record for message in messages])
        start = 0
        for index in [] if all(records) else [index for index, record in enumerate(records) if record is None]:
            self._add_records(records[start:index])
            yield from self._receive(messages[index])
            start = index + 1
        self._add_records(records[start:])
        self._lines_before += count_line_breaks(block)
        yield from self._buffer.end_block()

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
        self._buffer.add(stream, [record.data for record in records], [record.emitted_at for record in records])

    def _check_stream(self, stream: StreamId) -> StreamId:
        if stream in self._streams:
            return stream
        known = ", ".join(sorted(map(str, self._streams))) or "none"
        raise SourceError(
            f"The source wrote records of the stream {stream}, which is not in the catalog (it has: {known}). "
            "Add the stream to the catalog, or do not select it at the source.",
            stream=str(stream),
        )

    def _receive(self, message: Decoded) -> Iterator[SourceItem]:
        """Yields the items of a message that is not a record."""
        if isinstance(message, StateLine):
            yield from self.bad_records()
            yield from self._receive_state(message)
        elif isinstance(message, BadLine):
            self._receive_bad_line(message)
        elif (status := self._report.receive(message)) is not None:
            if status.status in ("COMPLETE", "INCOMPLETE"):
                yield from self._buffer.flush(status.stream)
                yield from self.bad_records()
            yield status

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


# ---------------------------------------------------------------------- whether the source succeeded

_MAX_QUOTED_LINES = 3
_MAX_QUOTED_CHARACTERS = 300
_MAX_COUNTED_ERRORS = 100
"""The number of different errors that are counted."""

_T = TypeVar("_T")


class SourceReport:
    """Receives and logs each message that is neither record nor state. Says at the end whether the sync failed.

    Args:
        hides_text: Whether lines that are not messages are not shown, since they may hold fields that must not land.
    """

    def __init__(
        self,
        log: Log,
        streams: Collection[StreamId] = (),
        *,
        config: CurrentConfig | None = None,
        hides_text: bool = False,
    ) -> None:
        self.log = log
        self._hides_text = hides_text
        self._config = config or CurrentConfig({})
        self._streams = frozenset(streams)
        self._errors: set[str] = set()
        self._first_error = ""
        self._statuses: dict[StreamId, str] = {}
        self._text_lines: list[str] = []
        self.has_messages = False
        """Whether any message of the protocol has arrived."""
        self.has_data = False
        """Whether a record or a state has arrived. The reader sets it."""

    def receive(self, message: Message) -> StreamStatus | None:
        """Logs the message, or applies a changed config. Returns the status if the message is the status of a
        stream."""
        self.has_messages = True
        if message.type == "LOG":
            self._receive_log(message.log)
        elif message.type == "TRACE":
            return self._receive_trace(message.trace)
        elif message.type == "CONTROL":
            self._receive_control(message.control)
        return None

    def receive_text(self, line: BadLine) -> None:
        """Logs a line that is not a message. If the sync fails, the error quotes the first few."""
        text = line.raw.decode("utf-8", "replace")
        if self._hides_text:
            text = f"({amount(len(line.raw), 'byte')} that are no message, not shown: they may be a part of a record)"
        self.log("INFO", text)
        if len(self._text_lines) < _MAX_QUOTED_LINES:
            self._text_lines.append(text[:_MAX_QUOTED_CHARACTERS])

    def _receive_control(self, raw: msgspec.Raw) -> None:
        control = self._decode(raw, CONTROL)
        if control is not None and control.connectorConfig is not None:
            self._config.change(control.connectorConfig.config, self.log)
        elif control is not None:
            self.log("WARN", f"The source wrote a CONTROL message of the type {control.type!r}, which is not known.")

    def _receive_log(self, raw: msgspec.Raw) -> None:
        if (entry := self._decode(raw, LOG)) is None:
            return
        level = entry.level.upper()
        self.log(level if level in LOG_LEVELS else "INFO", entry.message)
        if entry.stack_trace:
            self.log("DEBUG", entry.stack_trace)

    def _receive_trace(self, raw: msgspec.Raw) -> StreamStatus | None:
        trace = self._decode(raw, TRACE)
        if trace is not None and trace.error is not None:
            self._receive_error(trace.error)
        if trace is not None and trace.stream_status is not None:
            return self._receive_status(trace.stream_status)
        return None

    def _receive_error(self, error: ErrorTrace) -> None:
        text = error.message or error.internal_message or "it gave no reason"
        if error.internal_message and error.internal_message not in text:
            text = f"{text} ({error.internal_message})"
        if error.stream_descriptor is not None:
            text = f"stream {error.stream_descriptor.id}: {text}"
        self._first_error = self._first_error or text
        if len(self._errors) < _MAX_COUNTED_ERRORS:
            self._errors.add(text[:_MAX_QUOTED_CHARACTERS])
        self.log("ERROR", text)
        if error.stack_trace:
            self.log("DEBUG", error.stack_trace)

    def _receive_status(self, status: StatusTrace) -> StreamStatus | None:
        stream = status.stream_descriptor.id
        if stream not in self._streams:
            return None
        self._statuses[stream] = status.status
        return StreamStatus(stream, status.status)

    def _decode(self, raw: msgspec.Raw, decoder: msgspec.json.Decoder[_T]) -> _T | None:
        """Decodes the content of a message. Returns None, and logs a warning, if it does not follow the protocol."""
        try:
            return decoder.decode(raw)
        except msgspec.DecodeError as error:
            self.log("WARN", f"The source wrote a {decoder.type.__name__} that does not follow the protocol: {error}")
            return None

    def failure(self) -> str | None:
        """The reasons why the sync failed, as sentences. None if it is complete.

        A source that reports stream statuses must have reported COMPLETE for each stream. A source that wrote lines
        that are not messages must also have written records, states or statuses.
        """
        sentences = [*self._error_sentences(), *self._status_sentences(), *self._text_sentences()]
        return " ".join(sentences) or None

    def _error_sentences(self) -> Iterator[str]:
        if self._errors:
            others = "many" if len(self._errors) == _MAX_COUNTED_ERRORS else len(self._errors) - 1
            end = "" if self._first_error.endswith((".", "!", "?")) else "."
            yield f"The source reported: {self._first_error}{end}{f' ({others} more in the log.)' if others else ''}"

    def _status_sentences(self) -> Iterator[str]:
        if not self._statuses:
            return
        complete = {stream for stream, status in self._statuses.items() if status == "COMPLETE"}
        incomplete = {stream for stream, status in self._statuses.items() if status == "INCOMPLETE"}
        if incomplete:
            yield f"The source could not read these streams to their end (INCOMPLETE): {join_names(incomplete)}."
        if missing := self._streams - complete - incomplete:
            yield f"The source ended without reporting COMPLETE for: {join_names(missing)}."

    def _text_sentences(self) -> Iterator[str]:
        if self._text_lines and not self.has_data and not self._statuses:
            lines = " | ".join(self._text_lines)
            yield f"The source gave no record and no state, but wrote lines that are no Airbyte messages: {lines}"
