"""The products of the connector source-faker, unpartitioned. `shop/defs.yaml` has its other streams, in YAML."""

import os
from pathlib import Path

import dagster as dg

from s3dest_dagster import AirbyteSource, build_stream_assets

_HERE = Path(__file__).resolve().parent
_CONNECTOR = _HERE.parent / ".connectors" / "source-faker" / "bin" / "source-faker"

products = build_stream_assets(
    AirbyteSource(
        [str(_CONNECTOR)], {"count": int(os.environ.get("FAKER_RECORDS", "1000")), "seed": 1, "parallelism": 1}
    ),
    catalog=_HERE / "shop" / "catalog.json",
    streams={"products": "full_refresh"},
    partitions_def=None,
    key_prefix="faker",
    group_name="shop",
    io_manager_key="csv_lake",
    automation_condition=dg.AutomationCondition.missing() & ~dg.AutomationCondition.in_progress(),
)
