"""Block bodies equal those of fastavro's record-by-record writer, byte for byte."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from encoded import EMITTED_AT, batch_of, entropy_of, stream_of, user
from hypothesis import given
from hypothesis import strategies as st
from strategies import streams

from s3dest_dagster.columns.converter import RecordConverter
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.number import LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import BOOLEAN, NULL, STRING
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.retyping import retyped
from s3dest_dagster.columns.schemas import avro_schema, record_ids
from s3dest_dagster.formats.avro import BLOCK_BYTES, blocks, record_rows
from s3dest_dagster.formats.envelope import EnvelopeEncoder, EnvelopeValues, SyncNumbers
from s3dest_dagster.formats.integers import varint
from s3dest_dagster.formats.parquet import integer_type


def _rows_and_record(properties, records):
    stream = stream_of(properties)
    record = record_type(stream.json_schema, "users", None)
    batch = batch_of(records)
    data = RecordConverter(record, layout=Layout.AVRO).convert(batch).data
    ids = record_ids(entropy_of(batch))
    return record, data, ids, batch.emitted_at


def _by_fastavro(record: Record, data: pa.RecordBatch, ids, emitted_at) -> list[bytes]:
    """Each record written separately, with logical types as their underlying integers."""
    schema = fastavro.parse_schema(_without_logical_types(avro_schema(record)))
    columns = [retyped(column, integer_type(column.type)) for column in data.columns]
    plain = pa.RecordBatch.from_arrays(columns, names=data.schema.names).to_pylist()
    rows = []
    for number, row in enumerate(plain):
        out = io.BytesIO()
        envelope = {"_airbyte_ab_id": bytes(ids[number]).decode(), "_airbyte_emitted_at": int(emitted_at[number])}
        fastavro.schemaless_writer(out, schema, envelope | _record(schema, row))
        rows.append(out.getvalue())
    return rows


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        if "logicalType" in schema:
            return schema["type"]
        return {key: _without_logical_types(value) for key, value in schema.items()}
    return [_without_logical_types(branch) for branch in schema] if isinstance(schema, list) else schema


def _record(schema, row):
    types = {field["name"]: field["type"] for field in schema["fields"]}
    return {name: _value(types[name], value) for name, value in row.items()}


def _value(schema, value):
    """Converts a nullable value from Arrow's form to fastavro's, where a tuple names the branch of a struct's
    member."""
    if value is None or schema == "null":
        return None
    branches = schema[1:]
    if len(branches) == 1:
        return _branch(branches[0], value)
    number, member = next(((n, m) for n, m in enumerate(value.values()) if m is not None), (0, None))
    if member is None:
        return None
    branch, plain = branches[number], _branch(branches[number], member)
    if isinstance(branch, dict):
        return (branch["name"], plain) if branch["type"] == "record" else plain
    return branch, plain


def _branch(branch, value):
    if not isinstance(branch, dict):
        return value
    if branch["type"] == "array":
        return [_value(branch["items"], item) for item in value]
    return dict(value) if branch["type"] == "map" else _record(branch, value)


def _rows(record, columns, ids, emitted_at):
    envelope = EnvelopeEncoder(record.envelope, SyncNumbers())
    return record_rows(record, columns, envelope, EnvelopeValues(ids, emitted_at, {}))


def _encoded(record, data, ids, emitted_at):
    return [bytes(row) for row in _rows(record, data.columns, ids, emitted_at).to_pylist()]


@given(streams())
def test_generated_records_have_the_bytes_of_fastavro(generated):
    found = _rows_and_record(*generated)
    assert _encoded(*found) == _by_fastavro(*found)


def test_records_of_every_kind_have_the_bytes_of_fastavro():
    found = _rows_and_record(stream_of().json_schema["properties"], list(map(user, range(300))))
    assert _encoded(*found) == _by_fastavro(*found)


def test_slices_of_columns_have_the_bytes_of_their_rows():
    record, data, ids, emitted_at = _rows_and_record(stream_of().json_schema["properties"], list(map(user, range(40))))
    whole = _encoded(record, data, ids, emitted_at)
    assert _encoded(record, data.slice(7, 20), ids[7:27], emitted_at[7:27]) == whole[7:27]


def test_a_null_list_over_items_has_no_items():
    hidden = pa.ListArray.from_arrays([0, 2, 3], pa.array(["a", "b", "c"]), mask=pa.array([True, False]))
    assert _one_column(Array(STRING), hidden) == [b"\x00", b"\x02\x02\x02\x02c\x00"]


def test_a_null_struct_hides_its_members():
    kind = Record("inner", None, (Field("a", "a", LONG),))
    overflow = pa.nulls(2, pa.map_(pa.string(), pa.string()))
    hidden = pa.StructArray.from_arrays([pa.array([1, 2]), overflow], ["a", "o"], mask=pa.array([True, False]))
    assert _one_column(kind, hidden) == [b"\x00", b"\x02\x02\x04\x00"]


def test_nulls_alone_have_no_bytes():
    assert _one_column(NULL, pa.nulls(2)) == [b"", b""]
    assert _one_column(Array(NULL), pa.array([[None, None], []])) == [b"\x02\x04\x00", b"\x02\x00"]


def test_a_union_has_the_branch_of_its_set_member():
    kind = Union((LONG, BOOLEAN, STRING))
    rows = [{"a": 1}, {"b": True}, {"c": "x"}, None, {}]
    column = pa.array(rows, pa.struct([("a", pa.int64()), ("b", pa.bool_()), ("c", pa.string())]))
    assert _one_column(kind, column) == [b"\x02\x02", b"\x04\x01", b"\x06\x02x", b"\x00", b"\x00"]


@pytest.mark.parametrize("size", [0, 1, 63, 64, 4095, 4096, 100_000])
def test_texts_of_any_size_follow_their_length(size):
    texts = pa.array(["x" * size, None, "y"])
    expected = [b"\x02" + varint(size) + b"x" * size, b"\x00", b"\x02\x02y"]
    assert _one_column(STRING, texts) == expected


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1))
def test_any_long_has_the_bytes_of_fastavro(numbers):
    schema = fastavro.parse_schema(["null", "long"])
    expected = []
    for number in numbers:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, number)
        expected.append(out.getvalue())
    assert _one_column(LONG, pa.array(numbers, pa.int64())) == expected


def _one_column(kind, column):
    """The bytes of a record's only field, without envelope and overflow."""
    rows = len(column)
    record = Record("r", None, (Field("f", "f", kind),))
    overflow = pa.nulls(rows, pa.map_(pa.string(), pa.string()))
    encoded = _rows(record, [column, overflow], np.full((rows, 36), 48, np.uint8), np.zeros(rows, np.int64))
    return [row[38:-1] for row in encoded.to_pylist()]


