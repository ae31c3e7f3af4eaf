"""`s3dest write`: lands the Airbyte messages of standard input, and publishes every stream of the catalog at the end.

Long appends publish checkpoints before the end. The verb reports its progress, what it published, and, if it stops
early, what it did not publish. Must not know: the command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from s3dest_dagster.batch import State
from s3dest_dagster.cli.leftovers import location_json
from s3dest_dagster.cli.output import Output, Session
from s3dest_dagster.cli.progress import progress_display
from s3dest_dagster.cli.targets import (
    new_sync,
    opened_target,
    read_config,
    read_streams,
    source_config,
)
from s3dest_dagster.commit.documents import StreamLocation
from s3dest_dagster.commit.former_locations import FormerLocations
from s3dest_dagster.commit.registry import owner_of
from s3dest_dagster.commit.segment import SchemaChanges
from s3dest_dagster.errors import SettingsError, SourceError, StorageError
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.streams import StreamLandings, landing_streams
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.printable import amount, size
from s3dest_dagster.sources.airbyte.config import CurrentConfig
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId

_STDIN = 0
_EMPTY_INPUT = (
    "The input ended without a record, a state or a stream status: its source may not have run at all. Look at the "
    "source's own messages. If there is nothing to read, pass --allow-empty."
)
_MOST_COLUMNS = 5
_RESUME_ADVICE = "Its source must begin with the state that `s3dest state show` prints."
_AGAIN_ADVICE = "Run it again under the same --sync-id."


def write(
    session: Session,
    config_path: str,
    catalog_path: str,
    discovered_path: str | None,
    now: datetime | None,
    sync_id: str | None,
    source_config_path: str | None,
    *,
    allow_empty: bool,
    owner: str | None = None,
) -> int:
    """Lands standard input. An error carries a note that says what was published before it."""
    output = session.output
    if sys.stdin is None:
        raise SettingsError("Standard input is closed; the messages of a source are expected there.")
    config = read_config(config_path, output)
    selected = read_streams(config, catalog_path, discovered_path).of_owner(owner)
    for sentence in (*selected.unknown, *selected.warnings):
        output.say(sentence)
    source = source_config(source_config_path)
    sync = new_sync(sync_id, now)
    if os.isatty(_STDIN):
        output.say("Reading Airbyte messages from the terminal, until Ctrl-D.")
    checkpoints = CheckpointLines(output)
    with (
        opened_target(config, now) as target,
        progress_display(output) as progress,
        landing_streams(
            target, selected.streams, sync, allow_empty=allow_empty, on_progress=progress, on_checkpoint=checkpoints
        ) as landings,
    ):
        former = former_locations(target, selected.streams, landings.new)
        for stream in landings.resumed:
            output.say(f"{stream}: resumes after an earlier attempt at this sync. {_RESUME_ADVICE}")
        try:
            _land_messages(landings, selected.streams, source, session)
        except BaseException as error:
            output.keep_secret(source.secrets)
            error.add_note(checkpoints.summary())
            raise
        progress.end()
        _publish(landings, session, target, former)
    return 0


def _land_messages(
    landings: StreamLandings, streams: Sequence[Stream], source: CurrentConfig, session: Session
) -> None:
    """Lands the input to its end, and passes on the states that checkpoints publish."""

    def log(level: str, message: str) -> None:
        session.output.log(level, source.mask(message))

    hides_text = any(stream.selection for stream in streams)
    names = [stream.id for stream in streams]
    for item in read_messages(_STDIN, names, log=log, config=source, hides_text=hides_text, **session.limits):
        if not isinstance(item, State):
            landings.append(item)
            continue
        with session.interruption.deferred():
            if (message := landings.append(item)) is not None:
                session.output.pass_on(message)
    if landings.none_mentioned:
        raise SourceError(_EMPTY_INPUT)
    landings.stage()


def former_locations(
    target: Target, streams: Sequence[Stream], new: Collection[StreamId]
) -> dict[StreamId, tuple[StreamLocation, ...]]:
    """Where the streams that land for the first time may have landed before. The sync goes on if that is not known."""
    destination, found = target.destination, dict[StreamId, tuple[StreamLocation, ...]]()
    former = FormerLocations(target.bucket, destination.template)
    with suppress(StorageError):
        for stream in streams:
            if stream.id in new:
                landed = stream.id.prefixed(destination.stream_prefix)
                found[stream.id] = tuple(former.find(landed, owner_of(stream, destination)))
    return found


def _publish(
    landings: StreamLandings,
    session: Session,
    target: Target,
    former: Mapping[StreamId, tuple[StreamLocation, ...]],
) -> None:
    """Publishes the streams and passes on their states, even if a later stream fails."""
    output = session.output
    try:
        publish_and_report(landings, session, target, former)
    except BaseException as error:
        error.add_note(published_so_far(landings.published, landings.unpublished))
        raise
    finally:
        for message in landings.states():
            output.pass_on(message)
    if landings.withheld():
        output.say(
            "The state of all streams is not passed on: an earlier run under this sync id landed some of the streams, "
            "and their new records were not landed again. The source's next sync reads them."
        )


def publish_and_report(
    landings: StreamLandings,
    session: Session,
    target: Target,
    former: Mapping[StreamId, tuple[StreamLocation, ...]],
) -> None:
    """Publishes the streams, and reports each one with where it may have landed before."""
    output = session.output
    for receipt in _publish_one_by_one(landings, session):
        locations = former.get(receipt.scope.stream, ())
        report(replace(receipt, left_elsewhere=(*receipt.left_elsewhere, *locations)), target.bucket, output)
        for location in () if output.json else locations:
            output.say(former_line(receipt.scope, location, target.bucket))


def _publish_one_by_one(landings: StreamLandings, session: Session) -> Iterator[Receipt]:
    """Publishes the streams, a few at a time. A signal waits until those that are under way are done."""
    receipts = landings.publish()
    while True:
        with session.interruption.deferred():
            receipt = next(receipts, None)
        if receipt is None:
            return
        yield receipt


def published_so_far(published: Sequence[Scope], missing: Sequence[StreamId], advice: str = _AGAIN_ADVICE) -> str:
    """What is published of a sync that failed.

    Args:
        published: What is published.
        missing: The streams that are not.
        advice: What to do about them, as a sentence.
    """
    if not published:
        return "No stream was published."
    left = f" Not published: {', '.join(map(str, missing))}. {advice}" if missing else ""
    return f"Published: {', '.join(map(str, published))}.{left}"


# ---------------------------------------------------------------------- what people see


class CheckpointLines:
    """Prints a line for each checkpoint, and sums up what all of them published in case the sync fails.

    Args:
        output: Where the lines go.
        advice: What to do after a failure, as sentences.
    """

    def __init__(self, output: Output, advice: str = f"{_AGAIN_ADVICE} {_RESUME_ADVICE}") -> None:
        self._output = output
        self._advice = advice
        self._rows: dict[str, int] = {}

    def __call__(self, receipt: Receipt) -> None:
        stream = str(receipt.scope)
        self._rows[stream] = self._rows.get(stream, 0) + receipt.rows
        if not self._output.json:
            self._output.say(f"{stream}: checkpoint, {amount(receipt.rows, 'row')} published")

    def summary(self) -> str:
        """What stays published if the sync fails before its end."""
        if not self._rows:
            return "Nothing of this sync was published."
        published = ", ".join(f"{stream} ({amount(rows, 'row')})" for stream, rows in self._rows.items())
        return f"Checkpoints had published: {published}. {self._advice}"


def report(receipt: Receipt, bucket: Bucket, output: Output) -> None:
    """Says what a sync has published, on standard error."""
    if output.json:
        output.say_json(_receipt_json(receipt, bucket))
    else:
        output.say(f"{receipt.scope}: {', '.join(_receipt_parts(receipt, bucket))}")


def former_line(scope: Scope, location: StreamLocation, bucket: Bucket) -> str:
    """Where a new stream may have landed before, and what to do about it."""
    where = f"{location.stream_id} under {bucket.uri(location.bucket_path)}"
    return (
        f"{scope}: it may have landed before as {where}. If so, that stays visible until you run `s3dest retire "
        f"{location.stream_id}` there."
    )


def _receipt_parts(receipt: Receipt, bucket: Bucket) -> Iterator[str]:
    if receipt.repeated:
        yield "already landed under this sync id, nothing landed again"
    if receipt.discarded is not None:
        yield f"{amount(receipt.discarded, 'record')} not landed: the schema contract discards new streams"
        return
    if receipt.collected:
        yield "its manifest has been collected since"
        return
    yield amount(receipt.rows, "row")
    if receipt.objects:
        directory = PurePosixPath(receipt.objects[0].key).parent
        under = bucket.uri("" if directory == PurePosixPath(".") else f"{directory}/")
        yield f"{amount(len(receipt.objects), 'object')} of {size(receipt.bytes)} under {under}"
    yield from _changed_columns(receipt.schema_changes)
    counts = receipt.counts
    if receipt.removed:
        yield f"{amount(len(receipt.removed), 'object')} replaced"
    if receipt.checkpoints:
        yield amount(receipt.checkpoints, "checkpoint")
    if receipt.earlier is not None:
        yield f"{amount(receipt.earlier.landed, 'row')} of them from earlier attempts"
    if counts.quarantined:
        yield f"{amount(counts.quarantined, 'bad line')} quarantined"
    if misfits := sum(counts.tally.overflowed.values()):
        yield f"{amount(misfits, 'value')} of another type kept as JSON"
    for action in ("excluded", "hashed", "masked"):
        if count := sum(getattr(counts.tally, action).values()):
            yield f"{amount(count, 'value')} {action}"
    if nulls := sum(counts.tally.non_finite.values()):
        yield f"{amount(nulls, 'number')} that were NaN or infinite landed as null"
    if (summary := receipt.partitions) is not None:
        directories = amount(summary.directories, "directory", "directories")
        yield f"{directories}, the smallest object {size(summary.smallest)}, the median {size(summary.median)}"
        for name, rows in summary.null_rows.items():
            yield f"{amount(rows, 'row')} without {name}"
    if receipt.ended_early:
        yield f"{receipt.ended_early:,} row groups and objects closed early to save memory"


def _changed_columns(changes: SchemaChanges | None) -> Iterator[str]:
    """How the columns differ from those of the sync before."""
    if changes is None:
        return
    retyped = [f"{each.name} ({each.before}, now {each.now})" for each in changes.retyped]
    for what, names in (("new", changes.added), ("gone", changes.removed), ("with another type", retyped)):
        if names:
            shown = ", ".join(names[:_MOST_COLUMNS])
            more = f" and {len(names) - _MOST_COLUMNS:,} more" if len(names) > _MOST_COLUMNS else ""
            yield f"columns {what}: {shown}{more}"


def _receipt_json(receipt: Receipt, bucket: Bucket) -> dict[str, Any]:
    counts = receipt.counts
    return {
        "stream": receipt.scope.stream.name,
        "namespace": receipt.scope.stream.namespace,
        "sync_id": receipt.sync_id,
        "repeated": receipt.repeated,
        "rows": receipt.rows,
        "bytes": receipt.bytes,
        "objects": [bucket.uri(landed.key) for landed in receipt.objects],
        "removed": [bucket.uri(key) for key in receipt.removed],
        "read": counts.read + (receipt.discarded or 0),
        "quarantined": counts.quarantined,
        "checkpoints": receipt.checkpoints,
        "earlier_rows": receipt.earlier.landed if receipt.earlier is not None else 0,
        "overflowed": dict(counts.tally.overflowed),
        "undeclared": dict(counts.tally.undeclared),
        "coerced": dict(counts.tally.coerced),
        "excluded": dict(counts.tally.excluded),
        "hashed": dict(counts.tally.hashed),
        "masked": dict(counts.tally.masked),
        "non_finite": dict(counts.tally.non_finite),
        "discarded": receipt.discarded or 0,
        "schema_changes": asdict(receipt.schema_changes) if receipt.schema_changes is not None else None,
        "ended_early": receipt.ended_early,
        "left_beside": [each.partition for each in receipt.left_beside],
        "left_elsewhere": [location_json(each) for each in receipt.left_elsewhere],
        "former_template": receipt.former_template or None,
        "partitions": asdict(receipt.partitions) if receipt.partitions is not None else None,
        "manifest": receipt.manifest,
    }
