"""Records that Python code made, as batches: mappings and the like, Arrow data of any library, and mixtures.

It knows values; it must not know streams, connectors or Dagster.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from inspect import iscoroutine
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from s3dest_dagster.batch import TARGET_BATCH_BYTES, ArrowBatch, Batch, JsonBatch
from s3dest_dagster.errors import RecordError

_MOST_RECORDS = 256
"""Records encoded in one call: enough that the call costs nothing, few enough that large records do not pile up."""


def batches(records: Any, *, emitted_at: Callable[[], int]) -> Iterator[Batch]:
    """Yield the records as batches, never holding more than a batch of them.

    `records` is an iterable of records (mappings, dataclasses, msgspec Structs, pydantic models), of lists of records
    (pages), of Arrow data (pyarrow, or whatever has `__arrow_c_stream__` or `__arrow_c_array__`), or of all of these;
    or one record; or Arrow data; or None for nothing. JSON batches have about 1 MB, Arrow batches about 4 MB.
    `emitted_at` gives milliseconds since 1970, and is asked once per batch.

    Raises RecordError, with the record's number counted from 1, for what is no record or holds what JSON cannot.
    """
    pending = _Pending(emitted_at)
    for element in _elements(records):
        for record in element if type(element) is list else (element,):
            if type(record) is dict:
                if pending.add(record):
                    yield pending.taken()
            elif is_arrow(record):
                yield from pending.flushed()
                yield from arrow_batches(record, emitted_at=emitted_at)
            elif pending.add(as_record(record, pending.next_number)):
                yield pending.taken()
    yield from pending.flushed()


class _Pending:
    """Records on their way into a batch: a few not yet encoded, and the texts of the others."""

    def __init__(self, emitted_at: Callable[[], int]) -> None:
        self._emitted_at = emitted_at
        self._records: list[Any] = []
        self._at_once = 1
        self._encoded = 0
        self._raws: list[bytes] = []
        self._nbytes = 0

    @property
    def next_number(self) -> int:
        return self._encoded + len(self._records) + 1

    def add(self, record: Any) -> bool:
        """Take a record; whether a batch is full."""
        self._records.append(record)
        if len(self._records) < self._at_once:
            return False
        self._encode()
        return self._nbytes >= TARGET_BATCH_BYTES

    def flushed(self) -> Iterator[JsonBatch]:
        """The batch of what is left, if anything is."""
        if self._records:
            self._encode()
        if self._raws:
            yield self.taken()

    def taken(self) -> JsonBatch:
        emitted_at = np.full(len(self._raws), self._emitted_at(), np.int64)
        batch = JsonBatch(self._raws, emitted_at, self._nbytes)
        self._raws, self._nbytes = [], 0
        return batch

    def _encode(self) -> None:
        raws = encode_records(self._records, self._encoded + 1)
        nbytes = sum(map(len, raws))
        self._raws += raws
        self._nbytes += nbytes
        self._encoded += len(raws)
        self._records = []
        # Records grow or shrink on the way; at most four times as many as the last time keeps surprises small.
        fitting = TARGET_BATCH_BYTES * len(raws) // nbytes
        self._at_once = max(1, min(fitting, 4 * len(raws), _MOST_RECORDS))


def _elements(records: Any) -> Iterator[Any]:
    """What to look at one by one."""
    if records is None:
        return iter(())
    if is_arrow(records) or is_single_record(records):
        return iter((records,))
    if isinstance(records, AsyncIterable) or iscoroutine(records):
        raise RecordError("Records that come asynchronously are not read. Collect them, or give a plain generator.")
    if isinstance(records, Iterable) and not isinstance(records, str | bytes | bytearray | memoryview):
        return iter(records)
    raise RecordError(
        f"A value of type {type(records).__name__} holds no records. Give an iterable of mappings, or Arrow data."
    )


ARROW_BATCH_BYTES = 4 << 20
"""Arrow columns are sliced to about this size: larger than JSON, since nothing of them is parsed."""


def is_arrow(data: object) -> bool:
    """Whether the object offers Arrow data: pyarrow, polars, pandas from 2.2, a DuckDB relation, ADBC, …"""
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


def arrow_batches(data: Any, *, emitted_at: Callable[[], int]) -> Iterator[ArrowBatch]:
    """Yield the rows as slices of about 4 MB, without copying and without reading ahead; empty data yields nothing.

    Text and binary columns in Arrow's view layouts become their plain kin, which every reader knows; all other types
    stay, and so does a dictionary of such texts within a list or struct. Raises RecordError for a single column.
    """
    for record_batch in _record_batches(data):
        plain = _without_views(record_batch)
        rows = max(1, plain.num_rows * ARROW_BATCH_BYTES // max(1, plain.nbytes))
        for start in range(0, plain.num_rows, rows):
            piece = plain.slice(start, rows)
            yield ArrowBatch(piece, np.full(piece.num_rows, emitted_at(), np.int64))


def _record_batches(data: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(data, pa.RecordBatch):
        return iter([data])
    try:
        if hasattr(data, "__arrow_c_stream__"):
            return iter(pa.RecordBatchReader.from_stream(data))
        return iter([pa.record_batch(data)])
    except (pa.ArrowInvalid, TypeError) as error:
        raise RecordError(
            f"{type(data).__name__} is Arrow data, but no table: {error}. Give a table or record batches."
        ) from None


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [_without_view(column) for column in batch.columns]
    fields = [each.with_type(column.type) for each, column in zip(batch.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, batch.schema.metadata))


def _without_view(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type) and _plain(column.type.value_type) != column.type.value_type:
        # Arrow cannot cast these as a whole.
        return pa.DictionaryArray.from_arrays(column.indices, _without_view(column.dictionary))
    plain = _plain(column.type)
    return column if plain.equals(column.type) else column.cast(plain)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with large_string for string_view and large_binary for binary_view, at any depth."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(_plain(each.type)) for each in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), kind.item_field.with_type(_plain(kind.item_type)), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_values(kind), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_values(kind))
    return pa.list_(_plain_values(kind)) if pa.types.is_list(kind) else kind


def _plain_values(kind: pa.DataType) -> pa.Field:
    return kind.value_field.with_type(_plain(kind.value_type))


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
