"""The statements of a plan hold for names that have quotes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.inspection.reader_statements import reader_statements
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, Flattening, JsonlFormat, ParquetFormat
from s3dest_dagster.stream import Stream

ROOT = Flattening.ROOT
TEXT = {"type": "string"}


def table_of(form: Any, properties: dict[str, Any]) -> str:
    """The table of Athena for a stream of these properties and `day`, which names the directories."""
    schema = {"properties": {**properties, "day": TEXT}}
    orders = Stream(name="orders", json_schema=schema, settings={"partition_by": ["day"]})  # type: ignore[arg-type]
    made = S3Destination(s3_bucket_name="lake", s3_path_format="${STREAM_NAME}/${FIELDS}/", format=form)
    record = record_type(schema, "orders", None)
    (table, *_) = reader_statements("s3://lake/", made.template_of(orders), orders.id, record, form)
    return table.text


def columns_of(table: str) -> list[str]:
    """The names of the table's own columns, other than those that landing adds."""
    return [name for name in re.findall("^  `(.*)` ", table, re.M) if not name.startswith("_airbyte")]


@pytest.mark.parametrize("form", [ParquetFormat(), AvroFormat(), JsonlFormat(flattening=ROOT)], ids=type)
def test_names_within_a_struct_are_quoted_since_they_may_be_reserved(form: Any) -> None:
    inner = {"type": "object", "properties": {"order": TEXT, "select": {"type": "integer"}}}
    table = table_of(form, {"group": {"type": "array", "items": inner}})
    assert "`group` array<struct<`order`:string,`select`:bigint>>" in table


def test_json_objects_have_the_names_of_the_source_also_within_a_struct() -> None:
    inner = {"type": "object", "properties": {"zip-code": TEXT}}
    assert "`address` struct<`zip-code`:string>" in table_of(JsonlFormat(flattening=ROOT), {"address": inner})
    assert "`address` struct<`zip_code`:string>" in table_of(ParquetFormat(), {"address": inner})


@pytest.mark.parametrize(
    ("form", "columns"),
    [
        (ParquetFormat(), ["name", "other"]),
        (AvroFormat(), ["name", "other"]),
        (JsonlFormat(flattening=ROOT), ["name", "other"]),
        (CsvFormat(flattening=ROOT), ["name", "name_2", "other", "day_in_file"]),
    ],
    ids=type,
)
def test_a_table_has_no_column_twice_whatever_the_capitals(form: Any, columns: list[str]) -> None:
    """Athena refuses such a table. A column of CSV cannot be left out: its position counts."""
    table = table_of(form, {"name": TEXT, "Name": TEXT, "other": TEXT})
    assert columns_of(table) == columns
    if isinstance(form, AvroFormat):
        schema = json.loads(re.search("'avro.schema.literal' = '(.*)'", table)[1].replace(r"\\", "\\"))  # type: ignore[index]
        assert [field["name"] for field in schema["fields"]][-2:] == ["other", "_airbyte_additional_properties"]
        assert "Name" not in [field["name"] for field in schema["fields"]]


def test_quotes_and_backticks_in_names_are_escaped_as_hive_does() -> None:
    form = JsonlFormat(flattening=Flattening.ROOT)
    schema = {"properties": {"we`ird": {"type": "string"}, "it's": {"type": "string"}}}
    orders = Stream(name="o'brien", json_schema=schema, settings={"partition_by": ["it's"]})  # type: ignore[arg-type]
    made = S3Destination(
        s3_bucket_name="lake",
        s3_bucket_path="data",
        s3_path_format="${STREAM_NAME}/${FIELDS}/",
        format=form,
    )
    record = record_type(schema, "orders", None)
    template = made.template_of(orders)
    (table, *_) = reader_statements("s3://lake/", template, orders.id, record, form)
    assert table.reader == "Athena"
    assert r"LOCATION 's3://lake/data/o\'brien/'" in table.text
    assert r"'projection.it\'s.type' = 'injected'" in table.text
    assert "`we``ird` string" in table.text
    assert "PARTITIONED BY (`it's` string)" in table.text
