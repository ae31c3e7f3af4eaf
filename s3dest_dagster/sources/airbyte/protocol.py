"""The Airbyte protocol: which messages there are, and how a block of lines becomes messages.

A record's data stays the text that the source wrote (`Raw`, a view of the block); nothing else of it is decoded.
It knows the protocol's shapes; it must not know what is done with them.

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

from s3dest_dagster.sources.lines import why_no_json
from s3dest_dagster.stream import StreamId

_Millis = Annotated[int, msgspec.Meta(ge=-62_135_596_800_000, le=253_402_300_799_999)]
"""The years 1 to 9999: a source that counts microseconds by mistake would make files that many readers fail at."""
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class RecordMessage(Struct, gc=False):
    """A RECORD: `data` is the text of one JSON value, `emitted_at` milliseconds since 1970."""

    stream: str
    data: Raw
    emitted_at: _Millis
    namespace: str | None = None


_ABSENT = Raw()


class Message(Struct, gc=False):
    """A line of the protocol. `type` says which member counts; the others may be absent (empty) or null.

    Members that a destination has no use for are checked as JSON and dropped.
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
    """A STATE. Without a type it is a LEGACY one, whose text is in `data`."""

    type: str = "LEGACY"
    stream: StreamState | None = None
    global_: GlobalState | None = msgspec.field(default=None, name="global")
    data: Raw = _ABSENT

    @property
    def covers(self) -> StreamId | None:
        """The stream that the state is one of; None where it is one of all streams."""
        return self.stream.stream_descriptor.id if self.type == "STREAM" and self.stream is not None else None


def read_state(text: bytes | Raw) -> StateMessage:
    """The state of this text, which has what its type asks for. Raises ValueError with the reason for any other."""
    try:
        state = STATE.decode(text)
    except _UNREADABLE as error:
        raise ValueError(str(error)) from None
    if state.type == "STREAM" and state.stream is None:
        raise ValueError("it is of the type 'STREAM' and names no stream")
    if state.type == "GLOBAL" and state.global_ is None:
        raise ValueError("it is of the type 'GLOBAL' and has no object 'global'")
    if state.type == "LEGACY" and bytes(state.data) in (b"", b"null"):
        raise ValueError("it has neither a type nor data")
    if state.type not in ("STREAM", "GLOBAL", "LEGACY"):
        raise ValueError(f"its type {state.type!r} is not known")
    for name, value in _contents(state):
        if value and not _is_object_or_null(value):
            raise ValueError(f"its {name} is not an object")
    return state


def _is_object_or_null(value: Raw) -> bool:
    return bytes(memoryview(value)[:1]) in (b"{", b"n")


def _contents(state: StateMessage) -> Iterator[tuple[str, Raw]]:
    """What the source goes on from, each with its name: objects by the protocol, since no source reads others."""
    if state.type == "LEGACY":
        yield "data", state.data
    elif state.type == "STREAM" and state.stream is not None:
        yield "stream_state", state.stream.stream_state
    elif state.global_ is not None:
        yield "shared_state", state.global_.shared_state
        for each in state.global_.stream_states or ():
            yield f"stream_state of {each.stream_descriptor.id}", each.stream_state


class LogMessage(Struct):
    message: str
    level: str = "INFO"
    stack_trace: str | None = None


class ErrorTrace(Struct):
    message: str = ""
    internal_message: str | None = None
    stack_trace: str | None = None
    stream_descriptor: StreamDescriptor | None = None


class StatusTrace(Struct):
    stream_descriptor: StreamDescriptor
    status: str


class TraceMessage(Struct):
    type: str
    error: ErrorTrace | None = None
    stream_status: StatusTrace | None = None


class ChangedConfig(Struct):
    config: dict[str, Any]


