"""The Airbyte protocol: its messages, and the decoder that turns a block of lines into them.

A record's data is not decoded. It stays the text that the source wrote (`Raw`, a view of the block).
Must not know: what is done with the messages.

Rules: https://docs.airbyte.com/understanding-airbyte/airbyte-protocol
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Raw, Struct

from s3dest_dagster.batch import FiniteRecord, SourceFile
from s3dest_dagster.columns.non_finite import field_of, finite_text
from s3dest_dagster.record_changes import Change
from s3dest_dagster.sources.lines import describe_json_error
from s3dest_dagster.stream import StreamId

_Millis = Annotated[int, msgspec.Meta(ge=-62_135_596_800_000, le=253_402_300_799_999)]
"""The years 1 to 9999. Many readers cannot read the files of a source that counts microseconds by mistake."""
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


_ABSENT = Raw()


class RecordMessage(Struct, gc=False):
    """A RECORD: `data` is the text of one JSON value, `emitted_at` is in milliseconds since 1970."""

    stream: str
    data: Raw
    emitted_at: _Millis
    namespace: str | None = None
    file_reference: Raw = _ABSENT
    """Where the source has put a file that the record describes."""
    file: Raw = _ABSENT
    """The same in older versions of the protocol."""
    meta: Raw = _ABSENT
    """What the source says of the record itself."""

    @property
    def source_file(self) -> SourceFile | None:
        """The file that the record describes. None if there is none."""
        text = next((each for each in (self.file_reference, self.file) if bytes(each) not in (b"", b"null")), None)
        if text is None:
            return None
        stream = StreamId(self.namespace or None, self.stream)
        try:
            found = _FILE.decode(text)
        except _DECODE_ERRORS:
            return SourceFile(stream, "", "")
        return SourceFile(
            stream,
            found.staging_file_url or found.file_url or "",
            found.source_file_relative_path or found.file_relative_path or "",
            found.file_size_bytes if found.file_size_bytes is not None else found.size,
        )

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was changed in the record before it came. Empty if its `meta` has no list of changes as the protocol
        describes them."""
        if bytes(self.meta) in (b"", b"null"):
            return ()
        try:
            found = _META.decode(self.meta).changes or []
        except _DECODE_ERRORS:
            return ()
        return tuple(Change(each.field, each.change, each.reason) for each in found)


class _Change(Struct):
    field: str
    change: str
    reason: str


class _Meta(Struct):
    changes: list[_Change] | None = None


class _File(Struct):
    """A file, in the names of the newer protocol and of older ones."""

    staging_file_url: str | None = None
    source_file_relative_path: str | None = None
    file_size_bytes: int | None = None
    file_url: str | None = None
    file_relative_path: str | None = None
    size: int | None = msgspec.field(default=None, name="bytes")


class Message(Struct, gc=False):
    """A line of the protocol. `type` determines which member is used. The others may be absent (empty) or null.

    Members that a destination does not need must be valid JSON, and are dropped.
    """

    type: str
    record: RecordMessage | None = None
    state: Raw = _ABSENT
    log: Raw = _ABSENT
    trace: Raw = _ABSENT
    spec: Raw = _ABSENT
    catalog: Raw = _ABSENT
    connectionStatus: Raw = _ABSENT
    control: Raw = _ABSENT


class StreamDescriptor(Struct):
    name: str
    namespace: str | None = None

    @property
    def id(self) -> StreamId:
        return StreamId(self.namespace or None, self.name)


class StreamState(Struct):
    stream_descriptor: StreamDescriptor
    stream_state: Raw = _ABSENT


class GlobalState(Struct):
    stream_states: list[StreamState] | None = None
    shared_state: Raw = _ABSENT


class StateMessage(Struct):
    """A STATE. Without a type it is LEGACY, and its text is in `data`."""

    type: str = "LEGACY"
    stream: StreamState | None = None
    global_: GlobalState | None = msgspec.field(default=None, name="global")
    data: Raw = _ABSENT

    @property
    def stream_id(self) -> StreamId | None:
        """The stream of the state; None if it is a state of all streams."""
        return self.stream.stream_descriptor.id if self.type == "STREAM" and self.stream is not None else None


