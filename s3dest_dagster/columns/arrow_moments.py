"""Arrow's dates, times and timestamps as ISO 8601 texts, and which of them have none.

Arrow stores any integer and prints a wrong year, or a remark, where it cannot print it; so the range is asked first.
It must not know JSON, kinds or fields.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31, in days since 1970."""
_DAY_S = 86_400
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_INT64_MAX = 2**63 - 1


def is_moment(type_: pa.DataType) -> bool:
    """Whether values are dates, times or timestamps."""
    return bool(pt.is_date(type_) or pt.is_time(type_) or pt.is_timestamp(type_))


def beyond_range(column: pa.Array) -> pa.Array:
    """Which moments have no ISO 8601 text: outside the years 1 to 9999, or a time outside of a day. False for nulls."""
    first, last = _bounds(column.type)
    stored = integers(column)
    low, high = pa.scalar(max(first, -_INT64_MAX - 1), pa.int64()), pa.scalar(min(last, _INT64_MAX), pa.int64())
    return pc.fill_null(pc.or_(pc.less(stored, low), pc.greater(stored, high)), False)


def integers(column: pa.Array) -> pa.Array:
    """The integers that stand for the moments, as int64, in the type's own unit."""
    if pt.is_date32(column.type) or pt.is_time32(column.type):
        column = column.cast(pa.int32())
    return column.cast(pa.int64())


def iso_texts(column: pa.Array) -> pa.Array:
    """The texts of moments that are all within range: timestamps with a zone in UTC with "Z", those without without.

    A date64 that is not at midnight is written as the date and time that it is.
    """
    if pt.is_date64(column.type):
        return _texts_of_date64(column)
    if not pt.is_timestamp(column.type):
        return column.cast(pa.string())
    utc = column if column.type.tz is None else column.cast(pa.timestamp(column.type.unit, "UTC"))
    return pc.replace_substring(utc.cast(pa.string()), " ", "T")


def _texts_of_date64(column: pa.Array) -> pa.Array:
    stamps = column.cast(pa.int64()).cast(pa.timestamp("ms"))
    days = stamps.cast(pa.date32(), safe=False)
    return pc.if_else(pc.equal(days.cast(stamps.type), stamps), days.cast(pa.string()), iso_texts(stamps))


def _bounds(type_: pa.DataType) -> tuple[int, int]:
    """The first and the last integer that is within range."""
    if pt.is_date32(type_):
        return _FIRST_DAY, _LAST_DAY
    per_day = _DAY_S * _PER_SECOND["ms" if pt.is_date64(type_) else type_.unit]
    if pt.is_time(type_):
        return 0, per_day - 1
    return _FIRST_DAY * per_day, (_LAST_DAY + 1) * per_day - 1
