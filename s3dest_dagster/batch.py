"""The values that a source passes to a landing: batches of records, the states between them, and the states' descent.

A batch holds 0.5 to 1 MB of records, either as the JSON text that the source wrote or as Arrow columns, but never a
Python object for each field. States of all streams are ordered by lineage, not by a clock. All values are frozen.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, AnyStr, SupportsIndex

import msgspec
import numpy as np
import pyarrow as pa

from s3dest_dagster.record_changes import Change, Changes
from s3dest_dagster.stream import StreamId

if TYPE_CHECKING:
    from numpy.typing import NDArray


_ESCAPE_QUOTED = re.compile(r" \(\\u[0-9A-Fa-f]{4}\)")
"""How a reason quotes an escape of the text."""
TARGET_BATCH_BYTES = 1 << 20
"""The size that sources aim for: smaller batches pay the fixed cost more often, larger ones outgrow the CPU's cache."""


FieldPath = tuple[str | None, ...]
"""The names from the root to a field, and None for the items of a list."""


class ValueType(Enum):
    """A type that a source's values have and that JSON lacks."""

    DECIMAL = "decimal"
    FLOAT = "float"
    """A number of 32 bits."""
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    LOCAL_TIMESTAMP = "local_timestamp"
    """A moment without a zone."""
    BYTES = "bytes"
    OTHER = "other"
    """Values of several types, or of one that JSON has, at a field that has had one of the types above."""


ValueTypes = frozenset[tuple[FieldPath, ValueType]]
"""The types of fields, each of which has one at most."""


def common_types(types: Iterable[ValueTypes]) -> ValueTypes:
    """The types of fields that no other of these gives another type."""
    found = frozenset[tuple[FieldPath, ValueType]]().union(*types)
    counts = Counter(path for path, _ in found)
    return frozenset(each for each in found if counts[each[0]] == 1)


@dataclass(frozen=True, slots=True)
class JsonBatch:
    """Records as the JSON texts that the source wrote."""

    raws: Sequence[bytes]
    """One JSON object per text: valid JSON in valid UTF-8, without raw line breaks or surrounding blanks."""
    emitted_at: NDArray[np.int64]
    """Milliseconds since 1970, one for each record."""
    nbytes: int
    """Total length of the texts."""
    types: ValueTypes = frozenset()
    """The fields whose values had a type that JSON lacks, as far as the source says so."""
    changes: Changes = field(default_factory=dict)
    """What was changed in the records so far, as far as it is known."""

    @property
    def num_rows(self) -> int:
        return len(self.raws)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Callable[..., JsonBatch], tuple[Any, ...]]:
        # One text instead of one for each record is several times as fast to pickle.
        text = b"\n".join(self.raws)
        return _unpickled_json, (_out_of_band(text, protocol), self.emitted_at, self.nbytes, self.types, self.changes)


def _out_of_band(data: bytes, protocol: SupportsIndex) -> Any:
    """The bytes, which from protocol 5 on need not be copied into the pickle (PEP 574)."""
    return PickleBuffer(data) if protocol.__index__() >= 5 else data


def _unpickled_json(text: bytes, emitted_at: NDArray[np.int64], *rest: Any) -> JsonBatch:
    return JsonBatch(text.split(b"\n") if len(emitted_at) else [], emitted_at, *rest)


@dataclass(frozen=True, slots=True)
class ArrowBatch:
    """Records as Arrow columns, unchanged from the source."""

    data: pa.RecordBatch
    emitted_at: NDArray[np.int64]
    """Milliseconds since 1970, one for each record."""
    changes: Changes = field(default_factory=dict)
    """As in a `JsonBatch`."""

    @property
    def num_rows(self) -> int:
        return int(self.data.num_rows)

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Callable[..., ArrowBatch], tuple[Any, ...]]:
        # Arrow's stream format has the rows of a slice alone; a pickle of the slice has those of the whole.
        written = pa.BufferOutputStream()
        with pa.ipc.new_stream(written, self.data.schema) as stream:
            stream.write_batch(self.data)
        return _unpickled_arrow, (written.getvalue(), self.emitted_at, self.changes)


