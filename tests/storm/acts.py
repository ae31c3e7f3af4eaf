"""One act of a process in a storm: a sync, or another command. The process may be killed at any moment."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from multiprocessing.connection import Connection

from land_and_read import batch_of, users, users_of_two_names
from storm.kinds import BY_NAME, Kind

from s3dest_dagster.batch import BadRecord, SourceItem, State
from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.commit.states import change_state
from s3dest_dagster.errors import CommitError, ObjectNotFoundError, ObjectReplacedError, S3DestError, SupersededError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Sync

RECORDS = 60
"""Records of a sync. Those of sync number 7 are 7000 to 7059."""
STEP = 1000
CHECKPOINTED = 8
"""Records that one sync with checkpoints adds."""


class Verb(StrEnum):
    """What a process does."""

    WRITE = "write"
    RECOVER = "recover"
    SWEEP = "sweep"
    VERIFY = "verify"
    SET_STATE = "set state"


class Outcome(StrEnum):
    """How an act ended. KILLED does not say whether its work was done. Neither does GAVE_UP, because its work may
    still be completed."""

    DONE = "done"
    REPEATED = "repeated"
    SUPERSEDED = "superseded"
    GAVE_UP = "gave up"
    FAULT = "fault"
    KILLED = "killed"


@dataclass(frozen=True)
class Act:
    """A process of the storm. `number` is that of its sync, or of the state that it sets."""

    connection: S3Connection
    bucket: str
    sweeps: bool
    verb: Verb
    kind: str
    day: str | None
    number: int

    @property
    def of(self) -> Kind:
        return BY_NAME[self.kind]

    @property
    def settings(self) -> S3Destination:
        return self.of.destination(self.bucket, sweeps=self.sweeps)


def carry_out_alone(act: Act, said: Connection) -> None:
    """Runs the act as the only job of its process: warnings are silent, and a crash shows its location."""
    faulthandler.enable()
    logging.getLogger("s3dest_dagster").setLevel(logging.ERROR)
    carry_out(act, said)


def carry_out(act: Act, said: Connection) -> None:
    """Runs the act. Prints "ready" when it begins, and at the end its outcome with a message."""
    bucket = open_bucket(replace(act.connection, max_attempts=4), act.settings)
    said.send("ready")
    try:
        said.send(_DOES[act.verb](act, bucket))
    except SupersededError as error:
        said.send((Outcome.SUPERSEDED, error.message))
    except CommitError as error:
        said.send((Outcome.GAVE_UP, error.message))
    except S3DestError as error:
        said.send((Outcome.FAULT, f"{type(error).__name__}: {error.message}"))


def state_text(number: int) -> str:
    """The state that the sync, or `state set`, of this number sets."""
    return json.dumps({"number": number}, separators=(",", ":"))


def bad_line(number: int) -> bytes:
    """The line of a dirty sync that is not a record."""
    return b"bad line of sync %d" % number


Said = tuple[Outcome, str]


def _write(act: Act, bucket: Bucket) -> Said:
    kind = act.of
    sync = Sync(f"sync-{act.number}", datetime.now(UTC), str(uuid.UUID(int=act.number)))
    with open_target(act.settings, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as target:
        if kind.checkpoints:
            with Landing(target, kind.stream, sync) as landing:
                last = _resume(landing, kind)
                landing.commit()
            return Outcome.DONE, str(last)
        receipt = land(_items(act), target, kind.stream, sync, scope=kind.scope(act.day))
    return (Outcome.REPEATED if receipt.repeated else Outcome.DONE), ""


def _items(act: Act) -> Iterator[SourceItem]:
    first, kind = act.number * STEP, act.of
    for start in range(first, first + RECORDS, 10):
        made = users_of_two_names if kind.has_directories else users
        yield batch_of(made(start, start + 9))
        if kind.dirty and start == first:
            yield BadRecord(kind.stream.id, bad_line(act.number), "no JSON")
    yield State(kind.stream.id, state_text(act.number).encode(), b"{}")


def _resume(landing: Landing, kind: Kind) -> int:
    """A source that resumes from the last state, with a checkpoint after each record."""
    reached = landing.last_state
    first = json.loads(reached.text)["number"] + 1 if reached else 1
    for number in range(first, first + CHECKPOINTED):
        landing.append_batch(batch_of(users(number, number)))
        landing.advance_state(State(kind.stream.id, state_text(number).encode(), b"{}"))
    return first + CHECKPOINTED - 1


def _recover(act: Act, bucket: Bucket) -> Said:
    recovered = recover(bucket, act.settings.template, act.of.scope(act.day))
    if recovered.ok:
        return Outcome.DONE, recovered.sync_id or ""
    return Outcome.GAVE_UP, recovered.message


def _sweep(act: Act, bucket: Bucket) -> Said:
    swept = sweep(bucket, act.settings, act.of.stream.id, now=datetime.now(UTC))
    return Outcome.DONE, str(swept.aborted)


def _verify(act: Act, bucket: Bucket) -> Said:
    """Verifies deeply and reads by the manifest. Neither may see a part of a sync, whatever else is running."""
    kind, scope, template = act.of, act.of.scope(act.day), act.settings.template
    if kind.settings.get("publish_order") == "purge_first":
        return Outcome.DONE, ""  # whose objects may be missing for a moment, as is documented
    verified = verify(bucket, template, scope, deep=True)
    if verified.problems:
        return Outcome.FAULT, f"verify: {verified.problems[0]}"
    try:
        table = read_scope(bucket, template, scope)
    except (ObjectNotFoundError, ObjectReplacedError) as error:
        return Outcome.GAVE_UP, error.message
    ids = sorted(_read_ids(table.to_pylist())) if table is not None else []
    return (Outcome.FAULT, torn) if (torn := torn_syncs(kind, ids)) else (Outcome.DONE, "")


def _read_ids(rows: list[dict]) -> Iterator[int]:
    for row in rows:
        data = row.get("_airbyte_data")
        yield row["id"] if data is None else (json.loads(data) if isinstance(data, str) else data)["id"]


def torn_syncs(kind: Kind, ids: list[int]) -> str:
    """Why these sorted ids do not form whole syncs without duplicates, or "" if they do."""
    if kind.checkpoints:
        return "" if ids == list(range(1, len(ids) + 1)) else f"{kind.name}: not one after another: {ids[:50]}"
    numbers = sorted({each // STEP for each in ids})
    whole = [number * STEP + place for number in numbers for place in range(RECORDS)]
    if ids != whole:
        lost, more = sorted(set(whole) - set(ids)), sorted(each for each in set(ids) if ids.count(each) > 1)
        return f"{kind.name}: lost {lost[:5]}, doubled {more[:5]} of syncs {numbers}"
    if not kind.adds and len(numbers) > 1:
        return f"{kind.name}: syncs {numbers} are mixed"
    return ""


def _set_state(act: Act, bucket: Bucket) -> Said:
    sync = Sync(f"state-{act.number}", datetime.now(UTC), str(uuid.uuid4()))
    change_state(
        bucket,
        act.settings,
        act.of.scope(act.day),
        state_text(act.number),
        sync,
        attempt=os.urandom(4).hex(),
        clock=lambda: datetime.now(UTC),
    )
    return Outcome.DONE, ""


_DOES = {
    Verb.WRITE: _write,
    Verb.RECOVER: _recover,
    Verb.SWEEP: _sweep,
    Verb.VERIFY: _verify,
    Verb.SET_STATE: _set_state,
}
