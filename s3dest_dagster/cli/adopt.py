"""`s3dest adopt`: takes over the objects that the connector has left, or forgets them again.

Must not know: the command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from s3dest_dagster.adoption import (
    Adoption,
    FoundObjects,
    LeftOut,
    SearchRequest,
    adopt,
    adopted_objects,
    expected_columns,
    forget_adopted,
    plan_adoption,
    search,
)
from s3dest_dagster.cli.leftovers import stream_json
from s3dest_dagster.cli.output import Output, Session
from s3dest_dagster.cli.targets import bucket_of, read_config, read_streams
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.publication import Clock
from s3dest_dagster.commit.registry import check_entries, owner_of
from s3dest_dagster.errors import S3DestError
from s3dest_dagster.printable import amount, size
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import EnvelopeName
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId

Layout = Literal["0.6", "1"]
_ENVELOPES: dict[Layout, EnvelopeName] = {"0.6": "airbyte_0", "1": "airbyte_1"}
_MAX_SHOWN = 20
"""The most objects of one sort that are shown of a stream, unless --verbose is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptRequest:
    """What is to be adopted."""

    config_path: str
    """The destination's configuration."""
    catalog_path: str
    """The streams."""
    layout: Layout | None = None
    """The era of the connector whose objects are wanted; None: both."""
    deep: bool = False
    """Whether every object is read."""
    undo: bool = False
    """Whether what was adopted is forgotten instead."""
    yes: bool = False
    """Whether to do it. Otherwise it is only shown."""
    owner: str | None = None
    """Who lands the streams; None: whom the settings name."""


@dataclass(frozen=True, slots=True)
class _Adoptable:
    """A stream, what was found for it, and what of it is adopted or would be."""

    found: FoundObjects
    adoption: Adoption

    @property
    def ambiguous(self) -> list[LeftOut]:
        refused = (LeftOut(each.listed.key, reason) for each, reason in self.adoption.refused)
        return [*self.found.ambiguous, *refused]


def adopt_objects(session: Session, request: AdoptRequest, now: datetime | None) -> int:
    """Shows what each stream of the catalog can adopt, and adopts it if the request says so."""
    config = read_config(request.config_path, session.output)
    streams = read_streams(config, request.catalog_path, None).of_owner(request.owner).streams
    bucket, destination = bucket_of(config), config.destination
    if request.undo:
        return _forget(session, bucket, destination, streams, request, now)
    results: list[_Adoptable] = []
    for found, stream in _found(bucket, destination, streams, request):
        try:
            adoption = _adopted(session, bucket, destination, found, stream, request, now)
        except S3DestError as error:
            done = [str(each.found.stream) for each in results if each.adoption.objects and request.yes]
            error.add_note(f"Adopted before: {', '.join(done) or 'nothing'}.")
            raise
        results.append(_Adoptable(found, adoption))
        if not session.output.json:
            for line in _lines(results[-1], bucket, session.output, done=request.yes):
                session.output.show(line)
    if session.output.json:
        session.output.show_json([_json(each, done=request.yes) for each in results])
    if not request.yes and any(each.adoption.objects for each in results):
        session.output.say("Nothing was changed. Add --yes to do it.")
    return 0


def _found(
    bucket: Bucket, destination: S3Destination, streams: Sequence[Stream], request: AdoptRequest
) -> Iterator[tuple[FoundObjects, Stream]]:
    landed = {stream.id.prefixed(destination.stream_prefix): stream for stream in streams}
    entries = check_entries(bucket, destination, list(landed), [owner_of(each, destination) for each in streams])
    declared = {
        name: expected_columns(
            record_type(stream.json_schema or {}, name.name, name.namespace, destination.type_rules),
            entry.columns_beside(None),
        )
        for (name, stream), entry in zip(landed.items(), entries, strict=True)
    }
    envelope = _ENVELOPES[request.layout] if request.layout is not None else None
    for found in search(bucket, destination, SearchRequest(declared=declared, envelope=envelope, deep=request.deep)):
        yield found, landed[found.stream]


