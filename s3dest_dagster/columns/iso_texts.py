"""The ISO 8601 texts of Arrow's dates, times and timestamps, put together from digits for a whole column.

Arrow's own cast to text costs ten times as much for a timestamp with a zone. Must not know: JSON, kinds, fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_types import integers
from s3dest_dagster.columns.binary_columns import binary_array, content

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Texts = NDArray[np.bytes_]
    """Texts of the same width."""

FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31, in days since 1970."""
_DAY_S = 86_400
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_INT64_MAX = 2**63 - 1
_TWO_DIGITS = np.array([b"%02d" % number for number in range(100)])
_THREE_DIGITS = np.array([b"%03d" % number for number in range(1_000)])
_DATE = "S10"


def beyond_range(column: pa.Array) -> pa.Array:
    """True for dates, times and timestamps without an ISO 8601 text: outside the years 1 to 9999, or outside a day.

    False for nulls.
    """
    first, last = _bounds(column.type)
    stored = integers(column)
    low, high = pa.scalar(max(first, -_INT64_MAX - 1), pa.int64()), pa.scalar(min(last, _INT64_MAX), pa.int64())
    return pc.fill_null(pc.or_(pc.less(stored, low), pc.greater(stored, high)), False)


def iso_texts(column: pa.Array) -> pa.Array:
    """The ISO 8601 texts of dates, times or timestamps that are all within range, as binary. A null has any text.

    Timestamps with a zone are in UTC with "Z"; those without one have none. Seconds have no digits after the point if
    these are all zero, else six, or nine for nanoseconds, as in the texts of Python's values. A date64 that is not at
    midnight becomes a date and time.
    """
    numbers: Integers = pc.fill_null(integers(column), 0).to_numpy()
    if pt.is_date32(column.type):
        return _joined([_dates(numbers)])
    if pt.is_time(column.type):
        return _with_fractions([], numbers, column.type.unit, b"")
    unit = "ms" if pt.is_date64(column.type) else column.type.unit
    day = _DAY_S * _PER_SECOND[unit]
    days = numbers // day
    dates, numbers = _dates(days), numbers - days * day
    if pt.is_date64(column.type) and not numbers.any():
        return _joined([dates])
    zone = b"Z" if pt.is_timestamp(column.type) and column.type.tz is not None else b""
    moments = _with_fractions([dates, b"T"], numbers, unit, zone)
    return pc.if_else(pa.array(numbers == 0), _joined([dates]), moments) if pt.is_date64(column.type) else moments


def _with_fractions(before: Sequence[Texts | bytes], numbers: Integers, unit: str, after: bytes) -> pa.Array:
    """Times of a day with the fewest groups of digits that hold them, between other texts."""
    seconds = numbers // _PER_SECOND[unit]
    fractions = numbers - seconds * _PER_SECOND[unit]
    minutes = seconds // 60
    hours = minutes // 60
    clock = [_TWO_DIGITS[hours], b":", _TWO_DIGITS[minutes - 60 * hours], b":", _TWO_DIGITS[seconds - 60 * minutes]]
    head = [*before, *clock]
    whole = fractions == 0
    if whole.all():
        return _joined([*head, after])
    micros = fractions // 1_000 if unit == "ns" else fractions * (_PER_SECOND["us"] // _PER_SECOND[unit])
    millis = micros // 1_000
    head += [b".", _THREE_DIGITS[millis], _THREE_DIGITS[micros - 1_000 * millis]]
    texts = _joined([*head, after])
    if unit == "ns" and (nanos := fractions - 1_000 * micros).any():
        texts = pc.if_else(pa.array(nanos == 0), texts, _joined([*head, _THREE_DIGITS[nanos], after]))
    if not whole.any():
        return texts
    return pc.if_else(pa.array(whole), _joined([*before, *clock, after]), texts)


def _dates(days: Integers) -> Texts:
    """The texts of dates. If there are fewer days than values, the text of each day is made once."""
    first, last = (int(days.min()), int(days.max())) if len(days) else (0, 0)
    if last - first < len(days):
        return _spelled(np.arange(first, last + 1))[days - first]
    return _spelled(days)


def _spelled(days: Integers) -> Texts:
    texts = pa.array(days.astype(np.int32)).cast(pa.date32()).cast(pa.string()).cast(pa.binary())
    return np.frombuffer(content(texts), _DATE)


def _joined(parts: Sequence[Texts | bytes]) -> pa.Array:
    """Texts of the same width and constants, joined for each row."""
    named = {f"{number}": part for number, part in enumerate(parts) if not isinstance(part, bytes) or part}
    widths = [(name, f"S{len(part)}" if isinstance(part, bytes) else part.dtype) for name, part in named.items()]
    rows = next(len(part) for part in parts if not isinstance(part, bytes))
    whole = np.empty(rows, widths)
    for name, part in named.items():
        whole[name] = part
    return binary_array(np.arange(rows + 1) * whole.itemsize, pa.py_buffer(whole))


def _bounds(type_: pa.DataType) -> tuple[int, int]:
    """The first and the last stored integer within range."""
    if pt.is_date32(type_):
        return FIRST_DAY, LAST_DAY
    per_day = _DAY_S * _PER_SECOND["ms" if pt.is_date64(type_) else type_.unit]
    if pt.is_time(type_):
        return 0, per_day - 1
    return FIRST_DAY * per_day, (LAST_DAY + 1) * per_day - 1
