"""A process that reads PostgreSQL is killed twice, and the next one goes on: no row is lost, none is twice."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from server_variables import server_variables
from servers import S3Server

pytestmark = [pytest.mark.sql, pytest.mark.timeout(900)]

ROWS = int(os.environ.get("S3DEST_SQL_ROWS", "200000"))
CHECKPOINT_MB = ROWS / 100_000
"""About ten checkpoints, of rows of 100 bytes."""
JOB = Path(__file__).parent / "landing_job.py"


def objects(server: S3Server, bucket: str) -> list[str]:
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return [key for key in keys if key.endswith(".parquet")]


def ids(server: S3Server, bucket: str) -> Counter[int]:
    """How often each id is in the objects of the bucket, read without the library."""
    found: Counter[int] = Counter()
    for key in objects(server, bucket):
        body = server.client().get_object(Bucket=bucket, Key=key)["Body"].read()
        found.update(pq.read_table(io.BytesIO(body), columns=["id"])["id"].to_pylist())
    return found


@pytest.mark.parametrize("kind", ["append", "shards"])
def test_a_killed_read_goes_on_and_every_row_lands_once(postgresql, moto_s3, kind):
    rows = f"select i as id, md5(i::text) || md5((7 * i)::text) as note from generate_series(1, {ROWS}) i"
    uri = postgresql("drop table if exists big", f"create table big as {rows}", "alter table big add primary key (id)")
    bucket = moto_s3.new_bucket()
    environment = {
        **os.environ,
        "SHOP_DATABASE": uri,
        **server_variables(moto_s3, bucket),
        "PYTHONPATH": str(JOB.parents[1]),
        "CHECKPOINT_MB": str(CHECKPOINT_MB),
    }
    command = [sys.executable, str(JOB), kind]
    visible = []
    for share in (0.6, 0.3):
        killed = subprocess.run(
            command,
            env={**environment, "KILL_AFTER": str(int(ROWS * share * (1 if kind == "append" else 0.3)))},
            capture_output=True,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        visible.append(sum(ids(moto_s3, bucket).values()))
    if kind == "append":
        assert 0 < visible[0] < visible[1] < ROWS
    else:
        assert visible == [0, 0]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    found = ids(moto_s3, bucket)
    assert (len(found), sum(found.values())) == (ROWS, ROWS)
    print(f"{kind}: {ROWS:,} rows once, after kills with {visible[0]:,} and {visible[1]:,} of them visible")
