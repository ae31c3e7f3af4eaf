"""The end of a storm: after recover and sweep nothing is lost, doubled, mixed or left over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from land_and_read import open_uploads
from servers import S3Server
from storm.acts import Verb, bad_line, state_text, torn_syncs
from storm.history import History, acknowledged, may_have_landed, was_outlived
from storm.kinds import KINDS, Kind, ids_in

from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.inspection.read import live_objects
from s3dest_dagster.inspection.verify import verify

FOREIGN = ("notes.txt", "archive/0.csv", "latest.txt")
"""Names of objects under each stream's prefix that are not ours."""
CONTENT = b"mine"
_LANDS = (Verb.WRITE, Verb.SET_STATE)


@dataclass
class RecoverResult:
    """The results of the last recover."""

    recovered: int = 0
    rolled_back: int = 0


def put_foreign(server: S3Server, bucket: str) -> None:
    """Puts foreign objects that the storm must leave alone."""
    for kind in KINDS:
        for name in FOREIGN:
            server.client().put_object(Bucket=bucket, Key=kind.prefix + name, Body=CONTENT)


def recover_all(server: S3Server, bucket: str, *, sweeps: bool) -> tuple[RecoverResult, list[str]]:
    """Recovers and sweeps everything, as a person does after a storm. Returns the problems."""
    result, faults = RecoverResult(), []
    for kind in KINDS:
        settings = kind.destination(bucket, sweeps=sweeps)
        opened = server.open(settings)
        for day in kind.days:
            first = recover(opened, settings.template, kind.scope(day))
            result.recovered += first.ok and first.sync_id is not None
            result.rolled_back += not first.ok
            again = first if first.ok else recover(opened, settings.template, kind.scope(day))
            if not again.ok:
                faults.append(f"recover of {kind.scope(day)}: {again.message}")
        now = datetime.now(UTC) + timedelta(days=1)
        sweep(opened, replace(settings, abandoned_upload_age_s=0), kind.stream.id, now=now)
    return result, faults


def faults_of(server: S3Server, bucket: str, history: History, *, sweeps: bool) -> list[str]:
    """Everything that is wrong with the bucket, according to an independent reader and verify."""
    objects = _all_objects(server, bucket)
    faults = [f"{open_uploads(server, bucket)} uploads are pending"] if open_uploads(server, bucket) else []
    faults += [f"{key} is left over" for key in objects if "probe" in key]
    for kind in KINDS:
        faults += _foreign_faults(kind, objects)
        for day in kind.days:
            of_scope = {key: body for key, body in objects.items() if key.startswith(_root(kind, day))}
            ours = {key: body for key, body in of_scope.items() if key.removeprefix(kind.prefix) not in FOREIGN}
            faults += [f"{kind.scope(day)}: {each}" for each in _scope_faults(kind, day, ours, objects, history)]
            faults += _manifest_faults(server, bucket, kind, day, set(ours), sweeps=sweeps)
    return faults


def _all_objects(server: S3Server, bucket: str) -> dict[str, bytes]:
    client = server.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def _root(kind: Kind, day: str | None) -> str:
    return kind.prefix if day is None else f"{kind.prefix}{day}/"


def _foreign_faults(kind: Kind, objects: dict[str, bytes]) -> Iterator[str]:
    for name in FOREIGN:
        if objects.get(kind.prefix + name) != CONTENT:
            yield f"{kind.prefix}{name} is not ours and was touched"


def _scope_faults(
    kind: Kind, day: str | None, ours: dict[str, bytes], objects: dict[str, bytes], history: History
) -> Iterator[str]:
    """Checks that every acknowledged sync exists exactly once and every other one either completely or not at all,
    with its state."""
    ids = sorted(each for key, body in ours.items() for each in ids_in(key, body))
    if torn := torn_syncs(kind, ids):
        yield torn
        return
    writes, changes = (history.of(kind.name, day, *verbs) for verbs in ((Verb.WRITE,), _LANDS))
    state = _state(kind, day, objects)
    if kind.checkpoints:
        yield from _checkpoint_faults(ids, state, [int(each.word) for each in writes if each.word.isdigit()])
        return
    there = {each // 1000 for each in ids}
    if ghosts := there - may_have_landed(writes):
        yield f"syncs {sorted(ghosts)} are there, which were told to have left nothing"
    if kind.adds and (lost := acknowledged(writes) - there):
        yield f"syncs {sorted(lost)} were acknowledged and are lost"
    if not kind.adds and not there and acknowledged(writes):
        yield "nothing is there, and syncs were acknowledged"
    if not kind.adds and any(was_outlived(each, writes) for each in there):
        yield f"sync {min(there)} is there, and a later one was acknowledged"
    yield from _state_faults(kind, there, state, changes)
    if kind.dirty:
        yield from _quarantine_faults(there, objects, kind)


def _checkpoint_faults(ids: list[int], state: str | None, acknowledged_up_to: list[int]) -> Iterator[str]:
    if len(ids) < max(acknowledged_up_to, default=0):
        yield f"{max(acknowledged_up_to)} records were acknowledged, {len(ids)} are there"
    if ids and state != state_text(len(ids)):
        yield f"the state is {state}, and the records reach {len(ids)}"


def _state(kind: Kind, day: str | None, objects: dict[str, bytes]) -> str | None:
    """The state in the manifests, read as documented."""
    root = f"data/_s3dest/public/{kind.name}/{day or '~'}/"
    if f"{root}head.json" not in objects:
        return None
    name = json.loads(objects[f"{root}head.json"])["state_segment"]
    return json.loads(objects[f"{root}segments/{name}.json"])["state"]["text"] if name is not None else None


def _state_faults(kind: Kind, there: set[int], state: str | None, changes: list) -> Iterator[str]:
    if state is None:
        if acknowledged(changes):
            yield "there is no state, and syncs with states were acknowledged"
        return
    number = json.loads(state)["number"]
    if number not in may_have_landed(changes):
        yield f"the state is of sync {number}, which was told to have left nothing"
    elif was_outlived(number, changes):
        yield f"the state is of sync {number}, and a later one was acknowledged"
    if not kind.adds and number not in there:
        yield f"the state is of sync {number}, the records of {sorted(there)}"


def _quarantine_faults(there: set[int], objects: dict[str, bytes], kind: Kind) -> Iterator[str]:
    kept = b"".join(body for key, body in objects.items() if f"/{kind.name}/" in key and "/quarantine/" in key)
    found = sorted(int(each) for each in re.findall(rb"bad line of sync (\d+)", kept))
    if found != sorted(there):
        yield f"lines of syncs {found} are kept aside, records of {sorted(there)} are there ({bad_line(0)!r} …)"


def _manifest_faults(
    server: S3Server, bucket: str, kind: Kind, day: str | None, ours: set[str], *, sweeps: bool
) -> Iterator[str]:
    """Checks that verify finds no problem, and that the manifest lists exactly the existing objects."""
    settings, scope = kind.destination(bucket, sweeps=sweeps), kind.scope(day)
    opened = server.open(settings)
    for problem in verify(opened, settings.template, scope, deep=True).problems:
        yield f"verify of {scope}: {problem}"
    listed = {each.item.key for each in live_objects(opened, settings.template, scope)}
    if listed != ours:
        yield f"{scope}: the manifest lists {len(listed)} objects, {len(ours)} are there: {sorted(listed ^ ours)[:5]}"
