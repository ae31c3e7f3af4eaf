"""The streams of the connector source-faker: users and purchases by day, products as a whole.

`faker_catalog.json` was written by `s3dest discover --source .connectors/source-faker/bin/source-faker`.
"""

import os
from pathlib import Path

from s3dest_dagster import AirbyteSource, build_stream_assets

_CATALOG = Path(__file__).with_name("faker_catalog.json")
_CONNECTOR = Path(__file__).resolve().parent.parent / ".connectors" / "source-faker" / "bin" / "source-faker"


def _source(seed: int | str) -> AirbyteSource:
    """The connector; equal seeds make up equal records, as long as one worker makes them."""
    count = int(os.environ.get("FAKER_RECORDS", "1000"))
    return AirbyteSource([str(_CONNECTOR)], {"count": count, "seed": seed, "parallelism": 1})


_another_each_day = _source("{{ partition_start_epoch }}")

users = build_stream_assets(
    _another_each_day,
    catalog=_CATALOG,
    streams={"users": "append"},
    start_date="2026-01-01",
    key_prefix="faker",
    group_name="shop",
    io_manager_key="parquet_lake",
)

purchases = build_stream_assets(
    _another_each_day,
    catalog=_CATALOG,
    streams={"purchases": "append"},
    start_date="2026-01-01",
    key_prefix="faker",
    group_name="shop",
    io_manager_key="avro_lake",
)

products = build_stream_assets(
    _source(1),
    catalog=_CATALOG,
    streams={"products": "full_refresh"},
    partitions_def=None,
    key_prefix="faker",
    group_name="shop",
    io_manager_key="csv_lake",
)
