"""Fields of any name land, and each value is found again under a column of its own, in every format and style."""

from __future__ import annotations

from typing import Any

import pytest
from land_and_read import batch_of, destination, sync, target
from servers import S3Server

from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
)
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

NAMES = ["", "\x00", "a\x00b", "a\nb", "a\tb", "\x1b[31m", "x" * 300, "x" * 301, "é", "e\u0301", "ID", "id", " ", "a.b"]
NAMES += ['a"b', "a,b", "\u202eevil", "\ufeffbom", "0", "-", "null", "_airbyte_ab_id", "_airbyte_data", "__proto__"]
NAMES += ["_airbyte_additional_properties", "_ab_additional_properties"]
RECORD = {name: f"value {number}" for number, name in enumerate(NAMES)}
FORMATS = {
    "jsonl": JsonlFormat(),
    "flat jsonl": JsonlFormat(flattening=Flattening.ROOT),
    "csv": CsvFormat(),
    "flat csv": CsvFormat(flattening=Flattening.ROOT, additional_properties_column=True),
    "avro": AvroFormat(),
    "parquet": ParquetFormat(),
}


@pytest.mark.parametrize("style", ["connector", "snake", "keep"])
@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_every_value_is_found_in_a_column_of_its_own(moto_s3: S3Server, format: FormatSettings, style: str) -> None:
    if style == "keep" and not format.allows_any_name:
        pytest.skip("Avro allows few characters, so the settings refuse the style")
    settings = destination(moto_s3.new_bucket(), format=format, name_style=style)
    stream = Stream(name="odd", json_schema=None, sync_mode=SyncMode.APPEND)
    for number in (1, 2):
        with target(moto_s3, settings) as opened:
            land([batch_of([RECORD, {"inner": RECORD}])], opened, stream, sync(str(number)))
    rows = read_scope(moto_s3.open(settings), settings.template, Scope(StreamId(None, "odd"))).to_pylist()
    assert sorted(_values(rows[0])) == sorted(_values(rows[1]["inner"])) == sorted(RECORD.values())
    assert [_values(row) for row in rows[2:]] == [_values(row) for row in rows[:2]]
    assert all("\n" not in name and "\x00" not in name for name in rows[0])


def _values(row: dict[str, Any]) -> list[str]:
    """The texts of a row, and in its overflow, but without the envelope."""
    own = [value for value in row.values() if isinstance(value, str) and value.startswith("value")]
    return own + [value for _, value in row["_airbyte_additional_properties"] or () if value.startswith("value")]
