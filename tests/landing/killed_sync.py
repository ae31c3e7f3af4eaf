"""One sync in a process of its own, to be killed: says "ready" when it begins and "done" when it is published."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from landed import batch_of, destination, stream, users

from s3dest_dagster.batch import State
from s3dest_dagster.connection import S3Connection
from s3dest_dagster.landing import Landing, Sync, Target, land, open_target
from s3dest_dagster.storage import open_bucket
from s3dest_dagster.stream import SyncMode

LAST = 12


def _go_on(target: Target, sync: Sync) -> None:
    """A sync whose source goes on from the state that was reached: up to `LAST`, with a checkpoint at each record."""
    with Landing(target, stream(mode=SyncMode.APPEND), sync) as landing:
        reached = landing.last_state
        for number in range(json.loads(reached.text)["first_id"] + 1 if reached else 1, LAST + 1):
            landing.write(batch_of(users(number, number)))
            landing.reached(State(stream().id, json.dumps({"first_id": number}).encode(), b"{}"))
        landing.commit()


def main() -> None:
    order = json.loads(sys.stdin.read())
    own = {"checkpoint_mb": 0.000_001} if order["checkpoints"] else {}
    settings = destination(order["bucket"], object_size_mb=0.001, **own)
    bucket = open_bucket(S3Connection(**order["connection"]), order["bucket"])
    bucket.has_conditional_puts("data/probe")
    sync = Sync(id=order["sync_id"], now=datetime.now(UTC), uuid="0f0f0f0f-0000-4000-8000-000000000000")
    print("ready", flush=True)
    with open_target(settings, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as target:
        if order["checkpoints"]:
            _go_on(target, sync)
            print("done", flush=True)
            return
        first = order["first_id"]
        batches = (batch_of(users(start, start + 9)) for start in range(first, first + 60, 10))
        state = State(stream().id, json.dumps({"first_id": first}).encode(), b"{}")
        land([*batches, state], target, stream(mode=SyncMode(order["mode"])), sync)
    print("done", flush=True)


if __name__ == "__main__":
    main()
