"""A stream from a plain Python function: readings of a few sensors, for one day or for a range of days in one run."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from s3dest_dagster import build_landing_checks, stream_asset

_SENSORS = ("attic", "cellar", "garden")
_EVERY = timedelta(minutes=10)


@stream_asset(
    namespace="house",
    json_schema={
        "type": "object",
        "properties": {
            "sensor": {"type": "string", "description": "Where it hangs"},
            "read_at": {"type": "string", "format": "date-time", "description": "When, in UTC"},
            "celsius": {"type": "number", "description": "Temperature in °C"},
        },
    },
    partitions_def=dg.DailyPartitionsDefinition(start_date="2026-01-01"),
    backfill_policy=dg.BackfillPolicy.single_run(),
    freshness_policy=dg.FreshnessPolicy.cron(deadline_cron="0 6 * * *", lower_bound_delta=timedelta(hours=5)),
    group_name="house",
    kinds={"python", "json"},
    io_manager_key="jsonl_lake",
)
def readings(context: dg.AssetExecutionContext) -> Iterator[tuple[str, Iterator[dict[str, object]]]]:
    """Temperatures of one day, every ten minutes."""
    for day in context.partition_keys:
        yield day, _readings_of(day)


def _readings_of(day: str) -> Iterator[dict[str, object]]:
    midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
    weather = random.Random(day)
    for step in range(timedelta(days=1) // _EVERY):
        for sensor in _SENSORS:
            celsius = round(weather.gauss(12, 4), 2)
            yield {"sensor": sensor, "read_at": (midnight + step * _EVERY).isoformat(), "celsius": celsius}


readings_checks = build_landing_checks([readings], fresh_within=timedelta(days=2))

readings_every_night = dg.build_schedule_from_partitioned_job(
    dg.define_asset_job("readings_of_a_day", selection=[readings]),
    hour_of_day=1,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
