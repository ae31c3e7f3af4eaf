"""Runs one sync in its own process, which a test kills. Prints "ready" when it begins and "done" when the sync is
published."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

from land_and_read import DIRECTORIES, batch_of, destination, stream, users, users_of_two_names

from s3dest_dagster.batch import State
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import ParquetFormat
from s3dest_dagster.storage import open_bucket
from s3dest_dagster.stream import Sync, SyncMode

LAST = 12


@dataclass(frozen=True)
class Order:
    """What to land, and where to land it."""

    connection: S3Connection
    bucket: str
    mode: SyncMode
    sync_id: str
    first_id: int
    checkpoints: bool = False
    directories: str = ""
    """The format of a sync whose records get directories. Empty if they get none."""

    def destination(self) -> S3Destination:
        """The settings with which it lands."""
        own: dict[str, Any] = {"checkpoint_mb": 0.000_001} if self.checkpoints else {}
        return destination(self.bucket, object_size_mb=0.001, **own, **settings_of(self.directories))


def settings_of(directories: str) -> dict[str, Any]:
    """The settings of a sync whose records get directories, in a format. Empty if they get none."""
    form = {"format": ParquetFormat()} if directories == "parquet" else {}
    return DIRECTORIES | form if directories else {}


def carry_out(order: Order, said: Connection) -> None:
    """Lands what the order asks for."""
    settings = order.destination()
    bucket = open_bucket(order.connection, order.bucket)
    assert bucket.with_root("data/_s3dest/").abilities
    sync = Sync(id=order.sync_id, now=datetime.now(UTC), uuid="0f0f0f0f-0000-4000-8000-000000000000")
    said.send("ready")
    with open_target(settings, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as target:
        (_resume if order.checkpoints else _land)(target, sync, order)
    said.send("done")


def _land(target: Target, sync: Sync, order: Order) -> None:
    first = order.first_id
    made = users_of_two_names if order.directories else users
    batches = (batch_of(made(start, start + 9)) for start in range(first, first + 60, 10))
    state = State(stream().id, json.dumps({"first_id": first}).encode(), b"{}")
    land([*batches, state], target, stream(mode=order.mode, settings=target.destination), sync)


def _resume(target: Target, sync: Sync, order: Order) -> None:
    """Runs a sync with a source that resumes from the last state, up to `LAST`, with a checkpoint after each record."""
    with Landing(target, stream(mode=order.mode), sync) as landing:
        reached = landing.last_state
        for number in range(json.loads(reached.text)["first_id"] + 1 if reached else 1, LAST + 1):
            landing.append_batch(batch_of(users(number, number)))
            landing.advance_state(State(stream().id, json.dumps({"first_id": number}).encode(), b"{}"))
        landing.commit()
