"""Turns the records of Python code into batches: Python values, Arrow data from any library, and mixtures of them.

Must not know: streams, connectors, Dagster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from inspect import iscoroutine
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from s3dest_dagster.batch import TARGET_BATCH_BYTES, ArrowBatch, BadRecord, Batch, FiniteRecord, JsonBatch
from s3dest_dagster.columns.arrow_extensions import by_meaning
from s3dest_dagster.columns.non_finite import field_of, finite_text
from s3dest_dagster.errors import RecordError
from s3dest_dagster.sources.nested_values import with_words
from s3dest_dagster.sources.record_encoding import encode_records, encoded
from s3dest_dagster.sources.value_types import CollectedTypes, types_of

_MAX_RECORDS_PER_CALL = 256
"""Records encoded in one call: enough that the cost of the call hardly matters, few enough that large records do not
pile up."""


_ALL_EXAMINED = 1024
"""So many records are all searched for dates, decimals and so on, which determine the types of a stream without a
schema. Of later records, a sample is enough to find further fields."""
_EXAMINED_EVERY = 16
_EXAMINED_AT_ONCE = 128
"""The first records are examined together, so that a text before a date of the same field is noticed."""


def batches(records: Any, *, emitted_at: Callable[[], int]) -> Iterator[Batch]:
    """Yields the records as batches. Never holds more than one batch of them.

    Args:
        records: An iterable of records (mappings, dataclasses, msgspec Structs, pydantic models), of lists of records
            (pages), of Arrow data (pyarrow, or any object with `__arrow_c_stream__` or `__arrow_c_array__`), or of a
            mixture of these; or one record; or Arrow data; or None for no records.
        emitted_at: Returns milliseconds since 1970. It is called once per batch.

    Returns:
        JSON batches of about 1 MB, and Arrow batches of about 4 MB.

    Raises:
        RecordError: for a value that is not a record, or that JSON cannot hold. The error names the number of the
            record, counted from 1.

    Example:
        for batch in batches([{"id": 1}, {"id": 2}], emitted_at=lambda: int(time.time() * 1000)):
            print(batch.num_rows)
    """
    for item in batches_and_bad_records(records, emitted_at=emitted_at):
        if isinstance(item, BadRecord):
            raise RecordError(f"{item.reason}.")
        yield item


def batches_and_bad_records(records: Any, *, emitted_at: Callable[[], int]) -> Iterator[Batch | BadRecord]:
    """Yields the records as `batches` does, and those with NaN or infinite numbers as bad records, not as errors.

    Numbers in Arrow data may be NaN or infinite.
    """
    builder = _BatchBuilder(emitted_at)
    for element in _elements(records):
        for record in element if type(element) is list else (element,):
            if type(record) is dict:
                if builder.add(record):
                    yield from builder.flush()
            elif is_arrow(record):
                yield from builder.flush()
                yield from arrow_batches(record, emitted_at=emitted_at)
            elif builder.add(as_record(record, builder.next_number)):
                yield from builder.flush()
    yield from builder.flush()


def _elements(records: Any) -> Iterator[Any]:
    """Yields the elements of `records`, to be examined one by one."""
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


class _BatchBuilder:
    """Collects records into a JSON batch. The newest records are encoded together once there are enough of them."""

    def __init__(self, emitted_at: Callable[[], int]) -> None:
        self._emitted_at = emitted_at
        self._records: list[Any] = []
        self._records_per_call = 1
        self._encoded = 0
        self._raws: list[bytes] = []
        self._bad: list[BadRecord] = []
        self._nbytes = 0
        self._types = CollectedTypes()
        self._examined: list[Any] = []

    @property
    def next_number(self) -> int:
        return self._encoded + len(self._records) + 1

    def add(self, record: Any) -> bool:
        """Adds a record. Returns whether the batch is full."""
        self._records.append(record)
        if len(self._records) < self._records_per_call:
            return False
        self._encode()
        return self._nbytes >= TARGET_BATCH_BYTES or bool(self._bad)

    def flush(self) -> Iterator[JsonBatch | BadRecord]:
        """Yields the records as a batch, if there are any, and the bad records among them."""
        if self._records:
            self._encode()
        if self._raws:
            yield self._build()
        bad, self._bad = self._bad, []
        yield from bad

    def _build(self) -> JsonBatch:
        """The batch of all encoded records; the next batch starts empty."""
        emitted_at = np.full(len(self._raws), self._emitted_at(), np.int64)
        self._collect_types()
        batch = JsonBatch(self._raws, emitted_at, self._nbytes, self._types.pop())
        self._raws, self._nbytes = [], 0
        return batch

    def _encode(self) -> None:
        try:
            raws = encode_records(self._records, self._encoded + 1)
        except RecordError:
            raws = self._encode_one_by_one()
        is_sample = self._encoded >= _ALL_EXAMINED and not self._types.needs_all
        examined = self._records[::_EXAMINED_EVERY] if is_sample else self._records
        self._examined += examined
        if len(self._examined) >= _EXAMINED_AT_ONCE:
            self._collect_types()
        nbytes = sum(map(len, raws))
        self._raws += raws
        self._nbytes += nbytes
        count = len(self._records)
        self._encoded += count
        self._records = []
        # Record sizes vary. Encoding at most four times as many as last time limits the risk.
        fitting = TARGET_BATCH_BYTES * count // max(nbytes, 1)
        self._records_per_call = max(1, min(fitting, 4 * count, _MAX_RECORDS_PER_CALL))

    def _collect_types(self) -> None:
        self._types.add(self._examined)
        self._examined = []

    def _encode_one_by_one(self) -> list[bytes]:
        """The texts of the records without NaN and infinite numbers. The others become bad records."""
        raws: list[bytes] = []
        for number, record in enumerate(self._records, self._encoded + 1):
            try:
                raws += encode_records([record], number)
            except RecordError as error:
                bad = _non_finite_record(record, error, self._emitted_at)
                if bad is None:
                    raise
                self._bad.append(bad)
        return raws


# ---------------------------------------------------------------------- Arrow data

ARROW_BATCH_BYTES = 4 << 20
"""Arrow data is sliced to about this size. Batches are larger than JSON batches, because they need no parsing."""


def is_arrow(data: object) -> bool:
    """Whether the object provides Arrow data: pyarrow, polars, pandas since 2.2, a DuckDB relation, ADBC, …"""
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


def arrow_batches(data: Any, *, emitted_at: Callable[[], int]) -> Iterator[ArrowBatch]:
    """Yields the rows in slices of about 4 MB, without copying or reading ahead. Empty data yields nothing.

    Extension types become plain types (see `by_meaning`). Text and binary columns in a view layout become large_string
    and large_binary, which every reader supports. All other types stay as they are, and so does a dictionary of such
    texts inside a list or struct. Raises RecordError for a single column, and for a type whose meaning is not known.
    """
    for record_batch in _record_batches(data):
        batch = _without_views(by_meaning(record_batch))
        rows = max(1, batch.num_rows * ARROW_BATCH_BYTES // max(1, batch.nbytes))
        for start in range(0, batch.num_rows, rows):
            part = batch.slice(start, rows)
            yield ArrowBatch(part, np.full(part.num_rows, emitted_at(), np.int64))


def _record_batches(data: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(data, pa.RecordBatch):
        return iter([data])
    _refuse_python_objects(data)
    try:
        if hasattr(data, "__arrow_c_stream__"):
            return iter(pa.RecordBatchReader.from_stream(data))
        return iter([pa.record_batch(data)])
    except (pa.ArrowInvalid, TypeError) as error:
        raise RecordError(
            f"{type(data).__name__} is Arrow data, but no table: {error}. Give a table or record batches."
        ) from None


def _refuse_python_objects(data: Any) -> None:
    """Raises RecordError for a Polars frame with Python objects, whose Arrow data are their addresses in memory."""
    if not type(data).__module__.startswith("polars."):
        return
    objects = [name for name, dtype in getattr(data, "schema", {}).items() if str(dtype).startswith("Object")]
    if objects:
        raise RecordError(
            f"Column {objects[0]!r} of a Polars frame holds Python objects, which Arrow data has no type for. Cast it "
            "in the source, or give the rows as dicts (`frame.to_dicts()`)."
        )


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [_without_view(column) for column in batch.columns]
    fields = [field.with_type(column.type) for field, column in zip(batch.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, batch.schema.metadata))


def _without_view(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type) and _viewless(column.type.value_type) != column.type.value_type:
        # Arrow cannot cast these as a whole.
        return pa.DictionaryArray.from_arrays(column.indices, _without_view(column.dictionary))
    type_ = _viewless(column.type)
    return column if type_.equals(column.type) else column.cast(type_)


def _viewless(type_: pa.DataType) -> pa.DataType:
    """The type with string_view replaced by large_string and binary_view by large_binary, at any depth."""
    if pa.types.is_string_view(type_):
        return pa.large_string()
    if pa.types.is_binary_view(type_):
        return pa.large_binary()
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_viewless(field.type)) for field in type_])
    if pa.types.is_map(type_):
        item = type_.item_field.with_type(_viewless(type_.item_type))
        return pa.map_(_viewless(type_.key_type), item, type_.keys_sorted)
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(_viewless_values(type_), type_.list_size)
    if pa.types.is_large_list(type_):
        return pa.large_list(_viewless_values(type_))
    return pa.list_(_viewless_values(type_)) if pa.types.is_list(type_) else type_


def _viewless_values(type_: pa.DataType) -> pa.Field:
    return type_.value_field.with_type(_viewless(type_.value_type))


# ---------------------------------------------------------------------- records

_HINT = "Give each record as a mapping, a dataclass or a msgspec Struct"


def _non_finite_record(record: Any, error: RecordError, emitted_at: Callable[[], int]) -> BadRecord | None:
    """The bad record of a record that cannot be written; None if NaN and infinite numbers are not the only reason."""
    try:
        raw = encoded(with_words(record))
    except Exception:
        return None
    text, paths = finite_text(raw)
    if not paths:
        return None
    fields = tuple(map(field_of, paths))
    finite = FiniteRecord(msgspec.json.format(text, indent=-1), emitted_at(), fields, types_of([record]))
    return BadRecord(None, raw, error.message.removesuffix("."), finite=finite)


def as_record(value: Any, number: int) -> Any:
    """Returns the value in a form that encodes to a JSON object. Raises RecordError if it is not a record."""
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
    """Whether the value is one record, as opposed to a collection of records."""
    if isinstance(value, type):
        return False
    return (
        isinstance(value, Mapping | msgspec.Struct) or dataclasses.is_dataclass(value) or hasattr(value, "model_dump")
    )