class ControlMessage(Struct):
    """A CONTROL. The one type that there is, CONNECTOR_CONFIG, has the whole config as the connector has changed it."""

    type: str
    connectorConfig: ChangedConfig | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no message: its bytes without blanks around them, why, and what it was meant to be.

    `meant` is "RECORD" or "STATE" where the line looks like one, else None: then it is something that the source
    printed. `stream` is the record's stream where the line still tells it. `number` is the line's within its block,
    counted from 1. `cut_short`: it is the last line, begins like an object, and ends without a line break before it is
    one.
    """

    raw: bytes
    reason: str
    meant: str | None
    stream: StreamId | None = None
    number: int = 1
    cut_short: bool = False
    record: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class StateLine:
    """A STATE message: the text of its `state` and of the whole line."""

    state: bytes
    text: bytes
    record: ClassVar[None] = None


# Made at import: msgspec prepares a class at its first use, and crashes where two threads do so at once.
_decoder = msgspec.json.Decoder(Message)
STATE = msgspec.json.Decoder(StateMessage)
STREAM_STATE = msgspec.json.Decoder(StreamState)
LOG = msgspec.json.Decoder(LogMessage)
TRACE = msgspec.json.Decoder(TraceMessage)
CONTROL = msgspec.json.Decoder(ControlMessage)


Decoded = Message | StateLine | BadLine


def decode_block(block: bytes) -> Sequence[Decoded]:
    """The messages of a block of lines, in order; a bad line becomes a `BadLine` and harms no other.

    Every record's data is one JSON object in valid UTF-8, without a line break. Blank lines are left out. The block
    is decoded as a whole, and line by line only when something in it is wrong.
    """
    messages = _decoded_at_once(block)
    return _decoded_by_line(block) if messages is None else messages


def _decoded_by_line(block: bytes) -> list[Decoded]:
    """The block's messages and bad lines. Only the input's last block can lack its last line break."""
    lines = map(bytes.strip, block.split(b"\n"))
    messages = [_decode_line(line, number) for number, line in enumerate(lines, 1) if line]
    unended = block[block.rfind(b"\n") + 1 :].strip()
    if unended and isinstance(last := messages[-1], BadLine):
        messages[-1] = replace(last, cut_short=_is_broken_object(last.raw))
    return messages


def _is_broken_object(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        msgspec.json.decode(line, type=Raw)
    except _UNREADABLE:
        return True
    return False


def _decoded_at_once(block: bytes) -> Sequence[Decoded] | None:
    """The block's messages, or None when something in it is wrong."""
    if not is_utf8(block):
        return None
    try:
        messages = _decoder.decode_lines(block)
    except _UNREADABLE:
        return None
    records = [message.record for message in messages if message.record is not None]
    if not are_plain_objects([record.data for record in records]):
        return None
    if len(records) == len(messages):
        return messages
    if any(_lacks(message) for message in messages):
        return None
    return [_state_line(message.state, block) if message.type == "STATE" else message for message in messages]


def _lacks(message: Message) -> str | None:
    """What the message ought to have and has not."""
    if message.type == "RECORD" and message.record is None:
        return "record"
    return "state" if message.type == "STATE" and not message.state else None


def _state_line(state: Raw, block: bytes) -> StateLine:
    """The state, with the whole line of `block` that it, a view of the block, stands in."""
    start = _address(state) - _address(block)
    end = block.find(b"\n", start)
    return StateLine(bytes(state), block[block.rfind(b"\n", 0, start) + 1 : end if end >= 0 else None].strip())


def _address(buffer: bytes | Raw) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)


def is_utf8(block: bytes) -> bool:
    """Whether the bytes are valid UTF-8; msgspec does not look into skipped texts.

    Arrow validates three times as fast as `bytes.decode`, and without making a text of up to four times the size.
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


def are_plain_objects(raws: list[Raw]) -> bool:
    """Whether each text starts like an object and holds no line break (as blank inside the JSON)."""
    if not raws:
        return True
    joined = b"".join(raws)
    if b"\n" in joined or b"\r" in joined:
        return False
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    firsts = np.frombuffer(joined, np.uint8)[np.cumsum(lengths) - lengths]
    return bool((firsts == ord("{")).all())


def _decode_line(line: bytes, number: int) -> Decoded:
    message = _message_of(line)
    return replace(message, number=number) if isinstance(message, BadLine) else message


def _message_of(line: bytes) -> Decoded:
    if not is_utf8(line):
        return _bad_line(line, "it is not valid UTF-8")
    try:
        message = _decoder.decode(line)
    except _UNREADABLE as error:
        return _bad_line(line, why_no_json(line, error))
    if (lacking := _lacks(message)) is not None:
        return _bad_line(line, f"the {message.type} message has no {lacking}")
    if message.type == "STATE":
        return _state_line(message.state, line)
    return message if message.record is None else _checked_record(message, message.record, line)


def _checked_record(message: Message, record: RecordMessage, line: bytes) -> Message | BadLine:
    if memoryview(record.data)[0] != ord("{"):
        return _bad_line(line, "the record's data is not an object")
    if b"\r" in line:
        record.data = Raw(msgspec.json.format(bytes(record.data), indent=-1))
    return message


_MEANT = re.compile(rb'"type"\s*:\s*"(RECORD|STATE)"')
_BEGINNING = re.compile(rb'\{\s*"(?:type"\s*:\s*"(?:R|$)|record")')
_MAX_SEARCHED_BYTES = 1 << 20


def _bad_line(line: bytes, reason: str) -> BadLine:
    if found := _MEANT.search(line):
        meant = found[1].decode()
    else:
        meant = "RECORD" if _BEGINNING.match(line) else None
    return BadLine(line, reason, meant, _stream_of(line) if meant == "RECORD" else None)


def _stream_of(line: bytes) -> StreamId | None:
    """The stream of a refused record, if a reader that is laxer (NaN, lone surrogates) can make it out."""
    if len(line) > _MAX_SEARCHED_BYTES:
        return None
    try:
        record: Any = json.loads(line.decode("utf-8", "replace"))["record"]
        named = msgspec.convert({"name": record["stream"], "namespace": record.get("namespace")}, StreamDescriptor)
        str(named.id).encode()  # a lone surrogate is no name
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, msgspec.ValidationError):
        return None
    return named.id