def parse_state(text: bytes | Raw) -> StateMessage:
    """Parses the text of a state. Raises ValueError, with the reason, if the state lacks what its type requires."""
    try:
        state = STATE.decode(text)
    except _DECODE_ERRORS as error:
        raise ValueError(str(error)) from None
    if state.type == "STREAM" and state.stream is None:
        raise ValueError("it is of the type 'STREAM' and names no stream")
    if state.type == "GLOBAL" and state.global_ is None:
        raise ValueError("it is of the type 'GLOBAL' and has no object 'global'")
    if state.type == "LEGACY" and bytes(state.data) in (b"", b"null"):
        raise ValueError("it has neither a type nor data")
    if state.type not in ("STREAM", "GLOBAL", "LEGACY"):
        raise ValueError(f"its type {state.type!r} is not known")
    for name, value in _positions(state):
        if value and bytes(memoryview(value)[:1]) not in (b"{", b"n"):  # an object or null
            raise ValueError(f"its {name} is not an object")
    return state


def _positions(state: StateMessage) -> Iterator[tuple[str, Raw]]:
    """Yields the values that the source continues from, with their names. By the protocol they are objects; no source
    reads anything else."""
    if state.type == "LEGACY":
        yield "data", state.data
    elif state.type == "STREAM" and state.stream is not None:
        yield "stream_state", state.stream.stream_state
    elif state.global_ is not None:
        yield "shared_state", state.global_.shared_state
        for entry in state.global_.stream_states or ():
            yield f"stream_state of {entry.stream_descriptor.id}", entry.stream_state


class LogMessage(Struct):
    message: str
    level: str = "INFO"
    stack_trace: str | None = None


class ErrorTrace(Struct):
    message: str = ""
    failure_type: str | None = None
    internal_message: str | None = None
    stack_trace: str | None = None
    stream_descriptor: StreamDescriptor | None = None


class StatusTrace(Struct):
    stream_descriptor: StreamDescriptor
    status: str


class EstimateTrace(Struct):
    """How much the source expects to read. `type` is STREAM, or SYNC for all streams together."""

    type: str
    name: str | None = None
    namespace: str | None = None
    row_estimate: int | None = None
    byte_estimate: int | None = None


class TraceMessage(Struct):
    type: str
    error: ErrorTrace | None = None
    stream_status: StatusTrace | None = None
    estimate: EstimateTrace | None = None


class ChangedConfig(Struct):
    config: dict[str, Any]


class ControlMessage(Struct):
    """A CONTROL. Its only type, CONNECTOR_CONFIG, holds the whole config as the connector has changed it."""

    type: str
    connectorConfig: ChangedConfig | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a message."""

    raw: bytes
    """The line without surrounding whitespace."""
    reason: str
    intended_type: str | None
    """"RECORD" or "STATE" if the line looks like one. None if it is other text that the source printed."""
    stream: StreamId | None = None
    """The stream of an intended record, if it can still be read from the line."""
    number: int = 1
    """The line's number within its block, counted from 1."""
    finite: FiniteRecord | None = None
    """The record of the line without its NaN and infinite numbers, if nothing else is wrong with it."""
    is_cut_short: bool = False
    """Whether this is the last line, starts like an object, and ends without a line break before the object is
    complete."""
    record: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class StateLine:
    """A STATE message: the text of its `state`, and the text of the whole line."""

    state: bytes
    text: bytes
    record: ClassVar[None] = None


# Created at import: msgspec prepares a class at its first use, and crashes if two threads do so at the same time.
_decoder = msgspec.json.Decoder(Message)
_FILE = msgspec.json.Decoder(_File)
_META = msgspec.json.Decoder(_Meta)
STATE = msgspec.json.Decoder(StateMessage)
STREAM_STATE = msgspec.json.Decoder(StreamState)
LOG = msgspec.json.Decoder(LogMessage)
TRACE = msgspec.json.Decoder(TraceMessage)
CONTROL = msgspec.json.Decoder(ControlMessage)


Decoded = Message | StateLine | BadLine


def decode_block(block: bytes) -> Sequence[Decoded]:
    """The messages of a block of lines, in order. A line that is not a message becomes a `BadLine`; a blank line is
    skipped.

    Every record's data is one JSON object in valid UTF-8, without a line break. The block is decoded as a whole. It is
    decoded line by line only if something in it is wrong.
    """
    messages = _decode_at_once(block)
    return _decode_by_line(block) if messages is None else messages


def _decode_by_line(block: bytes) -> list[Decoded]:
    """The block's messages and bad lines. Only the last block of the input can lack its final line break."""
    lines = map(bytes.strip, block.split(b"\n"))
    messages = [_decode_line(line, number) for number, line in enumerate(lines, 1) if line]
    last_line = block[block.rfind(b"\n") + 1 :].strip()
    if last_line and isinstance(last := messages[-1], BadLine):
        messages[-1] = replace(last, is_cut_short=_is_broken_object(last.raw))
    return messages


