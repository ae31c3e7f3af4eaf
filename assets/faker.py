"""The streams of the connector source-faker: users and purchases by day, products as a whole.

The catalog was written by `s3dest discover --source .connectors/source-faker/bin/source-faker`.
"""

import os
from pathlib import Path

import dagster as dg

from s3dest_dagster import AirbyteSource

_ROOT = Path(__file__).resolve().parent.parent
_DAILY = dg.DailyPartitionsDefinition(start_date="2026-01-01")

_by_day = AirbyteSource(
    str(_ROOT / ".connectors" / "source-faker" / "bin" / "source-faker"),
    {
        "count": int(os.environ.get("FAKER_RECORDS", "1000")),
        "seed": "{{ partition_start_epoch }}",
        "parallelism": 2,
    },
)
_as_a_whole = AirbyteSource(_by_day.command, {"seed": 1})
