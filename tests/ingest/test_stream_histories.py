"""Random histories of a stream, with refreshes, partitions, nested fields, decimals, and formats that change: every
live value is found again under its source's name."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import Phase, given, settings
from land_and_read import data_keys
from servers import S3Server
from stream_histories import Step, assert_same, by_source, histories, landed

from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)

FORMATS: dict[str, list[FormatSettings]] = {
    "text": [JsonlFormat(), CsvFormat(flattening=Flattening.ROOT)],
    "typed": [AvroFormat(codec="zstandard"), ParquetFormat(), AvroFormat(), ParquetFormat(compression_codec="ZSTD")],
    "any": [
        AvroFormat(),
        ParquetFormat(),
        JsonlFormat(),
        JsonlFormat(flattening=Flattening.ROOT, compression=TextCompression.NONE),
        CsvFormat(flattening=Flattening.ROOT),
        CsvFormat(compression=TextCompression.NONE),
    ],
}
FEW = settings(max_examples=max(settings().max_examples // 4, 1), phases=[Phase.explicit, Phase.reuse, Phase.generate])


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "inferred"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_live_value_is_found_under_its_name(moto_s3: S3Server, name: str, declared: bool) -> None:
    @FEW
    @given(history=histories(FORMATS[name]))
    def check(history: list[Step]) -> None:
        found = landed(moto_s3, history, declared=declared, name_style="snake")
        loaded = found.loaded()
        assert loaded.record is not None
        # Only manifests know the fields within a value that has another type in a format without types.
        columns = loaded.record.fields if name == "any" else found.columns()
        assert_same([by_source(columns, row) for row in loaded.table().to_pylist()], found.records())

    check()


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "inferred"])
def test_duckdb_finds_every_live_value_in_the_files(moto_s3: S3Server, tmp_path: Path, declared: bool) -> None:
    @FEW
    @given(history=histories([ParquetFormat()]))
    def check(history: list[Step]) -> None:
        found = landed(moto_s3, history, declared=declared, name_style="snake")
        bucket, client = found.settings.s3_bucket_name, moto_s3.client()
        folder = tmp_path / bucket
        folder.mkdir()
        for number, key in enumerate(data_keys(moto_s3, bucket)):
            body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
            (folder / f"{number}.parquet").write_bytes(body)
        table = duckdb.sql(f"from read_parquet('{folder}/*.parquet', union_by_name = true)").to_arrow_table()
        assert_same([by_source(found.columns(), row) for row in table.to_pylist()], found.records())

    check()