def _unpickled_arrow(stream: pa.Buffer, emitted_at: NDArray[np.int64], changes: Changes) -> ArrowBatch:
    return ArrowBatch(pa.ipc.open_stream(stream).read_next_batch(), emitted_at, changes)


Batch = JsonBatch | ArrowBatch


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """A batch and the stream it belongs to, from a source that has several."""

    stream: StreamId
    batch: Batch


@dataclass(frozen=True, slots=True)
class FiniteRecord:
    """A record with null in place of every number that is NaN or infinite."""

    raw: bytes
    """One JSON object, as in a `JsonBatch`."""
    emitted_at: int
    fields: tuple[str, ...]
    """The dotted name of the field of every such number. Items of a list are `name[]`."""
    types: ValueTypes = frozenset()
    """As in a `JsonBatch`."""
    changes: tuple[Change, ...] = ()
    """What was changed in the record before, as far as its source says so."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A line that should be a record but is not."""

    stream: StreamId | None
    """None if the line does not name one."""
    raw: bytes
    reason: str
    line_number: int | None = None
    """Counted from 1, in the file or in the source's output; None if that has no lines."""
    file: str | None = None
    hidden_bytes: int | None = None
    """The length of the line if its text is kept back, since it may hold fields that must not land; `raw` is then
    empty. None if `raw` is the line."""
    finite: FiniteRecord | None = None
    """The record without its NaN and infinite numbers, if nothing else is wrong with it."""

    def without_text(self) -> BadRecord:
        """The same without its text. Its reason never quotes more than an escape."""
        if self.hidden_bytes is not None:
            return self
        return replace(self, raw=b"", hidden_bytes=len(self.raw), reason=_ESCAPE_QUOTED.sub("", self.reason))


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that the source sends with a record. The record is no row: its file lands instead of it."""

    stream: StreamId
    location: str
    """Where the source has put it, as a path on this machine."""
    path: str
    """Its path at the source, which names it. Empty if the record does not say it."""
    size: int | None = None
    """In bytes. None if the record does not say it."""


@dataclass(frozen=True, slots=True)
class State:
    """A STATE message. It covers every record that the source emitted before it."""

    stream: StreamId | None
    """None for a state of all streams together (GLOBAL or LEGACY)."""
    state: bytes
    """The text of the message's `state` object, which the source gets back at its next read."""
    message: bytes
    """The whole message as one line of JSON, to be echoed unchanged."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A TRACE message with a stream's status: STARTED, RUNNING, COMPLETE or INCOMPLETE."""

    stream: StreamId
    status: str


@dataclass(frozen=True, slots=True)
class StreamEstimate:
    """A TRACE message with the number of records that the source expects to read of a stream."""

    stream: StreamId
    rows: int


StreamNotice = StreamStatus | StreamEstimate
"""What a source tells about a stream besides its data."""

SourceItem = StreamBatch | BadRecord | SourceFile | State | StreamNotice


class UndecodedItems(ABC):
    """Items in the words of their source, for another process to decode. They can be pickled."""

    __slots__ = ()

    @abstractmethod
    def items(self) -> Iterator[SourceItem]:
        """Decodes the items. Raises as the source does that has read them."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of the values that did not land as declared, by original field name (dotted path if nested).

    Names beyond `MAX_NAMES` are counted under "…". A flattened CSV without an overflow column has only `coerced`.
    """

    coerced: Mapping[str, int] = field(default_factory=dict)
    """Values that landed in another, equal spelling ("12" as 12)."""
    overflowed: Mapping[str, int] = field(default_factory=dict)
    """Values of declared fields that went to the overflow column: they did not fit, or the name was repeated."""
    undeclared: Mapping[str, int] = field(default_factory=dict)
    """Values of undeclared fields that went to the overflow column."""
    excluded: Mapping[str, int] = field(default_factory=dict)
    """Values that did not land because of the stream's `fields`, by the path of the rule. "*" counts fields that
    `include` does not name."""
    hashed: Mapping[str, int] = field(default_factory=dict)
    """Values that landed as a hash, by the path of the rule."""
    masked: Mapping[str, int] = field(default_factory=dict)
    """Values that landed as a mask, by the path of the rule."""
    non_finite: Mapping[str, int] = field(default_factory=dict)
    """Numbers that were NaN or infinite, and landed as null."""

    MAX_NAMES = 100
    OTHERS = "…"

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            _added(self.coerced, other.coerced),
            _added(self.overflowed, other.overflowed),
            _added(self.undeclared, other.undeclared),
            _added(self.excluded, other.excluded),
            _added(self.hashed, other.hashed),
            _added(self.masked, other.masked),
            _added(self.non_finite, other.non_finite),
        )

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))


