"""Writes Python values as JSON, exactly, or refuses them: no value becomes null or text because JSON cannot express it.

Must not know: streams, batches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from s3dest_dagster.errors import RecordError
from s3dest_dagster.sources.nested_values import children_of, is_missing, microseconds, with_microseconds

_NOT_A_NUMBER = "it is not a finite number, which JSON has no word for. Use None for a missing value"


def encode_records(records: Sequence[Any], first_number: int) -> list[bytes]:
    """Encodes the records in one call. Returns one JSON object per record.

    Integers of any size and Decimals are written exactly, as numbers; instants, dates, times, UUIDs, pandas' Periods,
    enums and bytes (base64) as texts; a timedelta as its microseconds; numpy scalars and arrays as the values that they
    hold; NaT and pandas' NA as null. Raises RecordError, with
    the record's number (`first_number` for the first) and the field, for NaN, infinities and whatever else JSON cannot
    hold.
    """
    try:
        texts = _encoder.encode_lines(records)
    except Exception as error:
        raise _find_error(records, first_number) or RecordError(
            f"Records from {first_number:,} on cannot be written as JSON: {error}."
        ) from None
    if _may_hide_a_non_finite_number(texts, records) and (refusal := _find_error(records, first_number)) is not None:
        raise refusal
    if _may_have_duration(texts):
        records = [with_microseconds(record) for record in records]
        texts = _encoder.encode_lines(records)
    raws = texts.split(b"\n")
    raws.pop()
    if len(raws) == len(records):
        return raws
    # Only pre-encoded JSON within a record (msgspec.Raw) can contain a line break.
    return [msgspec.json.format(_encoder.encode(record), indent=-1) for record in records]


def _convert(value: Any) -> Any:
    """Converts a value that msgspec does not know to one that it can encode. Raises TypeError if there is none."""
    if isinstance(value, np.ndarray):
        return list(value)
    if is_missing(value):
        return None
    for kind, convert in _CONVERSIONS.items():
        if isinstance(value, kind):
            return convert(value)
    if _is_period(value):
        return str(value)
    if isinstance(value, np.float32 | np.float16):
        return _finite(float(str(np.float32(value))))  # the shortest text, as in Arrow
    if isinstance(value, np.generic) and not isinstance(item := value.item(), np.generic):
        return _convert(item) if isinstance(item, float) else item
    if hasattr(value, "model_dump"):
        return value.model_dump()
    raise TypeError(f"a {type(value).__name__} has no place in JSON")


def _is_period(value: Any) -> bool:
    """Whether the value is a Period of pandas, which need not be installed."""
    return type(value).__name__ == "Period" and type(value).__module__.partition(".")[0] == "pandas"


def encoded(value: Any) -> bytes:
    """The JSON text of a value. Raises what the encoder raises."""
    return _encoder.encode(value)


def _may_have_duration(texts: bytes) -> bool:
    """Whether a text may be that of a `timedelta`."""
    return (b'"P' in texts or b'"-P' in texts) and _MAY_BE_DURATION.search(texts) is not None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(_NOT_A_NUMBER)
    return float(value)


def _text_of_datetime64(value: np.datetime64) -> str:
    """The text with no digits after the point, or six, or nine, as moments of Python and pandas have it."""
    unit = np.datetime_data(value.dtype)[0]
    if unit in ("h", "m"):
        return str(value.astype("datetime64[s]"))
    if unit in ("ms", "us"):
        return str(value.astype("datetime64[us]")).removesuffix(".000000")
    return str(value).removesuffix("000").removesuffix(".000000") if unit == "ns" else str(value)


def _count_of(value: np.timedelta64) -> int:
    """The count of the unit, which is at most a second."""
    unit = np.datetime_data(value.dtype)[0]
    if unit in ("Y", "M", "generic"):
        raise TypeError(f"a numpy.timedelta64 in {unit!r} has no fixed length. Use days, or a smaller unit")
    is_longer = unit in ("W", "D", "h", "m")
    return int((value.astype("timedelta64[s]") if is_longer else value).astype(np.int64))


def _count_of_timedelta(value: timedelta) -> int:
    """The microseconds; the count of its own unit for a Timedelta of pandas."""
    to_numpy = getattr(value, "to_timedelta64", None)
    return microseconds(value) if to_numpy is None else _count_of(to_numpy())


# For subclasses, since msgspec accepts only the exact types. A text keeps the nanoseconds of numpy and pandas.
_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    np.datetime64: _text_of_datetime64,
    np.timedelta64: _count_of,
    timedelta: _count_of_timedelta,
    datetime: lambda value: value.isoformat(),
    date: lambda value: value.isoformat(),
    time: lambda value: value.isoformat(),
    str: str,
    int: int,
    float: _finite,
    Mapping: dict,
}

_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_convert)
_MAY_BE_DURATION = re.compile(rb'"-?P(?:[0-9]+D)?(?:T[0-9.]+S)?"')
"""The text that msgspec gives a `timedelta`."""
_NON_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
_binary_encoder = msgspec.msgpack.Encoder(enc_hook=_convert)


def _may_hide_a_non_finite_number(texts: bytes, records: Sequence[Any]) -> bool:
    """Whether a null may have been a non-finite float, or a non-finite Decimal was written. False positives are rare.

    msgspec writes a non-finite float as null. In MessagePack such a float begins with bytes that never occur in a text
    and hardly ever in other numbers, so records with nulls, which are common, do not need a check of every value.
    """
    if b"NaN" in texts or b"Infinity" in texts:
        return True
    if b"null" not in texts:
        return False
    try:
        packed = _binary_encoder.encode(records)
    except (OverflowError, TypeError, ValueError):  # for instance for an integer of more than 64 bits
        return True
    return _NON_FINITE.search(packed) is not None


def _find_error(records: Sequence[Any], first_number: int) -> RecordError | None:
    """The error for the first value that cannot be written. None if all values can be written."""
    for number, record in enumerate(records, first_number):
        try:
            found = _find_unwritable(record, "")
        except RecursionError:
            found = ("(any)", "the record is nested too deeply, or contains itself")
        if found is not None:
            return RecordError(f"Record {number:,}, field {found[0]}: {found[1]}.")
    return None


def _find_unwritable(value: Any, path: str) -> tuple[str, str] | None:
    """The path of the first nested value that cannot be written, and the reason."""
    children = children_of(value)
    if children is None:
        reason = _why_unwritable(value)
        return None if reason is None else (path or "(the whole record)", reason)
    for name, child in children:
        inner = f"{path}{name}" if name.startswith("[") or not path else f"{path}.{name}"
        if (found := _find_unwritable(child, inner)) is not None:
            return found
    # All values can be written, so only a key can be wrong.
    reason = None if not isinstance(value, Mapping) else _why_unwritable(dict.fromkeys(value, 0))
    return None if reason is None else (path or "(the whole record)", f"one of its names cannot be written: {reason}")


def _why_unwritable(value: Any) -> str | None:
    """Why a value without nested values cannot be written. None if it can be written."""
    if isinstance(value, float) and not math.isfinite(value):
        return _NOT_A_NUMBER
    if isinstance(value, Decimal) and not value.is_finite():
        return _NOT_A_NUMBER
    try:
        _encoder.encode(value)
    except UnicodeEncodeError:
        return "the text has half of a surrogate pair, which UTF-8 cannot hold"
    except Exception as error:
        return str(error)
    return None
