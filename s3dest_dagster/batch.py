"""What a source gives to a landing: batches of records, and the states between them.

A batch holds 0.5 to 1 MB of records, either as the JSON text that the source wrote or as Arrow columns, but never a
Python object for each field. Frozen values.
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
"""Size that sources aim at: smaller batches pay the fixed cost more often, larger ones leave the processor's cache."""


@dataclass(frozen=True, slots=True)
class JsonBatch:
    """Records as the JSON texts that the source wrote."""

    raws: Sequence[bytes]
    """Each exactly one JSON object: valid JSON in valid UTF-8, without a raw line break or blanks around it."""
    emitted_at: NDArray[np.int64]
    """Milliseconds since 1970, one for each record."""
    nbytes: int
    """Length of all texts together."""

    @property
    def num_rows(self) -> int:
        return len(self.raws)


@dataclass(frozen=True, slots=True)
class ArrowBatch:
    """Records as Arrow columns, as the source gave them."""

    data: pa.RecordBatch
    emitted_at: NDArray[np.int64]
    """Milliseconds since 1970, one for each record."""

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
    """A line that should be a record and is not one."""

    stream: StreamId | None
    """None if the line does not say."""
    raw: bytes
    reason: str
    line_number: int | None = None
    """From 1, in the file or in what the source wrote; None if that has no lines."""
    file: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A STATE message. It covers every record that the source gave before it."""

    stream: StreamId | None
    """None for a state of all streams at once (GLOBAL or LEGACY)."""
    state: bytes
    """What the source gets back at its next read: the text of the message's `state` object."""
    message: bytes
    """The whole message as one line of JSON, to be echoed as it is."""


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