def _is_broken_object(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        msgspec.json.decode(line, type=Raw)
    except _DECODE_ERRORS:
        return True
    return False


def _decode_at_once(block: bytes) -> Sequence[Decoded] | None:
    """The block's messages; None if something in it is wrong."""
    if not is_utf8(block):
        return None
    try:
        messages = _decoder.decode_lines(block)
    except _DECODE_ERRORS:
        return None
    records = [message.record for message in messages if message.record is not None]
    if not are_single_line_objects([record.data for record in records]):
        return None
    if len(records) == len(messages):
        return messages
    if any(_missing_member(message) for message in messages):
        return None
    return [_state_line(message.state, block) if message.type == "STATE" else message for message in messages]


def _missing_member(message: Message) -> str | None:
    """The name of the member that the message's type requires, if it is absent."""
    if message.type == "RECORD" and message.record is None:
        return "record"
    return "state" if message.type == "STATE" and not message.state else None


def _state_line(state: Raw, block: bytes) -> StateLine:
    """The state with its whole line. The state is a view of the block, so the line is found by the state's address."""
    start = _address(state) - _address(block)
    end = block.find(b"\n", start)
    return StateLine(bytes(state), block[block.rfind(b"\n", 0, start) + 1 : end if end >= 0 else None].strip())


def _address(buffer: bytes | Raw) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)


def is_utf8(block: bytes) -> bool:
    """Whether the bytes are valid UTF-8. msgspec does not check this in texts that it skips.

    Arrow validates three times as fast as `bytes.decode`, and does not create a text of up to four times the size.
    """
    if block.isascii():
        return True
    ends = pa.py_buffer(np.array([0, len(block)], np.int64))
    text = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(block)])
    try:
        text.cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def are_single_line_objects(raws: list[Raw]) -> bool:
    """Whether each text starts like an object and has no line break. JSON allows line breaks between tokens."""
    if not raws:
        return True
    joined = b"".join(raws)
    if b"\n" in joined or b"\r" in joined:
        return False
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    firsts = np.frombuffer(joined, np.uint8)[np.cumsum(lengths) - lengths]
    return bool((firsts == ord("{")).all())


def _decode_line(line: bytes, number: int) -> Decoded:
    if not is_utf8(line):
        return _bad_line(line, "it is not valid UTF-8", number)
    try:
        message = _decoder.decode(line)
    except _DECODE_ERRORS as error:
        bad = _bad_line(line, describe_json_error(line, error), number)
        return replace(bad, finite=_finite_record(line)) if bad.intended_type == "RECORD" else bad
    if (missing := _missing_member(message)) is not None:
        return _bad_line(line, f"the {message.type} message has no {missing}", number)
    if message.type == "STATE":
        return _state_line(message.state, line)
    if (record := message.record) is not None:
        if memoryview(record.data)[0] != ord("{"):
            return _bad_line(line, "the record's data is not an object", number)
        if b"\r" in line:
            record.data = Raw(msgspec.json.format(bytes(record.data), indent=-1))
    return message


def _finite_record(line: bytes) -> FiniteRecord | None:
    """The record of a line without its NaN and infinite numbers; None if anything else is wrong with the line."""
    text, paths = finite_text(line)
    if not paths or any(path[:2] != ("record", "data") for path in paths):
        return None
    message = _decode_line(text, 1)
    if not isinstance(message, Message) or (record := message.record) is None:
        return None
    return FiniteRecord(
        bytes(record.data), record.emitted_at, tuple(field_of(path[2:]) for path in paths), changes=record.changes
    )


_TYPE = re.compile(rb'"type"\s*:\s*"(RECORD|STATE)"')
_RECORD_START = re.compile(rb'\{\s*"(?:type"\s*:\s*"(?:R|$)|record")')
_MAX_SEARCHED_BYTES = 1 << 20


def _bad_line(line: bytes, reason: str, number: int) -> BadLine:
    if match := _TYPE.search(line):
        intended = match[1].decode()
    else:
        intended = "RECORD" if _RECORD_START.match(line) else None
    return BadLine(line, reason, intended, _stream_of(line) if intended == "RECORD" else None, number)


def _stream_of(line: bytes) -> StreamId | None:
    """The stream of a refused record, if a more tolerant reader (NaN, lone surrogates) can parse the line."""
    if len(line) > _MAX_SEARCHED_BYTES:
        return None
    try:
        record: Any = json.loads(line.decode("utf-8", "replace"))["record"]
        descriptor = {"name": record["stream"], "namespace": record.get("namespace")}
        stream = msgspec.convert(descriptor, StreamDescriptor).id
        str(stream).encode()  # fails for a lone surrogate, which no name can have
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, msgspec.ValidationError):
        return None
    return stream
