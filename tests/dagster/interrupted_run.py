"""A run for tests that lands endlessly: `interrupted_run.py BUCKET ENDPOINT KEY SECRET FILE` touches FILE while it
lands."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import dagster as dg

from s3dest_dagster import S3Connection, S3DestinationIOManager, stream_asset

bucket, endpoint, key, secret, begun = sys.argv[1:]


@stream_asset
def endless():
    page = [{"id": number, "text": f"{number:0100}"} for number in range(10_000)]
    for _ in range(20):
        yield page
    Path(begun).touch()
    while True:
        time.sleep(0.02)
        yield page[:1]


if __name__ == "__main__":
    s3 = S3Connection(endpoint=endpoint, access_key_id=key, secret_access_key=secret)
    io = S3DestinationIOManager(s3_bucket_name=bucket, s3=s3, part_size_mb=5, object_size_mb=1)
    dg.materialize([endless], resources={"io_manager": io})