def test_blocks_end_with_the_record_that_fills_them():
    found = _rows_and_record({"text": {"type": "string"}}, [{"text": "x" * (n % 700)} for n in range(2000)])
    rows = _rows(*found)
    cut = list(blocks(rows))
    assert b"".join(body for _, body in cut) == b"".join(rows.to_pylist())
    assert sum(count for count, _ in cut) == 2000
    for _, body in cut[:-1]:
        assert BLOCK_BYTES <= len(body) < BLOCK_BYTES + 800


def test_a_record_larger_than_a_block_is_a_block():
    found = _rows_and_record({"text": {"type": "string"}}, [{"text": "x" * 200_000}, {"text": "y"}, {"text": "z"}])
    assert [count for count, _ in blocks(_rows(*found))] == [1, 2]


def test_no_records_make_no_block():
    found = _rows_and_record({"text": {"type": "string"}}, [])
    assert list(blocks(_rows(*found))) == []


def test_emission_times_are_written_unchanged():
    record = Record("r", None, ())
    overflow = pa.nulls(1, pa.map_(pa.string(), pa.string()))
    row = _rows(record, [overflow], np.full((1, 36), 48, np.uint8), np.array([EMITTED_AT])).to_pylist()[0]
    assert row == varint(36) + b"0" * 36 + varint(EMITTED_AT) + b"\x00"
