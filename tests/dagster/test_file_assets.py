"""Files as streams: an asset lands their records in the bucket."""

from __future__ import annotations

import io
import json

import dagster as dg
import pyarrow.parquet as pq
import pytest

from s3dest_dagster import FileSource, ParquetFormat, stream_asset

SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "at": {"type": "string", "format": "date"}},
}


def test_csv_texts_get_the_types_of_the_schema_and_none_is_lost(lake, tmp_path, metadata_of):
    (tmp_path / "a.csv").write_text("id,name,at\n1,A,2026-01-05\n007,,soon\n")

    @stream_asset(json_schema=SCHEMA)
    def people():
        return FileSource(f"{tmp_path}/*.csv").read()

    result = lake.materialize(people, io=lake.io(format=ParquetFormat()))
    (key,) = lake.data_keys()
    found = pq.read_table(io.BytesIO(lake.body(key))).to_pylist()
    assert [(each["id"], each["name"], str(each["at"])) for each in found] == [
        (1, "A", "2026-01-05"),
        (None, None, "None"),
    ]
    assert metadata_of(result, "people")["overflowed"] == 2
    assert dict(found[1]["_airbyte_additional_properties"]) == {"id": "007", "at": "soon"}


def test_each_partition_of_a_run_reads_its_own_files(lake, tmp_path):
    for day in (5, 6):
        (tmp_path / f"2026-01-0{day}.jsonl").write_text(f'{{"id": {day}}}\n')
    inbox = FileSource(f"{tmp_path}/{{{{ partition_key }}}}.jsonl")

    @stream_asset(
        partitions_def=dg.DailyPartitionsDefinition("2026-01-01"), backfill_policy=dg.BackfillPolicy.single_run()
    )
    def people(context: dg.AssetExecutionContext):
        return {key: inbox.read({"partition_key": key}) for key in context.partition_keys}

    tags = {"dagster/asset_partition_range_start": "2026-01-05", "dagster/asset_partition_range_end": "2026-01-06"}
    lake.materialize(people, tags=tags)
    assert lake.ids() == [5, 6]


@pytest.mark.parametrize(("settings", "kept"), [({}, None), ({"on_bad_record": "quarantine"}, 1)])
def test_an_invalid_line_is_a_failure_or_is_quarantined(lake, tmp_path, metadata_of, settings, kept):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id":\n')

    @stream_asset
    def people():
        return FileSource(f"{tmp_path}/*.jsonl").read()

    result = lake.materialize(people, io=lake.io(**settings), raise_on_error=False)
    assert result.success is (kept is not None)
    assert kept is None or metadata_of(result, "people")["quarantined"] == kept


def test_a_missing_file_fails_and_leaves_the_landed_data(lake, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n')

    @stream_asset
    def people():
        return FileSource(str(path)).read()

    lake.materialize(people)
    path.unlink()
    with pytest.raises(dg.Failure, match=r"No file matches .*a\.jsonl"):
        lake.materialize(people)
    assert lake.ids() == [1]


def test_a_bad_row_is_reported_and_quarantined_with_its_file_and_line(lake, tmp_path):
    (tmp_path / "a.csv").write_text("id,name\n1,A\n2\n")

    @stream_asset
    def people():
        return FileSource(f"{tmp_path}/*.csv").read()

    place = f"line 3 of {tmp_path}/a.csv"
    with pytest.raises(dg.Failure, match=f"{place} is no record: it has 1 cell,"):
        lake.materialize(people)
    lake.materialize(people, io=lake.io(on_bad_record="quarantine"))
    (kept,) = [json.loads(lake.body(each)) for each in lake.all_keys() if "/quarantine/" in each]
    assert (kept["file"], kept["line_number"], kept["line"]) == (f"{tmp_path}/a.csv", 3, "2")
