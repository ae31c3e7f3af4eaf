"""String columns to date, time and timestamp columns: the ordinary forms by Arrow, the odd ones by the rules.

Arrow's own parsers take more than the rules do ("T03Z", the year 0, a date alone as a timestamp, years that an offset
moves beyond 9999) and less (separators, month names), and stop at the first text they refuse; so they only ever see
what a pattern lets through, and everything else is asked of `dates`. It must not know records or layouts.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3dest_dagster.columns.arrow_moments import beyond_range
from s3dest_dagster.columns.dates import FIRST_MICROS, LAST_MICROS, date_days, time_micros, timestamp_micros
from s3dest_dagster.columns.types import Scalar

_TIMESTAMP = pa.timestamp("us", "UTC")
_TIME = pa.time64("us")
_NONE = pa.scalar(None, pa.string())
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6}0{0,3})?)?"
_DAY = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_OFFSET = r"[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?"
_SAMPLE = 16
"""Texts that are tried before a cast of the whole column: a cast that fails costs its values."""
_COLON_AT, _SHORTEST = 13, 16
"""Where "2021-01-02T03:04" has its colon, and its length: shorter texts that Arrow takes are no date and time."""
_MICROS_PER_DAY = 86_400_000_000


def temporal_column(kind: Scalar, strings: pa.Array) -> pa.Array:
    """The values of a string column under a temporal kind, null where a text does not parse."""
    return {Scalar.DATE: _dates, Scalar.TIME: _times, Scalar.TIMESTAMP: _timestamps}[kind](strings)


def _timestamps(strings: pa.Array) -> pa.Array:
    for zone in (_TIMESTAMP, pa.timestamp("us")):
        if (stamps := _cast_whole(strings, zone)) is not None:
            return stamps
    fits = _matches(strings, rf"^{_DAY}[T ]{_CLOCK}(?:Z|{_OFFSET})?$")
    body = _with_six_digits(strings)
    zoned = pc.match_substring_regex(strings, r"(?:Z|[T ].*[+-]\d\d(?::?\d\d)?)$")
    if pc.any(pc.invert(zoned)).as_py():
        body = pc.if_else(zoned, body, pc.binary_join_element_wise(body, "Z", ""))
    stamps = _cast_fitting(body, fits, _TIMESTAMP)
    within = pc.if_else(beyond_range(stamps), pa.scalar(None, _TIMESTAMP), stamps)
    return _completed(within, strings, Scalar.TIMESTAMP)


def _cast_whole(strings: pa.Array, zone: pa.DataType) -> pa.Array | None:
    """The column by one cast, when all its texts have a zone (or none has one) and are dates and times; else None."""
    try:
        strings.slice(0, _SAMPLE).cast(zone)
        stamps = strings.cast(zone).cast(_TIMESTAMP)
    except pa.ArrowInvalid:
        return None
    texts = strings.drop_null()
    if not len(texts):
        return stamps
    starts = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts)]
    data = np.frombuffer(texts.buffers()[2], np.uint8)
    if pc.min(pc.binary_length(texts)).as_py() < _SHORTEST or (data[starts + _COLON_AT] != ord(":")).any():
        return None
    bounds = pc.min_max(stamps.cast(pa.int64())).as_py()
    # An offset reaches a day: what seems to be in the year 1 may be written in the year 0, which is none.
    return stamps if bounds["min"] >= FIRST_MICROS + _MICROS_PER_DAY and bounds["max"] <= LAST_MICROS else None


def _dates(strings: pa.Array) -> pa.Array:
    fits = _matches(strings, rf"^{_DAY}(?:T00:00:00(?:\.0{{1,9}})?Z?)?$")
    return _completed(_cast_fitting(pc.utf8_slice_codeunits(strings, 0, 10), fits, pa.date32()), strings, Scalar.DATE)


def _times(strings: pa.Array) -> pa.Array:
    body = pc.replace_substring_regex(strings, r"Z$", "")
    fits = _matches(body, rf"^{_CLOCK}$")
    clock = pc.binary_join_element_wise("1970-01-01T", _with_six_digits(body), "")
    times = pc.if_else(fits, clock, _NONE).cast(pa.timestamp("us")).cast(pa.int64()).cast(_TIME)
    return _completed(times, strings, Scalar.TIME)


def _completed(column: pa.Array, strings: pa.Array, kind: Scalar) -> pa.Array:
    """The column with the texts that Arrow was not asked about parsed by the rules, one by one."""
    if column.null_count == strings.null_count:
        return column
    parse = {Scalar.DATE: date_days, Scalar.TIME: time_micros, Scalar.TIMESTAMP: timestamp_micros}[kind]
    odd = pc.and_(column.is_null(), strings.is_valid())
    return pc.replace_with_mask(column, odd, pa.array(map(parse, strings.filter(odd).to_pylist()), column.type))


def _matches(strings: pa.Array, pattern: str) -> pa.Array:
    return pc.match_substring_regex(strings, pattern)


def _cast_fitting(strings: pa.Array, fits: pa.Array, target: pa.DataType) -> pa.Array:
    """The texts that fit, cast; when one of them is no day (30 February), those of days 1 to 28."""
    fits = pc.and_(fits, pc.invert(pc.starts_with(strings, "0000")))
    try:
        return pc.if_else(fits, strings, _NONE).cast(target)
    except pa.ArrowInvalid:
        every_month = pc.match_substring_regex(strings, r"^.{8}(?:[01]|2[0-8])")
        return pc.if_else(pc.and_(fits, every_month), strings, _NONE).cast(target)


def _with_six_digits(strings: pa.Array) -> pa.Array:
    """The texts without the zeros behind a sixth digit of the fraction, which Arrow refuses."""
    if not pc.any(pc.match_substring_regex(strings, r"\.\d{7}")).as_py():
        return strings
    return pc.replace_substring_regex(strings, r"(\.\d{6})0+(Z|[+-]|$)", r"\1\2")
