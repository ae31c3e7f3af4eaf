"""The savings of the fast paths, measured from outside: by the calls that are made and the objects that are kept."""

from __future__ import annotations

import gc
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch
from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.partition_values import RecordGrouper
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
)
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.sources.python import batches
from s3dest_dagster.stream import Stream, StreamId

ROWS = 1_000
TYPED = pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])


def calls_of(work: Callable[[], Any]) -> Counter[str]:
    """How often each function was called, whether it is written in Python or not."""
    calls: Counter[str] = Counter()

    def note(frame: Any, event: str, called: Any) -> None:
        if event == "call":
            calls[f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"] += 1
        elif event == "c_call":
            calls[called.__qualname__] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def messages(fields: int) -> bytes:
    data = {f"field{number}": number * 1.5 for number in range(fields)}
    record = {"stream": "users", "emitted_at": 7, "data": data}
    return (json.dumps({"type": "RECORD", "record": record}).encode() + b"\n") * ROWS


def read(text: bytes) -> list[Any]:
    return list(read_messages(io.BytesIO(text), [StreamId(None, "users")]))


def test_messages_are_read_with_the_same_objects_and_calls_however_many_fields_they_have() -> None:
    held, calls = [], []
    for fields in (1, 60):
        text = messages(fields)
        read(text)  # what is made once is made
        gc.collect()
        before = sys.getallocatedblocks()
        items = read(text)
        held.append((sys.getallocatedblocks() - before) / ROWS)
        assert sum(each.batch.num_rows for each in items) == ROWS
        calls.append(calls_of(lambda text=text: read(text)).total() / ROWS)
    assert held[1] - held[0] < 0.5
    assert calls[1] - calls[0] < 0.5


def test_python_records_are_encoded_hundreds_at_a_time() -> None:
    records = [{"id": row, "name": "x" * 50, "tags": [row, None], "seen": {"at": 1.5}} for row in range(10 * ROWS)]
    made: list[Batch] = []
    calls = calls_of(lambda: made.extend(batches(records, emitted_at=lambda: 7)))
    assert sum(each.num_rows for each in made) == len(records)
    assert 0 < calls["Encoder.encode_lines"] < len(records) / 200
    assert sum(calls[name] for name in calls if name.startswith("Encoder.")) < len(records) / 100


def arrow(rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "id": range(rows),
            "name": [f"name {row}" for row in range(rows)],
            "seen": pa.array([1_577_880_000_000_000] * rows, pa.timestamp("us", "UTC")),
            "tags": [[row, None] for row in range(rows)],
            "place": [{"lat": row / 7, "city": "Łódź"} for row in range(rows)],
        }
    )


def arrow_batch(rows: int) -> ArrowBatch:
    return ArrowBatch(arrow(rows), np.full(rows, 7))


def json_batch(rows: int) -> JsonBatch:
    raws = [json.dumps({"id": row, "name": f"name {row}"}).encode() for row in range(rows)]
    return JsonBatch(raws, np.full(rows, 7), sum(map(len, raws)))


def encoding_of(settings: FormatSettings, schema: Mapping[str, Any], batch: Batch) -> Counter[str]:
    """The calls for a second batch, when everything that is learned or created once exists."""
    made = encoder(settings, Stream(name="users", json_schema=schema))
    entropy = bytes(16 * batch.num_rows)
    made.encode(batch, entropy)
    return calls_of(lambda: made.encode(batch, entropy))


@TYPED
def test_arrow_data_never_becomes_json_for_typed_formats(settings: FormatSettings) -> None:
    few, many = (
        encoding_of(settings, json_schema_of_arrow(arrow(rows).schema), arrow_batch(rows)) for rows in (ROWS, 5 * ROWS)
    )
    assert not [name for name in many if "json" in name.lower() or name.startswith(("Encoder", "Decoder"))]
    assert 0 <= many.total() - few.total() < ROWS / 10


@TYPED
def test_json_records_become_columns_without_a_call_for_each(settings: FormatSettings) -> None:
    schema = {"properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}
    few, many = (encoding_of(settings, schema, json_batch(rows)) for rows in (ROWS, 5 * ROWS))
    assert 0 <= many.total() - few.total() < ROWS / 10


ODD: dict[str, Callable[[int], bytes]] = {
    "a name twice": lambda row: b'{"id":%d,"name":"x","id":%d}' % (row, row + 1),
    "a name twice that is no column": lambda row: b'{"id":%d,"name":"x","new":1,"new":2}' % row,
    "an undeclared name": lambda row: b'{"id":%d,"name":"x","new":1}' % row,
    "thirty names that never repeat": lambda row: (
        b'{"id":%d,"name":"x",%b}' % (row, b",".join(b'"n%d_%d":1' % (row, each) for each in range(30)))
    ),
    "another type": lambda row: b'{"id":"none","name":%d}' % row,
    "a number beyond 64 bits": lambda row: b'{"id":123456789012345678901234567890,"name":"x"}',
    "a number beyond a double": lambda row: b'{"id":%d,"name":"x","field1":1e400}' % row,
    "nesting": lambda row: b'{"id":%d,"name":{"first":["x"]}}' % row,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat(), CsvFormat(flattening=Flattening.ROOT)], ids=repr)
def test_a_few_odd_records_do_not_cause_a_call_for_each_value_of_their_batch(
    settings: FormatSettings, odd: Callable[[int], bytes]
) -> None:
    raws = [json.dumps({"id": row, "name": f"name {row}"}).encode().replace(b" ", b"") for row in range(ROWS)]
    fields = {f"field{number}": {"type": "number"} for number in range(40)}
    values = b"".join(b',"%b":1.5' % name.encode() for name in fields)
    raws = [raw[:-1] + values + b"}" if row % 100 else odd(row) for row, raw in enumerate(raws)]
    schema = {"properties": {"id": {"type": "integer"}, "name": {"type": "string"}, **fields}}
    calls = encoding_of(settings, schema, JsonBatch(raws, np.full(ROWS, 7), sum(map(len, raws))))
    assert calls.total() < 10 * ROWS


@pytest.mark.parametrize("settings", [JsonlFormat(), CsvFormat(), AvroFormat(), ParquetFormat()], ids=repr)
def test_records_are_grouped_by_strings_without_a_call_for_each(settings: FormatSettings) -> None:
    schema = {"properties": {"id": {"type": "integer"}, "region": {"type": "string"}}}
    raws = [b'{"id":%d,"region":"r%d"}' % (row, row % 8) for row in range(ROWS)]
    batch = JsonBatch(raws, np.zeros(ROWS, np.int64), sum(map(len, raws)))
    by = Stream(name="orders", json_schema=schema, settings={"partition_by": ["region"]})  # type: ignore[arg-type]
    record = record_type(schema, "orders", None)
    made = encoder(settings, by, record, grouper=RecordGrouper(by.settings.partition_by, record, "orders"))

    def work() -> None:
        assert [piece.rows for _, piece in made.pieces([made.encode_groups(batch, bytes(16 * ROWS))])] == [ROWS / 8] * 8

    work()  # what is made once is made
    assert calls_of(work).total() < ROWS
