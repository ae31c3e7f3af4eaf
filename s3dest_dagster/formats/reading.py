"""One object back as Arrow: the envelope columns and the stream's fields in `Layout.NAMED`, whatever the format.

For those who read what was landed, and for tests; it reads whole objects into memory. It must not know S3 or commits.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import count, islice
from typing import IO, Any, cast

import fastavro
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s3dest_dagster.batch import TARGET_BATCH_BYTES, JsonBatch
from s3dest_dagster.columns.converter import RecordConverter
from s3dest_dagster.columns.envelope import DATA, EMITTED_AT, EMITTED_AT_TYPE, RECORD_ID
from s3dest_dagster.columns.json_texts import members_of, object_of
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.number import FLOAT
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.temporal import DATE
from s3dest_dagster.columns.schemas import arrow_schema, within_parquet
from s3dest_dagster.formats.branch_values import AvroBranches, MemberBranches, named_record
from s3dest_dagster.formats.csv_reading import csv_records
from s3dest_dagster.formats.parquet_lzo import is_lzo, without_lzo
from s3dest_dagster.formats.protocol import contents_of
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
)
from s3dest_dagster.stream import Stream

_GZIP_MAGIC = b"\x1f\x8b"
_ROWS_AT_ONCE = 10_000

Line = tuple[str, int, bytes]
"""A record of a text format: id, emission time, and the record's JSON text."""


class _Enveloped(msgspec.Struct):
    id: str = msgspec.field(name=RECORD_ID)
    emitted_at: int | str = msgspec.field(name=EMITTED_AT)
    data: msgspec.Raw = msgspec.field(name=DATA)


_TAGGED = {kind.avro_tag: kind.avro_name for kind in (DATE, FLOAT)}
"""Avro types of the tagged kinds, by tag."""

_enveloped = msgspec.json.Decoder(_Enveloped)  # not made by the first use, which may come from several threads at once


def read_table(settings: FormatSettings, stream: Stream, data: bytes | memoryview | IO[bytes]) -> pa.Table:
    """The records of one object, in its order.

    Column types are the stream's as of now: of an object that was written under another schema, columns that it lacks
    are null. CSV cannot tell a text that looks like a JSON object from the object; a field that may be one is read as
    one. What nests deeper than Parquet can (`within_parquet`) is JSON text. Raises RecordError where the content is not
    the format's, SchemaError as `encoder`.
    """
    record = contents_of(stream).record
    target = within_parquet(record)
    content = data if isinstance(data, bytes | memoryview) else data.read()
    if isinstance(settings, ParquetFormat):
        return _read_parquet(target, content)
    if isinstance(settings, AvroFormat):
        records = (named_record(record, target, row, AvroBranches()) for row in _avro_rows(content))
        return _table_of_rows(target, records)
    text = gzip.decompress(content) if content[:2] == _GZIP_MAGIC else bytes(content)
    if isinstance(settings, CsvFormat):
        return _table_of_lines(target, csv_records(text, record))
    assert isinstance(settings, JsonlFormat)
    return _table_of_lines(target, _jsonl_lines(settings, text))


def table_schema(stream: Stream) -> pa.Schema:
    """The columns that `read_table` gives for this stream. Raises SchemaError as `encoder`."""
    return _schema(within_parquet(contents_of(stream).record))


def _schema(record: Record) -> pa.Schema:
    envelope = [(RECORD_ID, pa.string(), False), (EMITTED_AT, EMITTED_AT_TYPE, False)]
    return pa.schema([*(pa.field(*field) for field in envelope), *arrow_schema(record, layout=Layout.NAMED)])


def _jsonl_lines(settings: JsonlFormat, text: bytes) -> Iterator[Line]:
    if settings.flattening is Flattening.NONE:
        for line in _enveloped.decode_lines(text):
            yield line.id, int(line.emitted_at), bytes(line.data)
        return
    for flat in text.splitlines():
        members, earlier = members_of(flat)
        record_id, emitted_at = (msgspec.json.decode(members.pop(name)) for name in (RECORD_ID, EMITTED_AT))
        yield record_id, int(emitted_at), object_of([*earlier, *members.items()])


def _table_of_lines(record: Record, lines: Iterable[Line]) -> pa.Table:
    schema, converter = _schema(record), RecordConverter(record, layout=Layout.NAMED)
    batches = []
    for some in _chunks(lines):
        ids, emitted_at, raws = zip(*some, strict=True)
        times = np.array(emitted_at, np.int64)
        converted = converter.convert(JsonBatch(raws, times, sum(map(len, raws)))).data
        envelope = [pa.array(ids, pa.string()), pa.array(times).cast(EMITTED_AT_TYPE)]
        batches.append(pa.RecordBatch.from_arrays([*envelope, *converted.columns], schema=schema))
    return pa.Table.from_batches(batches, schema)


