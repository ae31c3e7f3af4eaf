"""Python records as JSON texts, exact or refused: nothing becomes null or text because JSON has no word for it.

It knows Python values and JSON; it must not know batches or where the records come from.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from s3dest_dagster.errors import RecordError

_NOT_A_NUMBER = "it is not a finite number, which JSON has no word for. Use None for a missing value"
_NOT_A_TIME = "it is NaT, which JSON has no word for. Use None for a missing value"
_HINT = "Give each record as a mapping, a dataclass or a msgspec Struct"


def encode_records(records: Sequence[Any], first_number: int) -> list[bytes]:
    """One JSON object per record, in one call.

    Integers of any size and Decimals are written exactly, as numbers; instants, dates, times, UUIDs, enums and bytes
    (base64) as texts; numpy's scalars and arrays as what they hold. Raises RecordError, with the record's number
    (`first_number` for the first) and the field, for NaN, infinities and whatever else JSON cannot hold.
    """
    try:
        texts = _encoder.encode_lines(records)
    except Exception as error:
        raise _refusal(records, first_number, error) from None
    if _may_hide_a_non_finite_number(texts, records) and (found := _first_trouble(records)) is not None:
        raise _record_error(first_number + found[0], found[1], found[2])
    raws = texts.split(b"\n")
    raws.pop()
    # Only ready-made JSON inside a record (msgspec.Raw) can hold a line break.
    return raws if len(raws) == len(records) else [_one_line(record) for record in records]


def as_record(value: Any, number: int) -> Any:
    """The value as something that encodes to a JSON object; RecordError when it is no record."""
    if isinstance(value, dict) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return value
    if isinstance(value, msgspec.Struct) and not value.__struct_config__.array_like:
        return value
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return value.model_dump()
    if hasattr(value, "keys") and not isinstance(value, type):  # a mapping, or a database's row
        return dict(value)
    kind = type(value).__name__
    if isinstance(value, tuple):
        raise RecordError(
            f"Record {number:,} is a {kind}, whose fields have no names. {_HINT} (`dict(zip(names, row))`)."
        )
    raise RecordError(f"Record {number:,} is a {kind}. {_HINT}, or Arrow data.")


def is_single_record(value: Any) -> bool:
    """Whether the value is one record, rather than many of them."""
    if isinstance(value, type):
        return False
    return (
        isinstance(value, Mapping | msgspec.Struct) or dataclasses.is_dataclass(value) or hasattr(value, "model_dump")
    )


def _replacement(value: Any) -> Any:
    """What stands for a value that msgspec does not know; TypeError when nothing does."""
    if isinstance(value, np.ndarray):
        return list(value)
    if isinstance(value, np.datetime64 | datetime) and value != value:
        raise ValueError(_NOT_A_TIME)
    for kind, spelled in _SPELLED.items():
        if isinstance(value, kind):
            return spelled(value)
    if isinstance(value, np.timedelta64):  # its `item` is a bare number for some units
        raise TypeError("a numpy.timedelta64 has no place in JSON. Use datetime.timedelta")
    if isinstance(value, np.generic) and not isinstance(item := value.item(), np.generic):
        return _replacement(item) if isinstance(item, float) else item
    if hasattr(value, "model_dump"):
        return value.model_dump()
    raise TypeError(f"a {type(value).__name__} has no place in JSON")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(_NOT_A_NUMBER)
    return float(value)


# Subclasses too (msgspec takes the exact types only); a text keeps the nanoseconds that numpy and pandas may hold.
_SPELLED: dict[type, Callable[[Any], Any]] = {
    np.datetime64: str,
    datetime: lambda value: value.isoformat(),
    date: lambda value: value.isoformat(),
    time: lambda value: value.isoformat(),
    str: str,
    int: int,
    float: _finite,
    Mapping: dict,
}

_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_replacement)
_NON_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
_binary_encoder = msgspec.msgpack.Encoder(enc_hook=_replacement)


def _may_hide_a_non_finite_number(texts: bytes, records: Sequence[Any]) -> bool:
    """Whether a null may have been a float, or a Decimal that is no number was written; rarely true by mistake.

    In MessagePack a non-finite float begins with bytes that stand nowhere in text and hardly ever in other numbers, so
    that records with nulls, which are common, need no look at each value.
    """
    if b"NaN" in texts or b"Infinity" in texts:
        return True
    if b"null" not in texts:
        return False
    try:
        packed = _binary_encoder.encode(records)
    except (OverflowError, TypeError, ValueError):  # as it does for an integer of more than 64 bits
        return True
    return _NON_FINITE.search(packed) is not None


def _one_line(record: Any) -> bytes:
    return msgspec.json.format(_encoder.encode(record), indent=-1)


def _refusal(records: Sequence[Any], first_number: int, error: Exception) -> RecordError:
    if (found := _first_trouble(records)) is not None:
        return _record_error(first_number + found[0], found[1], found[2])
    return RecordError(f"Records from {first_number:,} on cannot be written as JSON: {error}.")


def _record_error(number: int, path: str, reason: str) -> RecordError:
    return RecordError(f"Record {number:,}, field {path}: {reason}.")


def _first_trouble(records: Sequence[Any]) -> tuple[int, str, str] | None:
    """Index, field and reason of the first value that cannot be written."""
    for index, record in enumerate(records):
        try:
            found = _trouble(record, "")
        except RecursionError:
            found = ("(any)", "the record is nested too deeply, or contains itself")
        if found is not None:
            return index, *found
    return None


def _trouble(value: Any, path: str) -> tuple[str, str] | None:
    """Path and reason of the first value within that cannot be written."""
    children = _children(value)
    if children is None:
        reason = _leaf_trouble(value)
        return None if reason is None else (path or "(the whole record)", reason)
    for name, child in children:
        inner = f"{path}{name}" if name.startswith("[") or not path else f"{path}.{name}"
        if (found := _trouble(child, inner)) is not None:
            return found
    # The children are well; what is wrong must be a key.
    reason = None if not isinstance(value, Mapping) else _leaf_trouble(dict.fromkeys(value, 0))
    return None if reason is None else (path or "(the whole record)", f"one of its names cannot be written: {reason}")


def _children(value: Any) -> Iterator[tuple[str, Any]] | None:
    """What stands within a value, by name; None for a leaf."""
    if hasattr(value, "model_dump") and not isinstance(value, type):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return ((str(key), child) for key, child in value.items())
    if isinstance(value, msgspec.Struct):
        return ((name, getattr(value, name)) for name in value.__struct_fields__)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value))
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return ((f"[{index}]", child) for index, child in enumerate(value))
    return None


def _leaf_trouble(value: Any) -> str | None:
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
