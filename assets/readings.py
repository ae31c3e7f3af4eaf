"""A stream from a plain Python function: readings of a few sensors, one day at a time."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from s3dest_dagster import stream_asset

_SENSORS = ("attic", "cellar", "garden")
_EVERY = timedelta(minutes=10)


@stream_asset(
    namespace="house",
    json_schema={
        "type": "object",
        "properties": {
            "sensor": {"type": "string", "description": "Where it hangs"},
            "read_at": {"type": "string", "format": "date-time"},
            "celsius": {"type": "number"},
        },
    },
    partitions_def=dg.DailyPartitionsDefinition(start_date="2026-01-01"),
    group_name="house",
    io_manager_key="jsonl_lake",
)
def readings(context: dg.AssetExecutionContext) -> Iterator[dict[str, object]]:
    """Temperatures of one day, every ten minutes."""
    day = datetime.fromisoformat(context.partition_key).replace(tzinfo=UTC)
    weather = random.Random(context.partition_key)
    for step in range(timedelta(days=1) // _EVERY):
        for sensor in _SENSORS:
            celsius = round(weather.gauss(12, 4), 2)
            yield {"sensor": sensor, "read_at": (day + step * _EVERY).isoformat(), "celsius": celsius}
