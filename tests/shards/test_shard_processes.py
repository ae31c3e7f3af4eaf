"""Workers and drivers that are stopped, killed or have a wrong clock, as processes of the operating system."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from land_and_read import batch_of, data_keys, destination, ids_by_listing, open_uploads, stream, sync, target, users
from process_pool import PROCESSES
from servers import S3Server

from s3dest_dagster.commit.maintenance import recover
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards import Order, ShardReceipt, begin, commit, stage
from s3dest_dagster.storage import open_bucket
from s3dest_dagster.stream import Scope

pytestmark = pytest.mark.timeout(600)
WAIT_S = 120
RECORDS = [(1, 10), (11, 20), (21, 30)]
"""Each batch fills an object."""


def _begin(server: S3Server, settings: S3Destination) -> Order:
    with target(server, settings) as opened:
        return begin(opened, stream(), sync("first"))


def _batches() -> list[Any]:
    return [batch_of(users(first, last)) for first, last in RECORDS]


def _stage_and_stop(order: str, connection: S3Connection, bucket: str, folder: str) -> None:
    """A worker that stops after it has uploaded an object, until it is continued."""

    def batches() -> Iterator[Any]:
        first, second, third = _batches()
        yield first
        yield second
        opened, deadline = open_bucket(connection, bucket), time.monotonic() + WAIT_S
        while not list(opened.list_uploads("")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGSTOP)
        yield third

    receipt = stage(Order.from_json(order), batches(), shard=0, s3=connection)
    Path(folder, "receipt.json").write_text(receipt.to_json())


def _commit_and_die(order: str, receipts: list[str], connection: S3Connection, bucket: str) -> None:
    """A driver that is killed when it publishes the first object, after the decision."""
    opened = open_bucket(connection, bucket)
    opened.client.meta.events.register(
        "before-call.s3.CompleteMultipartUpload", lambda **_: os.kill(os.getpid(), signal.SIGKILL)
    )
    commit(Order.from_json(order), map(ShardReceipt.from_json, receipts), shards=2, s3=opened)


def _wait_for_stop(pid: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc says whether a process is stopped")
def test_a_worker_that_is_stopped_beyond_the_commit_keeps_nothing(moto_s3: S3Server, tmp_path: Path) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    order = _begin(moto_s3, settings)
    given = (order.to_json(), moto_s3.connection, settings.s3_bucket_name, str(tmp_path))
    worker = PROCESSES.Process(target=_stage_and_stop, args=given)
    worker.start()
    assert worker.pid is not None
    _wait_for_stop(worker.pid)
    assert open_uploads(moto_s3, settings.s3_bucket_name) > 0
    commit(order, [stage(order, users(1, 5), shard=0, s3=moto_s3.connection)], shards=1, s3=moto_s3.connection)
    os.kill(worker.pid, signal.SIGCONT)
    worker.join(WAIT_S)
    assert worker.exitcode == 0
    receipt = ShardReceipt.from_json((tmp_path / "receipt.json").read_text())
    assert (receipt.complete, receipt.objects) == (True, ())
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1, 2, 3, 4, 5]
    assert open_uploads(moto_s3, settings.s3_bucket_name) == 0


def test_a_driver_that_is_killed_after_the_decision_is_finished_by_recover(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    order, name = _begin(moto_s3, settings), settings.s3_bucket_name
    receipts = [stage(order, _batches(), shard=shard, s3=moto_s3.connection) for shard in (0, 1)]
    stage(order, _batches(), shard=1, s3=moto_s3.connection)  # a second attempt, which loses
    texts = [each.to_json() for each in receipts]
    driver = PROCESSES.Process(target=_commit_and_die, args=(order.to_json(), texts, moto_s3.connection, name))
    driver.start()
    driver.join(WAIT_S)
    assert driver.exitcode == -signal.SIGKILL
    assert ids_by_listing(moto_s3, name) == []
    bucket, scope = moto_s3.open(settings), Scope(stream().id)
    assert recover(bucket, settings.template, scope).ok
    expected = sorted(2 * list(range(1, 31)))
    assert ids_by_listing(moto_s3, name) == expected
    assert verify(bucket, settings.template, scope, deep=True).problems == ()
    assert commit(order, receipts, shards=2, s3=bucket).repeated
    assert ids_by_listing(moto_s3, name) == expected
    assert open_uploads(moto_s3, name) == 0


@pytest.mark.parametrize("days", [-1, 1])
def test_a_worker_whose_clock_is_a_day_off_writes_where_the_others_do(moto_s3: S3Server, days: int) -> None:
    settings = destination(
        moto_s3.new_bucket(), s3_path_format="${STREAM_NAME}/${YEAR}-${MONTH}-${DAY}/${HOUR}_", delete_grace_s=60
    )
    order = _begin(moto_s3, settings)
    off = datetime.now(UTC) + timedelta(days=days)
    receipts = [
        stage(order, users(1, 2), shard=0, s3=moto_s3.connection),
        stage(order, users(3, 4), shard=1, s3=moto_s3.connection, clock=lambda: off),
    ]
    commit(order, receipts, shards=2, s3=moto_s3.connection)
    prefixes = {key.rpartition("_")[0] for key in data_keys(moto_s3, settings.s3_bucket_name)}
    assert len(prefixes) == 1
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1, 2, 3, 4]
