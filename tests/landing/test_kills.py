"""A process that is killed at any moment: the next sync, or `recover`, finds old or new, and nothing twice.

S3DEST_KILLS sets the number of kills for each server and sync mode.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from landed import destination, ids_by_listing, open_uploads, stream
from landing.killed_sync import LAST
from servers import S3Server

from s3dest_dagster.landing import recover, sweep
from s3dest_dagster.stream import Scope, SyncMode

KILLS = int(os.environ.get("S3DEST_KILLS", "5"))
SCRIPT = Path(__file__).with_name("killed_sync.py")


def _begin(
    server: S3Server, bucket: str, mode: SyncMode, number: int, *, checkpoints: bool = False
) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    order = {
        "bucket": bucket,
        "connection": {
            "endpoint": server.endpoint,
            "access_key_id": server.access_key_id,
            "secret_access_key": server.secret_access_key,
            "region": "us-east-1",
        },
        "mode": mode.value,
        "sync_id": f"sync-{number}",
        "first_id": number * 1000,
        "checkpoints": checkpoints,
    }
    process.stdin.write(json.dumps(order))
    process.stdin.close()
    assert process.stdout.readline() == "ready\n"
    return process


def _ids(number: int) -> list[int]:
    return list(range(number * 1000, number * 1000 + 60))


@pytest.mark.timeout(60 + 8 * KILLS)
@pytest.mark.parametrize("mode", list(SyncMode))
def test_a_killed_sync_is_there_as_a_whole_or_not_at_all(any_s3: S3Server, mode: SyncMode) -> None:
    bucket = any_s3.new_bucket()
    settings = destination(bucket)
    scope = Scope(stream().id)
    chance = random.Random(f"{mode} {any_s3.root is None}")
    began = time.monotonic()
    assert _begin(any_s3, bucket, mode, 0).stdout.read() == "done\n"
    patience = time.monotonic() - began
    held = _ids(0)
    for number in range(1, KILLS + 1):
        process = _begin(any_s3, bucket, mode, number)
        time.sleep(chance.random() * patience / 2)
        process.kill()
        process.wait()

        recovered = recover(any_s3.open(settings), settings.template, scope)
        assert recovered.ok, recovered.message
        after = held + _ids(number) if mode is SyncMode.APPEND else _ids(number)
        listed = ids_by_listing(any_s3, bucket)
        assert listed in (held, after)
        assert _reached(any_s3, bucket) == 1000 * (number if listed == after else number - 1)

        assert _begin(any_s3, bucket, mode, number).stdout.read() == "done\n"
        held = after
        assert ids_by_listing(any_s3, bucket) == held
        assert _reached(any_s3, bucket) == 1000 * number
    _sweep_leaves_nothing(any_s3, bucket)


@pytest.mark.timeout(60 + 8 * KILLS)
def test_a_killed_sync_with_checkpoints_goes_on_after_the_last_of_them(moto_s3: S3Server) -> None:
    """The same sync is killed again and again; whatever the moment, the state is that of the records."""
    bucket = moto_s3.new_bucket()
    chance = random.Random("checkpoints")
    began = time.monotonic()
    assert _begin(moto_s3, moto_s3.new_bucket(), SyncMode.APPEND, 0, checkpoints=True).stdout.read() == "done\n"
    patience = time.monotonic() - began
    settings = destination(bucket)
    for _ in range(max(1, KILLS // 2)):
        process = _begin(moto_s3, bucket, SyncMode.APPEND, 1, checkpoints=True)
        time.sleep(chance.random() * patience / 2)
        process.kill()
        process.wait()

        assert recover(moto_s3.open(settings), settings.template, Scope(stream().id)).ok
        listed = ids_by_listing(moto_s3, bucket)
        assert listed == list(range(1, len(listed) + 1))
        assert not listed or _reached(moto_s3, bucket) == listed[-1]
    assert _begin(moto_s3, bucket, SyncMode.APPEND, 1, checkpoints=True).stdout.read() == "done\n"
    assert ids_by_listing(moto_s3, bucket) == list(range(1, LAST + 1))
    _sweep_leaves_nothing(moto_s3, bucket)


def _reached(server: S3Server, bucket: str) -> int:
    """The first id of the sync whose state the manifests tell."""
    client, root = server.client(), "data/_s3dest/public/users/~/"
    head = json.loads(client.get_object(Bucket=bucket, Key=f"{root}head.json")["Body"].read())
    segment = json.loads(client.get_object(Bucket=bucket, Key=f"{root}segments/{head['state']}.json")["Body"].read())
    return json.loads(segment["state"])["first_id"]


def _sweep_leaves_nothing(server: S3Server, bucket: str) -> None:
    settings = destination(bucket, abandoned_upload_age_s=0)
    sweep(server.open(settings), settings, stream().id, now=datetime.now(UTC) + timedelta(seconds=5))
    assert open_uploads(server, bucket) == 0
