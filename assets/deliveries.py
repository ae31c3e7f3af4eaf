"""A stream of files: the sensor syncs each CSV file in `inbox/` (or S3DEST_INBOX) as a partition."""

import os
from pathlib import Path

import dagster as dg

from s3dest_dagster import FileSource, build_file_sensor, stream_asset

_DIRECTORY = os.environ.get("S3DEST_INBOX", str(Path(__file__).resolve().parent.parent / "inbox"))
INBOX = FileSource(f"{_DIRECTORY}/{{{{ partition_key }}}}.csv")


@stream_asset(
    namespace="warehouse",
    json_schema={"type": "object", "properties": {"product_id": {"type": "integer"}, "count": {"type": "integer"}}},
    partitions_def=dg.DynamicPartitionsDefinition(name="deliveries"),
    group_name="warehouse",
    io_manager_key="jsonl_lake",
)
def deliveries(context: dg.AssetExecutionContext) -> object:
    """What arrived in the warehouse, one file per delivery."""
    return INBOX.read({"partition_key": context.partition_key})


deliveries_arrive = build_file_sensor(
    INBOX, deliveries, name="deliveries_arrive", default_status=dg.DefaultSensorStatus.RUNNING
)
