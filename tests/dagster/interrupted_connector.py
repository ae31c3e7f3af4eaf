"""A run for tests that reads an endless connector: `interrupted_connector.py BUCKET ENDPOINT KEY SECRET SCRIPT`."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg

from s3dest_dagster import AirbyteSource, S3Connection, S3DestinationIOManager, build_stream_assets

bucket, endpoint, key, secret, script = sys.argv[1:]
connector = Path(__file__).parent.parent / "scripted_connector.py"
catalog = {"streams": [{"name": "users", "json_schema": {"type": "object"}, "supported_sync_modes": ["full_refresh"]}]}


if __name__ == "__main__":
    source = AirbyteSource([sys.executable, str(connector), script], stop_grace_s=0.3)
    s3 = S3Connection(
        endpoint=endpoint, access_key_id=key, secret_access_key=secret, region="us-east-1", read_timeout_s=600
    )
    io = S3DestinationIOManager(s3_bucket_name=bucket, s3=s3, part_size_mb=5, object_size_mb=1, abort_grace_s=0.3)
    assets = build_stream_assets(source, catalog=catalog, partitions_def=None)
    dg.materialize(assets, resources={"io_manager": io})
