"""A process is killed at any moment: the next sync, or `recover`, finds either the old or the new records, and none
twice.

S3DEST_KILLS sets the number of kills for each server and sync mode.
"""

from __future__ import annotations

import json
import os
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from commit.killed_sync import LAST, Order, carry_out, settings_of
from land_and_read import destination, ids_by_listing, open_uploads, stream
from process_pool import PROCESSES
from servers import S3Server

from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.stream import Scope, SyncMode

KILLS = int(os.environ.get("S3DEST_KILLS", "2"))


class Killable:
    """A process that has begun to land."""

    def __init__(self, server: S3Server, bucket: str, mode: SyncMode, number: int, **order: Any) -> None:
        self._heard, said = PROCESSES.Pipe(duplex=False)
        asked = Order(server.connection, bucket, mode, f"sync-{number}", number * 1000, **order)
        self._process = PROCESSES.Process(target=carry_out, args=(asked, said))
        self._process.start()
        said.close()
        assert self._heard.recv() == "ready"
        self._began = time.monotonic()

    def end(self) -> float:
        """Waits until everything is published, and returns the seconds that this took."""
        assert self._heard.recv() == "done"
        self._process.join()
        return time.monotonic() - self._began

    def kill(self, seconds: float) -> None:
        """Kills the process after this time."""
        time.sleep(seconds)
        self._process.kill()
        self._process.join()


def _ids(number: int) -> list[int]:
    return list(range(number * 1000, number * 1000 + 60))


@pytest.mark.timeout(120 + 8 * KILLS)
@pytest.mark.parametrize("mode", list(SyncMode))
def test_a_killed_sync_is_published_completely_or_not_at_all(any_s3: S3Server, mode: SyncMode) -> None:
    _killed_again_and_again(any_s3, mode)


@pytest.mark.timeout(120 + 8 * KILLS)
@pytest.mark.parametrize(("mode", "form"), [(SyncMode.FULL_REFRESH, "parquet"), (SyncMode.APPEND, "jsonl")])
def test_all_directories_of_a_killed_sync_are_published_or_none(moto_s3: S3Server, mode: SyncMode, form: str) -> None:
    _killed_again_and_again(moto_s3, mode, directories=form)


def _killed_again_and_again(any_s3: S3Server, mode: SyncMode, **order: Any) -> None:
    bucket = any_s3.new_bucket()
    settings = destination(bucket, **settings_of(order.get("directories", "")))
    scope = Scope(stream().id)
    chance = random.Random(f"{mode} {any_s3.root is None}")
    retry_policy = Killable(any_s3, bucket, mode, 0, **order).end()
    opened = any_s3.open(settings)
    held = _ids(0)
    for number in range(1, KILLS + 1):
        Killable(any_s3, bucket, mode, number, **order).kill(chance.random() * retry_policy)

        recovered = recover(opened, settings.template, scope)
        assert recovered.ok, recovered.message
        after = held + _ids(number) if mode is SyncMode.APPEND else _ids(number)
        listed = ids_by_listing(any_s3, bucket)
        assert listed in (held, after)
        assert _reached(any_s3, bucket) == 1000 * (number if listed == after else number - 1)

        Killable(any_s3, bucket, mode, number, **order).end()
        held = after
        assert ids_by_listing(any_s3, bucket) == held
        assert _reached(any_s3, bucket) == 1000 * number
    _sweep_leaves_nothing(any_s3, bucket)


@pytest.mark.timeout(120 + 8 * KILLS)
def test_a_killed_sync_resumes_after_its_last_checkpoint(moto_s3: S3Server) -> None:
    """The same sync is killed repeatedly. At every moment, the state matches the records."""
    bucket = moto_s3.new_bucket()
    chance = random.Random("checkpoints")
    retry_policy = Killable(moto_s3, moto_s3.new_bucket(), SyncMode.APPEND, 0, checkpoints=True).end()
    settings = destination(bucket)
    opened = moto_s3.open(settings)
    for _ in range(max(1, KILLS // 2)):
        Killable(moto_s3, bucket, SyncMode.APPEND, 1, checkpoints=True).kill(chance.random() * retry_policy)

        assert recover(opened, settings.template, Scope(stream().id)).ok
        listed = ids_by_listing(moto_s3, bucket)
        assert listed == list(range(1, len(listed) + 1))
        assert not listed or _reached(moto_s3, bucket) == listed[-1]
    Killable(moto_s3, bucket, SyncMode.APPEND, 1, checkpoints=True).end()
    assert ids_by_listing(moto_s3, bucket) == list(range(1, LAST + 1))
    _sweep_leaves_nothing(moto_s3, bucket)


def _reached(server: S3Server, bucket: str) -> int:
    """The first id of the sync whose state the manifests record."""
    client, root = server.client(), "data/_s3dest/public/users/~/"
    head = json.loads(client.get_object(Bucket=bucket, Key=f"{root}head.json")["Body"].read())
    segment = json.loads(
        client.get_object(Bucket=bucket, Key=f"{root}segments/{head['state_segment']}.json")["Body"].read()
    )
    return json.loads(segment["state"]["text"])["first_id"]


def _sweep_leaves_nothing(server: S3Server, bucket: str) -> None:
    settings = destination(bucket, abandoned_upload_age_s=0)
    sweep(server.open(settings), settings, stream().id, now=datetime.now(UTC) + timedelta(seconds=5))
    assert open_uploads(server, bucket) == 0
