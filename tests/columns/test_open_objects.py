"""Objects without declared properties: their exact JSON text, or the connector's map of texts."""

import json
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch, Tally
from s3dest_dagster.columns.diagnostics import Effect, column_diagnostics
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.json_text import JSON_TEXT
from s3dest_dagster.columns.kinds.number import LONG
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.schemas import columns
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import AvroFormat, FormatSettings, ParquetFormat, TypeRules
from s3dest_dagster.stream import Stream

TEXT = TypeRules(open_objects="text")
OPEN = {"type": ["null", "object"]}


def kind_of(definition: Any, rules: TypeRules = TEXT) -> Kind:
    return record_type({"properties": {"f": definition}}, "s", None, rules).fields[0].kind


def landed(settings: FormatSettings, definition: Any, batch: Batch) -> tuple[list[Any], Tally]:
    made = encoder(settings, Stream(name="s", json_schema={"properties": {"f": definition}}), rules=TEXT)
    pieces: list[bytes] = []
    writer = made.open(pieces.append, b"m" * 16)
    encoded = made.encode(batch, bytes(16 * batch.num_rows))
    writer.append(encoded)
    writer.close()
    content = BytesIO(b"".join(pieces))
    rows = list(fastavro.reader(content)) if isinstance(settings, AvroFormat) else pq.read_table(content).to_pylist()
    return [row["f"] for row in rows], encoded.tally


def json_batch(*values: str) -> JsonBatch:
    raws = [b'{"f":%b}' % value.encode() for value in values]
    return JsonBatch(raws, np.full(len(raws), 7), sum(map(len, raws)))


@pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
def test_an_open_object_lands_as_its_exact_text(settings: FormatSettings) -> None:
    texts = ['{"a":1}', '{"a":"1"}', '{"a":null}', '{ "b": 1.10 }', "{}", '{"é":"\\u00e9"}']
    values, tally = landed(settings, OPEN, json_batch(*texts, "null"))
    assert values == [*texts, None]
    assert not tally


@pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
def test_every_value_of_an_open_object_is_json(settings: FormatSettings) -> None:
    values, tally = landed(settings, OPEN, json_batch('{"a":1}', '"x"', "[1]", "1.50"))
    assert values == ['{"a":1}', '"x"', "[1]", "1.50"]
    assert tally == Tally(coerced={"f": 3})


def test_columns_of_arrow_become_the_same_text() -> None:
    rows = pa.array([{"a": 1, "b": "x"}, None])
    batch = ArrowBatch(pa.RecordBatch.from_arrays([rows], ["f"]), np.full(2, 7))
    assert landed(ParquetFormat(), OPEN, batch)[0] == ['{"a":1,"b":"x"}', None]


def test_a_list_of_open_objects_is_a_list_of_texts() -> None:
    values, _ = landed(ParquetFormat(), {"type": "array", "items": OPEN}, json_batch('[{"a":1},null]'))
    assert values == [['{"a":1}', None]]


def test_an_open_object_in_a_union() -> None:
    assert kind_of({"type": ["object", "integer"]}) == Union((JSON_TEXT, LONG))
    assert kind_of({"type": ["object", "string"]}) == STRING
    values, _ = landed(AvroFormat(), {"type": ["object", "integer"]}, json_batch("1", '{"a":1}'))
    assert values == [1, '{"a":1}']
    stamp = {"type": "string", "format": "date-time"}
    values, _ = landed(AvroFormat(), {"oneOf": [OPEN, stamp]}, json_batch('{"a":1}', '"soon"'))
    assert values == ['{"a":1}', "soon"]


def test_an_open_object_beside_one_with_properties_is_part_of_it() -> None:
    kind = kind_of({"anyOf": [OPEN, {"type": "object", "properties": {"a": {"type": "integer"}}}]})
    assert isinstance(kind, Record)
    assert [field.source for field in kind.fields] == ["a"]


def test_the_connector_has_a_map_of_texts() -> None:
    kind = kind_of(OPEN, TypeRules(open_objects="map"))
    assert isinstance(kind, Record)
    assert not kind.fields


@pytest.mark.parametrize("rules", [TypeRules(), TEXT], ids=["map", "text"])
def test_properties_without_a_type_are_a_record(rules: TypeRules) -> None:
    kind = kind_of({"properties": {"a": {"type": "integer"}}}, rules)
    assert isinstance(kind, Record)
    assert [field.kind for field in kind.fields] == [LONG]
    items = kind_of({"type": "array", "items": {"properties": {"a": {"type": "integer"}}}}, rules)
    assert isinstance(items, Array)
    assert isinstance(items.item, Record)
    assert items.item.fields == kind.fields


def test_an_open_object_has_a_diagnostic_of_its_own() -> None:
    schema = {"properties": {"f": OPEN, "g": {"type": "string"}}}
    record = record_type(schema, "s", None, TEXT)
    first, *_ = column_diagnostics(record, record, schema)
    assert (first.field, first.effect) == ("f", Effect.AS_TEXT)
    assert "without declared properties" in first.reason
    assert columns(record)[0][:2] == ("f", "json")


def test_what_lies_in_an_open_object_is_not_undeclared() -> None:
    _, tally = landed(ParquetFormat(), OPEN, json_batch(json.dumps({f"n{i}": i for i in range(9)})))
    assert not tally.undeclared
