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
from s3dest_dagster.landing import Sync, land, open_target
from s3dest_dagster.storage import open_bucket
from s3dest_dagster.stream import SyncMode


def main() -> None:
    order = json.loads(sys.stdin.read())
    settings = destination(order["bucket"], object_size_mb=0.001)
    bucket = open_bucket(S3Connection(**order["connection"]), order["bucket"])
    bucket.has_conditional_puts("data/probe")
    sync = Sync(id=order["sync_id"], now=datetime.now(UTC), uuid="0f0f0f0f-0000-4000-8000-000000000000")
    print("ready", flush=True)
    with open_target(settings, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as target:
        first = order["first_id"]
        batches = (batch_of(users(start, start + 9)) for start in range(first, first + 60, 10))
        state = State(stream().id, json.dumps({"first_id": first}).encode(), b"{}")
        land([*batches, state], target, stream(mode=SyncMode(order["mode"])), sync)
    print("done", flush=True)


if __name__ == "__main__":
    main()