def _adopted(
    session: Session,
    bucket: Bucket,
    destination: S3Destination,
    found: FoundObjects,
    stream: Stream,
    request: AdoptRequest,
    now: datetime | None,
) -> Adoption:
    """What the stream adopts, or would adopt."""
    owner = owner_of(stream, destination)
    if not request.yes or not found.recognised:
        entry = check_entries(bucket, destination, [found.stream], [owner])[0]
        return plan_adoption(entry, found, is_typed=destination.format.is_typed)
    with session.interruption.deferred():
        return adopt(bucket, destination, found, now or datetime.now(UTC), os.urandom, owner=owner, clock=_clock(now))


def _clock(now: datetime | None) -> Clock | None:
    return (lambda: now) if now is not None else None


def _forget(
    session: Session,
    bucket: Bucket,
    destination: S3Destination,
    streams: Sequence[Stream],
    request: AdoptRequest,
    now: datetime | None,
) -> int:
    """Forgets what the streams have adopted, or shows it."""
    forgotten: list[tuple[StreamId, Sequence[SegmentObject]]] = []
    for stream in (each.id.prefixed(destination.stream_prefix) for each in streams):
        if request.yes:
            with session.interruption.deferred():
                objects = forget_adopted(bucket, destination, stream, clock=_clock(now))
        else:
            commit_log = CommitLog.of(bucket, destination.template, Scope(stream))
            objects = adopted_objects(commit_log, commit_log.read_head())
        forgotten.append((stream, objects))
        if not session.output.json:
            verb = "forgotten" if request.yes else "would be forgotten"
            what = f"{amount(len(objects), 'adopted object')} {verb}" if objects else "nothing to forget"
            session.output.show(f"{stream}: {what}")
    if session.output.json:
        session.output.show_json(
            [
                {**stream_json(stream), "forgotten": [each.key for each in objects], "done": request.yes}
                for stream, objects in forgotten
            ]
        )
    if not request.yes and any(objects for _, objects in forgotten):
        session.output.say("Nothing was changed. Add --yes to do it.")
    return 0


# ---------------------------------------------------------------------- lines and JSON


def _lines(result: _Adoptable, bucket: Bucket, output: Output, *, done: bool) -> Iterator[str]:
    objects, verb = result.adoption.objects, "adopted" if done else "would be adopted"
    rows = sum(each.rows or 0 for each in objects)
    uncounted = sum(each.rows is None for each in objects)
    parts = [f"{amount(len(objects), 'object')} {verb}" if objects else "nothing to adopt"]
    parts += [amount(rows, "row")] if len(objects) > uncounted else []
    parts += [f"{uncounted:,} not counted"] if uncounted else []
    parts += [size(sum(each.listed.size for each in objects))] if objects else []
    parts += [f"{len(result.ambiguous):,} ambiguous"] if result.ambiguous else []
    parts += [f"{len(result.found.foreign):,} foreign"] if result.found.foreign else []
    yield f"{result.found.stream}: {', '.join(parts)}"
    most = None if output.verbose else _MAX_SHOWN
    recognised = [bucket.uri(each.listed.key) for each in objects]
    ambiguous = [f"{bucket.uri(each.key)}: {each.reason}" for each in result.ambiguous]
    foreign = [bucket.uri(key) for key in result.found.foreign]
    for word, texts in (("recognised", recognised), ("ambiguous", ambiguous), ("foreign", foreign)):
        yield from (f"  {word:<11} {text}" for text in texts[:most])
        if len(texts) > len(texts[:most]):
            yield f"  {word:<11} and {len(texts) - _MAX_SHOWN:,} more; --verbose shows them"


def _json(result: _Adoptable, *, done: bool) -> dict[str, Any]:
    return {
        **stream_json(result.found.stream),
        "recognised": [
            {
                "key": each.listed.key,
                "bytes": each.listed.size,
                "rows": each.rows,
                "envelope": each.columns.record.envelope,
                "generation_id": each.generation_id,
            }
            for each in result.adoption.objects
        ],
        "ambiguous": [{"key": each.key, "reason": each.reason} for each in result.ambiguous],
        "foreign": list(result.found.foreign),
        "done": done,
    }
