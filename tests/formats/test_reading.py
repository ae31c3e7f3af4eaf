"""Objects are read back that differ from those just written."""

from __future__ import annotations

import datetime as dt
import io

import pytest
from encoded import batch_of, stream_of, user, written

from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import read_table
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)

FLAT = Flattening.ROOT
FORMATS = [
    JsonlFormat(),
    JsonlFormat(flattening=Flattening.ROOT),
    CsvFormat(),
    CsvFormat(flattening=Flattening.ROOT),
    AvroFormat(codec="Deflate"),
    ParquetFormat(),
    ParquetFormat(union_layout="member"),
    ParquetFormat(union_layout="typed"),
]
BEFORE = stream_of({"id": {"type": "integer"}, "born": {"type": "string", "format": "date"}})
NOW = stream_of({"id": {"type": "integer"}, "born": {"type": "string", "format": "date"}, "new": {"type": "number"}})


@pytest.mark.parametrize("chosen", FORMATS, ids=repr)
def test_columns_missing_from_an_older_object_are_null(chosen):
    data = written(chosen, BEFORE, [batch_of([{"id": 1, "born": "2001-02-03"}])])
    table = read_table(chosen, NOW, data)
    assert table.column_names[2:] == ["id", "born", "new", "_airbyte_additional_properties"]
    assert table["id"].to_pylist() == [1]
    assert table["new"].to_pylist() == [None]


@pytest.mark.parametrize("chosen", FORMATS, ids=repr)
def test_files_and_views_are_read_like_bytes(chosen):
    data = written(chosen, BEFORE, [batch_of([{"id": 1}])])
    expected = read_table(chosen, BEFORE, data)
    assert read_table(chosen, BEFORE, io.BytesIO(data)).equals(expected)
    assert read_table(chosen, BEFORE, memoryview(data)).equals(expected)


@pytest.mark.parametrize("chosen", FORMATS, ids=repr)
def test_dates_before_the_common_era_are_read_as_texts(chosen):
    records = [{"id": 1, "born": "0044-03-15 BC"}, {"id": 2, "born": "2001-02-03"}]
    table = read_table(chosen, BEFORE, written(chosen, BEFORE, [batch_of(records)]))
    assert table["born"].to_pylist() == [None, dt.date(2001, 2, 3)]
    assert table["_airbyte_additional_properties"].to_pylist() == [[("born", "0044-03-15 BC")], None]


def test_a_list_with_a_text_that_is_no_date_overflows_as_json():
    stream = stream_of({"days": {"type": "array", "items": {"type": "string", "format": "date"}}})
    batch = batch_of([{"days": ["2001-02-03", None, "soon"]}])
    for chosen in (JsonlFormat(), AvroFormat(), ParquetFormat(union_layout="member")):
        row = read_table(chosen, stream, written(chosen, stream, [batch])).to_pylist()[0]
        assert row["days"] is None
        assert row["_airbyte_additional_properties"] == [("days", '["2001-02-03",null,"soon"]')]


@pytest.mark.parametrize("chosen", [*FORMATS, CsvFormat(flattening=FLAT, additional_properties_column=True)], ids=repr)
def test_the_earlier_value_of_a_repeated_name_is_read_back(chosen):
    data = written(chosen, BEFORE, [batch_of([b'{"id":1,"z":1,"id":2,"z":[2],"born":"2001-02-03"}'])])
    (row,) = read_table(chosen, BEFORE, data).to_pylist()
    assert (row["id"], row["born"]) == (2, dt.date(2001, 2, 3))
    if chosen != CsvFormat(flattening=FLAT):  # which has no place for it
        earlier = [("_airbyte_additional_properties.z", "1"), ("id", "1"), ("z", "[2]")]
        assert row["_airbyte_additional_properties"] == earlier


def test_an_undeclared_field_of_csv_is_read_from_its_column():
    chosen = CsvFormat(flattening=Flattening.ROOT, additional_properties_column=True)
    stream = stream_of()
    rows = read_table(chosen, stream, written(chosen, stream, [batch_of([user(0)])])).to_pylist()
    assert ("beyond", '{"deep":[1.5,null]}') in rows[0]["_airbyte_additional_properties"]


def test_objects_without_gzip_are_read_under_gzip_settings():
    data = written(JsonlFormat(compression=TextCompression.NONE), BEFORE, [batch_of([{"id": 1}])])
    assert read_table(JsonlFormat(), BEFORE, data)["id"].to_pylist() == [1]


def test_damaged_csv_is_reported_with_its_position():
    with pytest.raises(RecordError, match="damaged at byte"):
        read_table(CsvFormat(), BEFORE, b'"_airbyte_ab_id","_airbyte_emitted_at"\r\n"a"b,1\r\n')
