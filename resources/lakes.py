"""The IO managers that land the streams: all in one bucket, each in a format of its own."""

from typing import Any

from s3dest_dagster import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat, S3DestinationIOManager, S3Resource


def lakes(s3: S3Resource, **bucket_settings: Any) -> dict[str, object]:
    """The resources of an environment that lands in the bucket of `bucket_settings`, reached by `s3`."""
    return {
        "s3": s3,
        "parquet_lake": S3DestinationIOManager(
            s3=s3, **bucket_settings, format=ParquetFormat(compression_codec="SNAPPY")
        ),
        "avro_lake": S3DestinationIOManager(s3=s3, **bucket_settings, format=AvroFormat()),
        "csv_lake": S3DestinationIOManager(
            s3=s3, **bucket_settings, format=CsvFormat(flattening="Root level flattening")
        ),
        "jsonl_lake": S3DestinationIOManager(s3=s3, **bucket_settings, format=JsonlFormat()),
    }