def _added(left: Mapping[str, int], right: Mapping[str, int]) -> Mapping[str, int]:
    """The sums by name, with a bounded number of names."""
    if not right:
        return left
    total = dict(left)
    for name, count in right.items():
        key = name if name in total or len(total) < Tally.MAX_NAMES else Tally.OTHERS
        total[key] = total.get(key, 0) + count
    return total


_KEPT_APART = 16
"""This many states before the newest are all remembered; of earlier ones, every second, fourth, eighth …"""


@dataclass(frozen=True, slots=True)
class KnownState:
    """A state of all streams that a segment holds."""

    id: str
    """First 16 digits of the SHA-256 of the state's JSON without blanks: the same text has the same id."""
    read_count: int
    """How many reads led to it. 0: it was set by hand, or its read did not report where it began."""
    segment_key: str
    """Key of a segment that holds the state's text."""


Lineage = tuple[KnownState, ...]
"""The states that a state descends from, oldest first, then the state itself. Empty: the beginning of the source."""


def compact_json(text: AnyStr) -> AnyStr:
    """A JSON text without blanks outside of its strings; every number keeps its spelling."""
    return msgspec.json.format(text, indent=-1)


def state_id(text: str) -> str:
    """The id of a state: part of the SHA-256 of its JSON without blanks, or of the text if that is not JSON."""
    with suppress(msgspec.DecodeError):
        text = compact_json(text)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _StateType(msgspec.Struct):
    type: str = "LEGACY"


_STATE_TYPE = msgspec.json.Decoder(_StateType)


def is_of_one_stream(state: str) -> bool:
    """Whether a state is surely one of a single stream (STREAM), from which no other stream ever continues."""
    try:
        return _STATE_TYPE.decode(state).type == "STREAM"
    except msgspec.DecodeError:
        return False


@dataclass(frozen=True, slots=True)
class Descent:
    """The position of a state among other states."""

    read_count: int = 0
    """How many reads led to it; 0 if unknown."""
    ancestors: Lineage = ()
    """Some of the states that it descends from, oldest first."""


def descent(text: str, origin: Lineage | None) -> Descent:
    """The descent of a state that a read has reached.

    If a source returns to one of its earlier states, the result is that state's descent again. A state remembers its
    oldest ancestor, which all streams had reached or which was set by hand, and its youngest ancestors. In between, it
    remembers fewer the further back they are. The choice depends only on read counts. So two states that descend from
    a third remember the same of its ancestors, and a thousand reads leave fewer than a hundred.

    Args:
        text: The state.
        origin: The lineage that the read began at; None if unknown.
    """
    if not origin:
        return Descent(0 if origin is None else 1)
    ids = [each.id for each in origin]
    if (known := state_id(text)) in ids:
        at = ids.index(known)
        return Descent(origin[at].read_count, origin[:at])
    read_count = origin[-1].read_count + 1
    youngest = (each for each in origin[1:] if each.read_count % _spacing(read_count - each.read_count) == 0)
    return Descent(read_count, (origin[0], *youngest))


def _spacing(reads: int) -> int:
    """The n for which one state in n is remembered, this many reads back."""
    return int(1 << ((reads - 1) // _KEPT_APART).bit_length())


def common_ancestors(lineages: Sequence[Lineage]) -> Iterator[KnownState]:
    """Yields the states that all lineages share, youngest first, once for each segment that holds the text."""
    shared = frozenset.intersection(*(frozenset(each.id for each in lineage) for lineage in lineages))
    for candidate in reversed(lineages[0]):
        if candidate.id in shared:
            yield from dict.fromkeys(each for lineage in lineages for each in lineage if each.id == candidate.id)


def up_to(state: KnownState, lineages: Iterable[Lineage]) -> Lineage:
    """The lineage of a state that occurs in one of these lineages."""
    within = next(each for each in lineages if state in each)
    return within[: within.index(state) + 1]
