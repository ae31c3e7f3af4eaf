"""Airbyte messages from a byte stream as batches, states and statuses: the way in for connectors and `s3dest write`.

It knows the protocol and how records are grouped; it must not know processes, settings or what becomes of the items.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar, cast

import msgspec
import numpy as np

from s3dest_dagster.batch import TARGET_BATCH_BYTES, BadRecord, JsonBatch, SourceItem, State, StreamBatch, StreamStatus
from s3dest_dagster.errors import SourceError
from s3dest_dagster.printable import logger
from s3dest_dagster.sources import Log as Log
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
    read_state,
)
from s3dest_dagster.sources.lines import MAX_LINE_MB, line_breaks, read_blocks, refuse_silence
from s3dest_dagster.stream import StreamId

LOG_LEVELS = {
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": logging.DEBUG,
}

_logger = logger("sources")
_SHOWN_LINES = 3
_SHOWN_CHARACTERS = 300
_COUNTED_ERRORS = 100
"""Different errors that are told apart."""

_T = TypeVar("_T")


def log_to_logging(level: str, message: str) -> None:
    """Log to the Python logger `s3dest_dagster.sources`."""
    _logger.log(LOG_LEVELS[level], "%s", message)


class Transcript:
    """Takes each message that is neither record nor state; `verdict` tells at the end what was wrong."""

    def __init__(self, log: Log, streams: Collection[StreamId] = (), *, config: CurrentConfig | None = None) -> None:
        self.log = log
        self._config = config or CurrentConfig({})
        self._streams = frozenset(streams)
        self._errors: set[str] = set()
        self._first_error = ""
        self._statuses: dict[StreamId, str] = {}
        self._printed: list[str] = []
        self.spoke = False
        """Whether any message of the protocol came."""
        self.delivered = False
        """Whether a record or a state came; the reader sets it."""

    def take(self, message: Message) -> StreamStatus | None:
        """Note and log the message; a status of one of the streams is also handed back."""
        self.spoke = True
        if message.type == "LOG":
            self._take_log(message.log)
        elif message.type == "TRACE":
            return self._take_trace(message.trace)
        elif message.type == "CONTROL":
            self._take_control(message.control)
        return None

    def take_printed(self, line: BadLine) -> None:
        """Log something that is no message; the first few are kept for the verdict."""
        text = line.raw.decode("utf-8", "replace")
        self.log("INFO", text)
        if len(self._printed) < _SHOWN_LINES:
            self._printed.append(text[:_SHOWN_CHARACTERS])

    def _take_control(self, raw: msgspec.Raw) -> None:
        control = self._part(raw, CONTROL)
        if control is not None and control.connectorConfig is not None:
            self._config.change(control.connectorConfig.config, self.log)
        elif control is not None:
            self.log("WARN", f"The source wrote a CONTROL message of the type {control.type!r}, which is not known.")

    def _take_log(self, raw: msgspec.Raw) -> None:
        if (entry := self._part(raw, LOG)) is None:
            return
        level = entry.level.upper()
        self.log(level if level in LOG_LEVELS else "INFO", entry.message)
        if entry.stack_trace:
            self.log("DEBUG", entry.stack_trace)

    def _take_trace(self, raw: msgspec.Raw) -> StreamStatus | None:
        trace = self._part(raw, TRACE)
        if trace is not None and trace.error is not None:
            self._take_error(trace.error)
        if trace is not None and trace.stream_status is not None:
            return self._take_status(trace.stream_status)
        return None

    def _take_error(self, error: ErrorTrace) -> None:
        told = error.message or error.internal_message or "it gave no reason"
        if error.internal_message and error.internal_message not in told:
            told = f"{told} ({error.internal_message})"
        if error.stream_descriptor is not None:
            told = f"stream {error.stream_descriptor.id}: {told}"
        self._first_error = self._first_error or told
        if len(self._errors) < _COUNTED_ERRORS:
            self._errors.add(told[:_SHOWN_CHARACTERS])
        self.log("ERROR", told)
        if error.stack_trace:
            self.log("DEBUG", error.stack_trace)

    def _take_status(self, status: StatusTrace) -> StreamStatus | None:
        stream = status.stream_descriptor.id
        if stream not in self._streams:
            return None
        self._statuses[stream] = status.status
        return StreamStatus(stream, status.status)

    def _part(self, raw: msgspec.Raw, decoder: msgspec.json.Decoder[_T]) -> _T | None:
        """The part of a message, or None, with a warning, where the source built it wrongly."""
        try:
            return decoder.decode(raw)
        except msgspec.DecodeError as error:
            self.log("WARN", f"The source wrote a {decoder.type.__name__} that is not as the protocol has it: {error}")
            return None

    def verdict(self) -> str | None:
        """What was wrong with the whole of it, as sentences; None when it is a complete sync.

        A source that reports stream statuses must have reported COMPLETE for each stream, and a source that printed
        something else must have given records, states or statuses too.
        """
        found = [*self._error_sentences(), *self._status_sentences(), *self._printed_sentences()]
        return " ".join(found) or None

    def _error_sentences(self) -> list[str]:
        if not self._errors:
            return []
        more = len(self._errors) - 1
        many = "many" if len(self._errors) == _COUNTED_ERRORS else more
        also = f" ({many} more in the log.)" if more else ""
        return [f"The source reported: {_sentence(self._first_error)}{also}"]

    def _status_sentences(self) -> list[str]:
        if not self._statuses:
            return []
        failed = {stream for stream, status in self._statuses.items() if status == "INCOMPLETE"}
        missing = self._streams - failed - {stream for stream, status in self._statuses.items() if status == "COMPLETE"}
        sentences = []
        if failed:
            sentences.append(f"The source could not read these streams to their end (INCOMPLETE): {_names(failed)}.")
        if missing:
            sentences.append(f"The source ended without reporting COMPLETE for: {_names(missing)}.")
        return sentences

    def _printed_sentences(self) -> list[str]:
        if not self._printed or self.delivered or self._statuses:
            return []
        shown = " | ".join(self._printed)
        return [f"The source gave no record and no state, but wrote lines that are no Airbyte messages: {shown}"]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _names(streams: Collection[StreamId]) -> str:
    return ", ".join(sorted(map(str, streams)))


_ENOUGH_BYTES = TARGET_BATCH_BYTES // 2
_OVERHEAD_BYTES = 100
"""What a small record costs beside its text: a bytes object, a number and their places in two lists."""


@dataclass(slots=True)
class _Pending:
    """Records of one stream that wait; the first `owned` of them are copies that keep no block alive."""

    raws: list[bytes] = field(default_factory=list)
    emitted_at: list[int] = field(default_factory=list)
    nbytes: int = 0
    owned: int = 0

    @property
    def weight(self) -> int:
        return self.nbytes + _OVERHEAD_BYTES * len(self.raws)


class Grouping:
    """Holds less than `buffer_bytes` of records between blocks, whatever the number of streams.

    Within a stream the order is kept. A batch has 0.5 MB or more, unless a state, the end or the bound asks for less.
    """

    def __init__(self, buffer_bytes: int) -> None:
        self._buffer_bytes = buffer_bytes
        self._pending: dict[StreamId, _Pending] = {}

    def add(self, stream: StreamId, raws: list[bytes], emitted_at: list[int]) -> None:
        """Take records, as views of the current block; `settle` must follow before the next block."""
        pending = self._pending.setdefault(stream, _Pending())
        pending.raws += raws
        pending.emitted_at += emitted_at
        pending.nbytes += sum(map(len, raws))

    def settle(self) -> Iterator[StreamBatch]:
        """Give out what is enough for a batch; copy the rest, so that the block can go; keep the bound."""
        for stream in [stream for stream, pending in self._pending.items() if pending.nbytes >= _ENOUGH_BYTES]:
            yield self._taken(stream)
        for pending in self._pending.values():
            pending.raws[pending.owned :] = map(bytes, pending.raws[pending.owned :])
            pending.owned = len(pending.raws)
        held = sum(pending.weight for pending in self._pending.values())
        while held > self._buffer_bytes:
            largest = max(self._pending, key=lambda stream: self._pending[stream].weight)
            held -= self._pending[largest].weight
            yield self._taken(largest)

    def flush(self, stream: StreamId | None = None) -> Iterator[StreamBatch]:
        """Give out all records of the stream, or of all streams."""
        for each in list(self._pending) if stream is None else [stream]:
            if each in self._pending:
                yield self._taken(each)

    def _taken(self, stream: StreamId) -> StreamBatch:
        pending = self._pending.pop(stream)
        emitted_at = np.array(pending.emitted_at, np.int64)
        return StreamBatch(stream, JsonBatch(pending.raws, emitted_at, pending.nbytes))


BUFFER_MB = 32
"""Bound of what waits for its batch to fill, over all streams."""


def read_messages(
    source: int | BinaryIO,
    streams: Collection[StreamId],
    *,
    log: Log = log_to_logging,
    config: CurrentConfig | None = None,
    max_line_mb: int = MAX_LINE_MB,
    buffer_mb: int = BUFFER_MB,
    stall_timeout_s: float | None = None,
) -> Iterator[SourceItem]:
    """Yield what Airbyte messages, one a line, say about the streams; a source that failed raises at the end.

    A state comes after every record that it covers: those of its stream, or of all streams where it names none. The
    same holds for a status that ends a stream, and bad records come before it, too. Between two of those, records come
    in batches of 0.5 MB or more per stream. A line that is meant as a record but is none becomes a `BadRecord`. Logs,
    and lines that are no messages, go to `log`. `source` is a descriptor or a binary file that nobody has read from.

    Raises SourceError for records of a stream that is not among `streams`, a broken state, a line longer than
    `max_line_mb`, a silence of `stall_timeout_s` and a last line that is cut short; and at the end of the input, when
    the source reported an error, did not report COMPLETE for a stream although it reports statuses, or wrote nothing
    but lines that are no messages.
    """
    transcript = Transcript(log, streams, config=config)
    reader = MessageReader(streams, transcript, buffer_mb=buffer_mb)

    def idle(silent_s: float) -> bool:
        refuse_silence(silent_s, stall_timeout_s)
        return False

    for block in read_blocks(source, max_line_mb=max_line_mb, idle=idle):
        yield from reader.read(block)
    yield from reader.flush()
    if (verdict := transcript.verdict()) is not None:
        raise SourceError(verdict)
    yield from reader.bad_records()


class MessageReader:
    """Turns blocks of lines into items; between blocks it holds less than `buffer_mb` of records.

    What the source says beside goes to the transcript, whose verdict the caller asks for at the end.
    """

    def __init__(self, streams: Collection[StreamId], transcript: Transcript, *, buffer_mb: int = BUFFER_MB) -> None:
        self._streams = frozenset(streams)
        self._transcript = transcript
        self._grouping = Grouping(buffer_mb << 20)
        self._bad: list[BadRecord] = []
        self._lines_before = 0

    def read(self, block: bytes) -> Iterator[SourceItem]:
        """The items of the block; bad records after its last state, or last end of a stream, come first at the next
        one."""
        yield from self.bad_records()
        messages = decode_block(block)
        records = cast(list[RecordMessage], [message.record for message in messages])
        start = 0
        for index in [] if all(records) else [index for index, record in enumerate(records) if record is None]:
            self._take_records(records[start:index])
            yield from self._other(messages[index])
            start = index + 1
        self._take_records(records[start:])
        self._lines_before += line_breaks(block)
        yield from self._grouping.settle()

    def flush(self) -> Iterator[SourceItem]:
        """The records that still wait for their batch to fill."""
        return self._grouping.flush()

    def bad_records(self) -> list[BadRecord]:
        """The bad records that are held back, once.

        They come before whatever follows them, but no sooner: a source that dies leaves half a line behind, and its
        death, which is known then, is the better reason to fail.
        """
        bad, self._bad = self._bad, []
        return bad

    def _take_records(self, records: list[RecordMessage]) -> None:
        """Group a run of records; the usual case, one stream, needs no look-up per record."""
        if not records:
            return
        self._transcript.delivered = self._transcript.spoke = True
        names = {record.stream for record in records}
        namespaces = {record.namespace for record in records}
        if len(names) == len(namespaces) == 1:
            self._take_group(namespaces.pop(), names.pop(), records)
            return
        groups: defaultdict[tuple[str | None, str], list[RecordMessage]] = defaultdict(list)
        for record in records:
            groups[record.namespace, record.stream].append(record)
        for (namespace, name), group in groups.items():
            self._take_group(namespace, name, group)

    def _take_group(self, namespace: str | None, name: str, records: Sequence[RecordMessage]) -> None:
        stream = self._known(StreamId(namespace or None, name))
        self._grouping.add(stream, [record.data for record in records], [record.emitted_at for record in records])

    def _known(self, stream: StreamId) -> StreamId:
        if stream in self._streams:
            return stream
        known = ", ".join(sorted(map(str, self._streams))) or "none"
        raise SourceError(
            f"The source wrote records of the stream {stream}, which is not in the catalog (it has: {known}). "
            "Add the stream to the catalog, or do not select it at the source.",
            stream=str(stream),
        )

    def _other(self, message: Decoded) -> Iterator[SourceItem]:
        if isinstance(message, StateLine):
            yield from self.bad_records()
            yield from self._state(message)
        elif isinstance(message, BadLine):
            self._take_bad_line(message)
        elif (status := self._transcript.take(message)) is not None:
            if status.status in ("COMPLETE", "INCOMPLETE"):
                yield from self._grouping.flush(status.stream)
                yield from self.bad_records()
            yield status

    def _take_bad_line(self, line: BadLine) -> None:
        if line.cut_short:
            raise SourceError(
                "The source's last line is incomplete: it ends without a line break and cannot be read "
                f"({line.reason}). What would have followed is unknown; run the source again."
            )
        if line.meant == "STATE":
            raise SourceError(f"The source wrote a STATE message that cannot be read: {line.reason}.")
        if line.meant is None:
            self._transcript.take_printed(line)
            return
        self._transcript.delivered = self._transcript.spoke = True
        stream = None if line.stream is None else self._known(line.stream)
        self._bad.append(BadRecord(stream, line.raw, line.reason, self._lines_before + line.number))

    def _state(self, line: StateLine) -> Iterator[SourceItem]:
        """The state, after the records that it covers; one of a stream that was not asked for is left out."""
        self._transcript.delivered = self._transcript.spoke = True
        stream = _stream_of(line)
        if stream is not None and stream not in self._streams:
            self._transcript.log("WARN", f"A state of the stream {stream}, which is not in the catalog, is ignored.")
            return
        yield from self._grouping.flush(stream)
        yield State(stream, line.state, line.text)


def _stream_of(line: StateLine) -> StreamId | None:
    """The stream of a per-stream state; None where it covers all streams."""
    try:
        return read_state(line.state).covers
    except ValueError as error:
        raise SourceError(f"The source wrote a STATE message that cannot be read: {error}.") from None
