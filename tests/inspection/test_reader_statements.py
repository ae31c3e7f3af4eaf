"""The statements of a plan hold for names that have quotes."""

from __future__ import annotations

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.inspection.reader_statements import reader_statements
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import Flattening, JsonlFormat
from s3dest_dagster.stream import Stream


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
