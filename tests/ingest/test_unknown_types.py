"""The schema declares an unknown type. Text formats keep the values. Typed formats refuse them, or land them as text
if the setting allows it."""

from __future__ import annotations

import csv
import io
import json

import fastavro
import pyarrow.parquet as pq
import pytest
from land_and_read import batch_of, data_keys, destination, sync, target

from s3dest_dagster.errors import SchemaError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)
from s3dest_dagster.stream import Stream, SyncMode

SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "at": {"type": "datetime"},
        "any": {"type": ["null", "any"]},
        "lost": {"$ref": "#/definitions/nowhere"},
    },
}
RECORDS = [{"id": 1, "at": "2026-01-05", "any": {"z": 1.0}, "lost": [1]}, {"id": 2, "at": 7, "any": "x", "lost": None}]
TEXTS = [["2026-01-05", '{"z": 1.0}', "[1]"], ["7", "x", None]]
STREAM = Stream(name="events", namespace=None, json_schema=SCHEMA, sync_mode=SyncMode.APPEND)
PLAIN = TextCompression.NONE


def land_twice(server, settings: FormatSettings, **others: str) -> list[bytes]:
    bucket = server.new_bucket()
    chosen = destination(bucket, format=settings, **others)
    with target(server, chosen) as opened:
        for number in range(2):
            land([batch_of(RECORDS)], opened, STREAM, sync(f"sync-{number}"))
    client = server.client()
    return [client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in data_keys(server, bucket)]


def as_values(texts: list[str | None]) -> list[object]:
    """Parsed JSON texts, so that differences in spelling do not matter."""
    return [json.loads(text) if text and text[0] in "{[" else text for text in texts]


@pytest.mark.parametrize("flattening", list(Flattening))
def test_json_lines_keep_values_of_unknown_types(moto_s3, flattening):
    for content in land_twice(moto_s3, JsonlFormat(compression=PLAIN, flattening=flattening)):
        lines = [json.loads(line) for line in content.splitlines()]
        found = [line.get("_airbyte_data", line) for line in lines]
        assert [{name: each[name] for name in SCHEMA["properties"]} for each in found] == RECORDS


def test_flattened_csv_keeps_values_of_unknown_types(moto_s3):
    for content in land_twice(moto_s3, CsvFormat(compression=PLAIN, flattening=Flattening.ROOT)):
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        found = [as_values([row["at"], row["any"], row["lost"] or None]) for row in rows]
        assert found == [as_values(texts) for texts in TEXTS]


def test_parquet_lands_texts_if_the_setting_allows_it(moto_s3):
    for content in land_twice(moto_s3, ParquetFormat(), on_unknown_type="text"):
        table = pq.read_table(io.BytesIO(content))
        rows = table.select(["at", "any", "lost"]).to_pylist()
        assert [as_values(list(row.values())) for row in rows] == [as_values(texts) for texts in TEXTS]


def test_avro_lands_texts_if_the_setting_allows_it(moto_s3):
    for content in land_twice(moto_s3, AvroFormat(), on_unknown_type="text"):
        rows = list(fastavro.reader(io.BytesIO(content)))
        found = [as_values([row["at"], row["any"], row["lost"]]) for row in rows]
        assert found == [as_values(texts) for texts in TEXTS]


@pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
def test_typed_formats_refuse_unknown_types_by_default_and_name_the_setting(moto_s3, settings):
    with pytest.raises(SchemaError, match=r"field 'at'.*'datetime' is not known.*on_unknown_type"):
        land_twice(moto_s3, settings)


@pytest.mark.parametrize("settings", [JsonlFormat(), CsvFormat(), CsvFormat(flattening=Flattening.ROOT)])
def test_a_plan_names_unknown_types_for_text_formats(moto_s3, settings):
    with target(moto_s3, destination(moto_s3.new_bucket(), format=settings)) as opened:
        (planned,) = plan(opened, [STREAM], sync("a")).streams
    assert {each.field for each in planned.diagnostics if each.effect == "kept"} == {"at", "any", "lost"}


def test_a_plan_for_a_typed_format_refuses_unknown_types_like_the_landing(moto_s3):
    chosen = destination(moto_s3.new_bucket(), format=ParquetFormat())
    with target(moto_s3, chosen) as opened, pytest.raises(SchemaError, match="on_unknown_type"):
        plan(opened, [STREAM], sync("a"))
