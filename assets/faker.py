"""The streams of the connector source-faker: users and purchases by day, products as a whole.

`faker_catalog.json` was written by `s3dest discover --source .connectors/source-faker/bin/source-faker`.
"""

import os
from pathlib import Path

import dagster as dg

from s3dest_dagster import AirbyteSource, SyncMode, build_stream_assets

_CATALOG = Path(__file__).with_name("faker_catalog.json")
_CONNECTOR = Path(__file__).resolve().parent.parent / ".connectors" / "source-faker" / "bin" / "source-faker"
_COUNT = int(os.environ.get("FAKER_RECORDS", "1000"))


def _source(seed: int | str) -> AirbyteSource:
    return AirbyteSource([str(_CONNECTOR)], {"count": _COUNT, "seed": seed, "parallelism": 2})


def _assets(seed: int | str, **settings: object) -> list[dg.AssetsDefinition]:
    return build_stream_assets(_source(seed), catalog=_CATALOG, key_prefix="faker", group_name="shop", **settings)


faker_assets = [
    *_assets(
        "{{ partition_start_epoch }}",
        streams={"users": SyncMode.APPEND},
        start_date="2026-01-01",
        io_manager_key="parquet_lake",
    ),
    *_assets(
        "{{ partition_start_epoch }}",
        streams={"purchases": SyncMode.APPEND},
        start_date="2026-01-01",
        io_manager_key="avro_lake",
    ),
    *_assets(1, streams={"products": SyncMode.FULL_REFRESH}, partitions_def=None, io_manager_key="csv_lake"),
]
