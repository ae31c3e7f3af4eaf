"""The contract of every format: what is written is read back, whatever the batches, threads and settings."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded import EMITTED_AT, MARKER, USERS, batch_of, entropy_of, stream_of, user, written
from hypothesis import given
from strategies import streams

from s3dest_dagster.batch import ArrowBatch, JsonBatch
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.schemas import arrow_schema, record_ids
from s3dest_dagster.errors import SchemaError
from s3dest_dagster.formats import encoder, read_table
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)
from s3dest_dagster.stream import Stream

FLAT = Flattening.ROOT
FORMATS: dict[str, FormatSettings] = {
    "jsonl": JsonlFormat(),
    "jsonl-flat": JsonlFormat(flattening=FLAT, compression=TextCompression.NONE),
    "csv": CsvFormat(compression=TextCompression.NONE),
    "csv-flat": CsvFormat(flattening=FLAT, additional_properties_column=True),
    "avro": AvroFormat(),
    "avro-zstandard": AvroFormat(codec="zstandard", include_checksum=True),
    "parquet": ParquetFormat(),
    "parquet-member": ParquetFormat(union_layout="member"),
    "parquet-typed": ParquetFormat(union_layout="typed"),
    "parquet-lzo": ParquetFormat(compression_codec="LZO"),
}
every_format = pytest.mark.parametrize("name", FORMATS)


def _read(name: str, stream: Stream, data: bytes) -> pa.Table:
    return read_table(FORMATS[name], stream, data)


@every_format
def test_an_object_without_a_record_is_read_back_with_all_columns(name):
    stream = stream_of()
    table = _read(name, stream, written(FORMATS[name], stream, []))
    fields = arrow_schema(record_type(stream.json_schema, stream.name, None), layout=Layout.NAMED)
    assert table.num_rows == 0
    assert table.schema.names == ["_airbyte_ab_id", "_airbyte_emitted_at", *fields.names]
    assert [field.type for field in table.schema][2:] == fields.types


@every_format
def test_an_empty_batch_changes_nothing(name):
    stream = stream_of()
    batches = [batch_of([]), batch_of([user(0)])]
    assert _read(name, stream, written(FORMATS[name], stream, batches)).num_rows == 1


@every_format
def test_ids_and_emission_times_are_preserved(name):
    stream, batch = stream_of(), batch_of(map(user, range(3)))
    table = _read(name, stream, written(FORMATS[name], stream, [batch]))
    ids = [bytes(row).decode() for row in record_ids(entropy_of(batch))]
    assert table["_airbyte_ab_id"].to_pylist() == ids
    assert table["_airbyte_emitted_at"].cast(pa.int64()).to_pylist() == [EMITTED_AT, EMITTED_AT + 1, EMITTED_AT + 2]


@every_format
def test_a_reader_finds_what_a_user_wrote(name):
    stream = stream_of()
    row = _read(name, stream, written(FORMATS[name], stream, [batch_of([user(0)])])).to_pylist()[0]
    assert row["name"] == 'Zoë "0"\n'
    assert row["born"] is None
    assert row["code"] == {"integer": None, "string": "x0"}
    assert row["photo"] == b"\x00\x01\x02\xff"
    assert row["home"]["_airbyte_additional_properties"] == [("door", "0")]
    assert dict(row["_airbyte_additional_properties"]) == {"beyond": '{"deep":[1.5,null]}', "born": "long ago"}


@every_format
def test_every_format_produces_the_same_table(name):
    stream = stream_of()
    batches = [batch_of(map(user, range(20))), batch_of(map(user, range(20, 23)))]
    expected = _read("avro", stream, written(FORMATS["avro"], stream, batches))
    assert _read(name, stream, written(FORMATS[name], stream, batches)).to_pylist() == expected.to_pylist()


@given(streams())
def test_generated_records_are_read_back_equally_from_every_format(generated):
    properties, records = generated
    stream, batch = stream_of(properties), batch_of(records)
    plain = _read("jsonl", stream, written(FORMATS["jsonl"], stream, [batch]))
    for name, chosen in FORMATS.items():
        table = _read(name, stream, written(chosen, stream, [batch]))
        assert table.schema == plain.schema, name
        assert table.equals(plain), (name, table.to_pylist(), plain.to_pylist())


LEAF = {"type": ["integer", "string"], "format": "date"}
DEEP = {
    "lists": ({"type": "array"}, "items", lambda inner: [inner]),
    "objects": ({"type": "object"}, "properties", lambda inner: {"a": inner}),
}


@pytest.mark.parametrize(("levels", "names"), [(50, FORMATS), (99, ["avro", "parquet"])], ids=["50", "99"])
@pytest.mark.parametrize("shape", DEEP)
def test_deep_records_are_read_back_equally_from_every_format(shape, levels, names):
    outer, inside, holding = DEEP[shape]
    schema, value = LEAF, 5
    for _ in range(levels):
        schema = {**outer, inside: {"a": schema} if shape == "objects" else schema}
        value = holding(value)
    stream, batch = (
        stream_of({"deep": schema, "id": {"type": "integer"}}),
        batch_of([{"id": 1, "deep": value}, {"id": 2}]),
    )
    tables = {name: _read(name, stream, written(chosen, stream, [batch])) for name, chosen in FORMATS.items()}
    assert all(table.equals(tables["avro"]) for table in tables.values())
    for layout in ("named", "member") if levels == 50 else ("named",):
        rows = pq.read_table(io.BytesIO(written(ParquetFormat(union_layout=layout), stream, [batch]))).to_pylist()
        assert _unwrapped(rows[0]["deep"]) == value
        assert rows[1]["deep"] is None


def _unwrapped(value):
    """A deep value without overflow maps and members of unions. The text that represents the deepest part is parsed."""
    if isinstance(value, dict) and "a" in value:
        return {"a": _unwrapped(value["a"])}
    if isinstance(value, dict):
        return next(_unwrapped(member) for member in value.values() if member is not None)
    if isinstance(value, list):
        return [_unwrapped(item) for item in value]
    return json.loads(value) if isinstance(value, str) else value


@every_format
def test_threads_do_not_change_a_byte(name):
    stream = stream_of()
    batches = [batch_of(map(user, range(start, start + 50))) for start in range(0, 1000, 50)]
    alone = written(FORMATS[name], stream, batches)
    formatted = encoder(FORMATS[name], stream)
    out = bytearray()
    writer = formatted.open(out.extend, MARKER)
    with ThreadPoolExecutor(4) as threads:
        entropies = [entropy_of(batch, number) for number, batch in enumerate(batches)]
        for encoded in threads.map(formatted.encode, batches, entropies):
            writer.append(encoded)
    writer.close()
    assert bytes(out) == alone


@every_format
def test_one_encoder_writes_many_objects(name):
    stream = stream_of()
    formatted = encoder(FORMATS[name], stream)
    batches = [batch_of([user(number)]) for number in range(3)]
    for number, batch in enumerate(batches):
        out = bytearray()
        writer = formatted.open(out.extend, MARKER)
        writer.append(formatted.encode(batch, entropy_of(batch)))
        writer.close()
        assert _read(name, stream, bytes(out))["id"].to_pylist() == [number]


@every_format
def test_arrow_batches_land_like_the_same_records_in_json(name):
    columns = {"id": [1, 2], "name": ["a", None], "score": [0.5, -2.0], "tags": [["x"], []]}
    stream = stream_of({key: USERS[key] for key in columns})
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    as_json = batch_of(rows)
    as_arrow = ArrowBatch(pa.RecordBatch.from_pydict(columns), as_json.emitted_at)
    tables = [_read(name, stream, written(FORMATS[name], stream, [batch])) for batch in (as_json, as_arrow)]
    assert tables[0].equals(tables[1])


@every_format
def test_the_text_of_a_record_can_be_any_buffer(name):
    stream = stream_of()
    batch = batch_of(map(user, range(4)))
    views = JsonBatch([memoryview(raw) for raw in batch.raws], batch.emitted_at, batch.nbytes)
    assert written(FORMATS[name], stream, [views]) == written(FORMATS[name], stream, [batch])


def test_every_format_names_the_same_contents():
    texts = {name: encoder(chosen, stream_of()) for name, chosen in FORMATS.items()}
    assert len({formatted.schema_text for formatted in texts.values()}) == 1
    assert len({formatted.fingerprint for formatted in texts.values()}) == 1


@every_format
def test_a_stream_without_a_schema_is_refused_by_name(name):
    with pytest.raises(SchemaError, match=r"'app\.events' has no JSON schema"):
        encoder(FORMATS[name], Stream(name="events", namespace="app"))


@pytest.mark.parametrize(("flattening", "compression"), [*product(Flattening, TextCompression)])
@pytest.mark.parametrize(("made", "suffix"), [(JsonlFormat, ".jsonl"), (CsvFormat, ".csv")])
def test_extensions_of_text_name_the_compression(made, suffix, flattening, compression):
    chosen = made(flattening=flattening, compression=compression)
    expected = suffix + (".gz" if compression is TextCompression.GZIP else "")
    assert encoder(chosen, stream_of()).extension == expected


def test_extensions_of_avro_and_parquet_do_not_name_the_codec():
    assert encoder(AvroFormat(codec="Deflate"), stream_of()).extension == ".avro"
    assert encoder(ParquetFormat(compression_codec="GZIP"), stream_of()).extension == ".parquet"


def test_emission_times_far_from_now_are_kept():
    stream = stream_of({"id": {"type": "integer"}})
    times = np.array([0, -1, 253_402_300_799_999], np.int64)
    batch = JsonBatch([b'{"id":1}'] * 3, times, 24)
    for name in FORMATS:
        table = _read(name, stream, written(FORMATS[name], stream, [batch]))
        assert table["_airbyte_emitted_at"].cast(pa.int64()).to_pylist() == times.tolist()