def _chunks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Lines in batches of the size that the road likes."""
    some: list[Line] = []
    size = 0
    for line in lines:
        some.append(line)
        size += len(line[2])
        if size >= TARGET_BATCH_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _avro_rows(content: bytes | memoryview) -> Iterator[dict[str, Any]]:
    """Records as Python values: temporal ones as integers, and those of tagged kinds as dicts."""
    reader = fastavro.block_reader(BytesIO(content))
    schema = fastavro.parse_schema(_tagged(reader.writer_schema, count()))
    for block in reader:
        body = cast(IO[bytes], block.bytes_)  # type: ignore[attr-defined]  # documented, not declared
        for _ in range(block.num_records):
            row = fastavro.schemaless_reader(body, schema, None)
            assert isinstance(row, dict)
            yield row


def _tagged(schema: Any, numbers: Iterator[int]) -> Any:
    """An Avro schema of the same bytes without logical types, in which a value of a tagged kind is a record of one
    field."""
    if isinstance(schema, list):
        return [_tagged(branch, numbers) for branch in schema]
    kind = schema.get("logicalType") if isinstance(schema, dict) else schema
    if kind in _TAGGED:
        field = {"name": kind, "type": _TAGGED[kind]}
        return {"type": "record", "name": f"tagged_{next(numbers)}", "namespace": "", "fields": [field]}
    if not isinstance(schema, dict):
        return schema
    plain = {key: value for key, value in schema.items() if key not in ("logicalType", "default")}
    return plain | {key: _tagged(plain[key], numbers) for key in ("type", "fields", "items") if key in plain}


def _read_parquet(record: Record, content: bytes | memoryview) -> pa.Table:
    table = pq.read_table(BytesIO(without_lzo(content) if is_lzo(content) else content))
    target = _schema(record)
    if _has_members(table.schema):
        target_types = [field.with_type(_integer_type(field.type)) for field in table.schema]
        integers = _retyped_table(table, pa.schema(target_types))
        rows = (row for batch in integers.to_batches(_ROWS_AT_ONCE) for row in batch.to_pylist())
        return _table_of_rows(record, (named_record(record, record, row, MemberBranches()) for row in rows))
    return _retyped_table(table, target)


def _retyped_table(table: pa.Table, target: pa.Schema) -> pa.Table:
    """The table's columns in the types of `target`, null where it has none of that name."""
    columns = [
        pa.chunked_array([_retyped(chunk, field.type) for chunk in table.column(field.name).chunks], field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in target
    ]
    return pa.Table.from_arrays(columns, schema=target)


def _retyped(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column in another type. By hand where it is nested, since Arrow's cast damages lists of nulls."""
    if column.type == kind:
        return column
    if pa.types.is_struct(kind) and pa.types.is_struct(column.type):
        children = [_retyped(column.field(child.name), child.type) for child in _children(kind)]
        return pa.StructArray.from_arrays(children, fields=_children(kind), mask=column.is_null())
    if pa.types.is_list(kind) and pa.types.is_list(column.type):
        ends = pa.array(column.offsets.to_numpy())
        return pa.ListArray.from_arrays(ends, _retyped(column.values, kind.value_type), kind, mask=column.is_null())
    return column.cast(kind)


def _has_members(fields: Iterable[pa.Field]) -> bool:
    """Whether a union anywhere is written in the connector's layout."""
    return any(
        field.name == "member0" or (pa.types.is_nested(field.type) and _has_members(_children(field.type)))
        for field in fields
    )


def _children(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(number) for number in range(kind.num_fields)]


def _integer_type(kind: pa.DataType) -> pa.DataType:
    """The type with integers for temporal values, which Python's own types cannot hold all."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_integer_type(field.type)) for field in _children(kind)])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_integer_type(kind.value_type)))
    if pa.types.is_date32(kind):
        return pa.int32()
    return pa.int64() if pa.types.is_temporal(kind) else kind


def _table_of_rows(record: Record, rows: Iterable[dict[str, Any]]) -> pa.Table:
    schema = _schema(record)
    rest = iter(rows)
    batches: Sequence[pa.RecordBatch] = [
        pa.RecordBatch.from_pylist(some, schema) for some in iter(lambda: list(islice(rest, _ROWS_AT_ONCE)), [])
    ]
    return pa.Table.from_batches(batches, schema)
