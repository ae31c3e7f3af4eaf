"""`s3dest write`: Airbyte messages from standard input, every stream of the catalog landed and published at the end,
or at checkpoints before it.

It says how far it is, what was published, and, when it stops in between, what was not. It must not know how the
command is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from s3dest_dagster.batch import State
from s3dest_dagster.cli.output import Output
from s3dest_dagster.cli.progress import following
from s3dest_dagster.cli.session import Session
from s3dest_dagster.cli.targets import new_sync, opened_target, read_catalog_file, read_config, source_config
from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.streams import StreamLandings, landing_streams
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.printable import amount, size
from s3dest_dagster.sources.airbyte.config import CurrentConfig
from s3dest_dagster.sources.airbyte.messages import read_messages
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream, StreamId

_STDIN = 0
_NOTHING_SAID = (
    "The input ended without a record, a state or a stream status: its source may not have run at all. Look at what "
    "it says itself. If there is nothing to read, say so by --allow-empty."
)
_GOES_ON = "Its source must begin with the state that `s3dest state show` prints."


def write(
    session: Session,
    config_path: str,
    catalog_path: str,
    now: datetime | None,
    sync_id: str | None,
    source_config_path: str | None,
    *,
    allow_empty: bool,
) -> int:
    """Lands standard input; raises what stopped it, with what had been published as a note."""
    output = session.output
    if sys.stdin is None:
        raise SettingsError("Standard input is closed, and the messages of a source are expected there.")
    config = read_config(config_path, output)
    streams = read_catalog_file(catalog_path).streams
    source = source_config(source_config_path)
    sync = new_sync(sync_id, now)
    if os.isatty(_STDIN):
        output.say("Reading Airbyte messages from the terminal, until Ctrl-D.")
    checkpoints = CheckpointLines(output)
    with (
        opened_target(config, now) as target,
        following(output) as progress,
        landing_streams(
            target, streams, sync, allow_empty=allow_empty, on_progress=progress, on_checkpoint=checkpoints
        ) as landings,
    ):
        for stream in landings.resumed:
            output.say(f"{stream}: goes on after an earlier attempt at this sync. {_GOES_ON}")
        try:
            _take_everything(landings, streams, source, session)
        except BaseException as error:
            output.keep_secret(source.secrets)
            error.add_note(checkpoints.summary())
            raise
        progress.end()
        _publish(landings, session, target)
    return 0


def _take_everything(
    landings: StreamLandings, streams: Sequence[Stream], source: CurrentConfig, session: Session
) -> None:
    """Takes the input to its end, and hands on the states that checkpoints have published."""

    def log(level: str, message: str) -> None:
        session.output.log(level, source.masked(message))

    for item in read_messages(_STDIN, [each.id for each in streams], log=log, config=source, **session.limits):
        if not isinstance(item, State):
            landings.append(item)
            continue
        with session.interruption.deferred():
            if (message := landings.append(item)) is not None:
                session.output.pass_on(message)
    if landings.none_mentioned:
        raise SourceError(_NOTHING_SAID)
    landings.stage()


def _publish(landings: StreamLandings, session: Session, target: Target) -> None:
    """Publishes the streams and hands on their states, also of those that were published before one failed."""
    output = session.output
    published: list[str] = []
    try:
        for receipt in _steps(landings, session):
            published.append(str(receipt.scope))
            _report(receipt, target.bucket, output)
    except BaseException as error:
        error.add_note(_how_far(published, landings.unpublished))
        raise
    finally:
        for message in landings.states():
            output.pass_on(message)
    if landings.withheld():
        output.say(
            "The state of all streams is not handed on: an earlier run under this sync id landed some of them, and "
            "what came for those now was not landed again. The source's next sync reads it."
        )


def _steps(landings: StreamLandings, session: Session) -> Iterator[Receipt]:
    """Publishes stream by stream; a signal waits until the one at hand is done."""
    receipts = landings.publish()
    while True:
        with session.interruption.deferred():
            receipt = next(receipts, None)
        if receipt is None:
            return
        yield receipt


def _how_far(published: Sequence[str], missing: Sequence[StreamId]) -> str:
    if not published:
        return "No stream was published before."
    left = f", not: {', '.join(map(str, missing))}. Run it again under the same --sync-id" if missing else ""
    return f"Published were: {', '.join(published)}{left}."


# ---------------------------------------------------------------------- what people see


class CheckpointLines:
    """A line on standard error for each checkpoint, and what all of them published, for when the sync fails."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._rows: dict[str, int] = {}

    def __call__(self, receipt: Receipt) -> None:
        stream = str(receipt.scope)
        self._rows[stream] = self._rows.get(stream, 0) + receipt.rows
        if not self._output.json:
            self._output.say(f"{stream}: checkpoint, {amount(receipt.rows, 'row')} published")

    def summary(self) -> str:
        """What stays when the sync fails before its end."""
        if not self._rows:
            return "Nothing of this sync was published."
        told = ", ".join(f"{stream} ({amount(rows, 'row')})" for stream, rows in self._rows.items())
        return f"Checkpoints had published: {told}. Run it again under the same --sync-id. {_GOES_ON}"


def _report(receipt: Receipt, bucket: Bucket, output: Output) -> None:
    if output.json:
        output.say_json(_receipt_json(receipt, bucket))
    else:
        output.say(f"{receipt.scope}: {', '.join(_receipt_parts(receipt, bucket))}")


def _receipt_parts(receipt: Receipt, bucket: Bucket) -> Iterator[str]:
    if receipt.repeated:
        yield "landed before under this sync id, nothing landed again"
    if receipt.collected:
        yield "its manifest was collected since"
        return
    yield amount(receipt.rows, "row")
    if receipt.objects:
        directory = PurePosixPath(receipt.objects[0].key).parent
        under = bucket.uri("" if directory == PurePosixPath(".") else f"{directory}/")
        yield f"{amount(len(receipt.objects), 'object')} of {size(receipt.bytes)} under {under}"
    counts = receipt.counts
    if receipt.removed:
        yield f"{amount(len(receipt.removed), 'object')} replaced"
    if receipt.checkpoints:
        yield amount(receipt.checkpoints, "checkpoint")
    if receipt.earlier is not None:
        yield f"{amount(receipt.earlier.landed, 'row')} of them by earlier attempts"
    if counts.quarantined:
        yield f"{amount(counts.quarantined, 'bad line')} kept aside"
    if misfits := sum(counts.tally.overflowed.values()):
        yield f"{amount(misfits, 'value')} of another type kept as JSON"
    if receipt.ended_early:
        yield f"{receipt.ended_early:,} row groups and objects ended early for memory"


def _receipt_json(receipt: Receipt, bucket: Bucket) -> dict[str, Any]:
    counts = receipt.counts
    return {
        "stream": receipt.scope.stream.name,
        "namespace": receipt.scope.stream.namespace,
        "sync_id": receipt.sync_id,
        "repeated": receipt.repeated,
        "rows": receipt.rows,
        "bytes": receipt.bytes,
        "objects": [bucket.uri(each.key) for each in receipt.objects],
        "removed": [bucket.uri(key) for key in receipt.removed],
        "read": counts.read,
        "quarantined": counts.quarantined,
        "checkpoints": receipt.checkpoints,
        "earlier_rows": receipt.earlier.landed if receipt.earlier is not None else 0,
        "overflowed": dict(counts.tally.overflowed),
        "undeclared": dict(counts.tally.undeclared),
        "coerced": dict(counts.tally.coerced),
        "ended_early": receipt.ended_early,
        "manifest": receipt.manifest,
    }
