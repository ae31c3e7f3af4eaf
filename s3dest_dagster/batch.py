"""What travels from a source to a landing: batches of records, and the states between them.

A batch holds 0.5 to 1 MB of records, either as the JSON text that the source wrote or as Arrow columns; never a Python
object per field. Plain values; it knows no other room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from s3dest_dagster.stream import StreamId

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET_BATCH_BYTES = 1 << 20
"""Sources aim at batches of this many bytes: less pays the fixed cost per batch, more leaves the processor's cache."""


@dataclass(frozen=True, slots=True)
class JsonBatch:
    """Records as the JSON texts that the source wrote.

    Each of `raws` is a bytes-like of exactly one JSON object: valid JSON, valid UTF-8, no raw line break, no blanks
    around it. `emitted_at` is int64, milliseconds since 1970, one per record. `nbytes` is the sum of their lengths.
    """

    raws: Sequence[bytes]
    emitted_at: NDArray[np.int64]
    nbytes: int

    @property
    def num_rows(self) -> int:
        return len(self.raws)


@dataclass(frozen=True, slots=True)
class ArrowBatch:
    """Records as Arrow columns, as the source made them. `emitted_at` as in `JsonBatch`."""

    data: pa.RecordBatch
    emitted_at: NDArray[np.int64]

    @property
    def num_rows(self) -> int:
        return int(self.data.num_rows)

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)


Batch = JsonBatch | ArrowBatch


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """A batch and the stream it belongs to, from a source that has several."""

    stream: StreamId
    batch: Batch


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A line that is no record at all: its bytes and the reason. `stream` None where the line does not tell;
    `line_number` is counted from 1 over what the source wrote, or over `file` where it stands in one; None where it has
    no lines."""

    stream: StreamId | None
    raw: bytes
    reason: str
    line_number: int | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A STATE message. It covers every record that the source gave out before it.

    `message` is the whole message as one line of JSON, to be echoed as it is. `stream` None means a state of all
    streams at once (GLOBAL or LEGACY). `state` is what the source gets back at its next read: the text of the
    message's `state` object.
    """

    stream: StreamId | None
    state: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A stream status TRACE: STARTED, RUNNING, COMPLETE or INCOMPLETE."""

    stream: StreamId
    status: str


SourceItem = StreamBatch | BadRecord | State | StreamStatus


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened to values on their way into their columns: how many, by original field name (nested: dotted path).

    Names beyond `MAX_NAMES` are counted under "…". A flattened CSV without an overflow column has only `coerced`.
    """

    coerced: Mapping[str, int] = field(default_factory=dict)
    """Values that were landed in another, equal spelling ("12" as 12)."""
    overflowed: Mapping[str, int] = field(default_factory=dict)
    """Values of declared fields that went to the overflow column: they did not fit, or the name came again."""
    undeclared: Mapping[str, int] = field(default_factory=dict)
    """Values of undeclared fields that went to the overflow column."""

    MAX_NAMES = 100
    OTHERS = "…"

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            _added(self.coerced, other.coerced),
            _added(self.overflowed, other.overflowed),
            _added(self.undeclared, other.undeclared),
        )

    def __bool__(self) -> bool:
        return bool(self.coerced or self.overflowed or self.undeclared)


def _added(left: Mapping[str, int], right: Mapping[str, int]) -> Mapping[str, int]:
    """Sums by name; keeps the number of names bounded."""
    if not right:
        return left
    total = dict(left)
    for name, count in right.items():
        key = name if name in total or len(total) < Tally.MAX_NAMES else Tally.OTHERS
        total[key] = total.get(key, 0) + count
    return total
