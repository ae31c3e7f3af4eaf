"""Partitions that landed in a step that fails later, as materializations of their own.

Dagster reports nothing of a step that fails, though these partitions are published. It must not know how they landed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg

from s3dest_dagster.commit.head import ReachedState
from s3dest_dagster.dagster.asset_metadata import preview_rows_of, scopes_of, stream_of
from s3dest_dagster.dagster.failures import placed
from s3dest_dagster.dagster.metadata import (
    DATA_VERSION_TAG,
    Preview,
    common_version,
    data_version,
    receipt_metadata,
    unchanged,
    version_before,
)
from s3dest_dagster.dagster.outputs import DeferredRead, deliveries, let_go, opened
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.memory_budget import resident_bytes
from s3dest_dagster.ingest.receipt import Progress, Receipt
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.printable import amount, printable, size
from s3dest_dagster.settings.connector_config import JOB_ID_VARIABLE
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import WITHOUT_CONDITIONS, Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync, SyncMode


@dataclass(frozen=True, slots=True)
class LandedPartition:
    """One partition that a step has published, with the metadata and the data version of its materialization."""

    key: dg.AssetKey
    partition: str
    metadata: Mapping[str, Any]
    version: str


def report_landed(
    landed: Iterable[LandedPartition],
    partitions: dg.PartitionsDefinition[Any] | None,
    log_event: Callable[[dg.AssetMaterialization], None],
) -> None:
    """Reports each partition as materialized."""
    for each in landed:
        log_event(
            dg.AssetMaterialization(
                asset_key=each.key,
                partition=_key(partitions, each.partition),
                metadata=each.metadata,
                tags={DATA_VERSION_TAG: each.version},
            )
        )


def _key(partitions: dg.PartitionsDefinition[Any] | None, partition: str) -> str:
    """The key as Dagster knows it: one of several dimensions carries them."""
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return partitions.get_partition_key_from_str(partition)
    return partition


def land_output(
    context: dg.OutputContext, handed: Any, destination: S3Destination, bucket: Bucket, *, preview_rows: int = 0
) -> None:
    """Lands what an asset's body handed over, all of a scope or nothing; None lands nothing.

    The scopes are landed one after another; those of a run that failed later stay and are reported as materialized, and
    a retry of the run does not land them again.
    """
    if not context.has_asset_key:
        _pass_only_none(context, handed)
        return
    stream = stream_of(context.asset_key, context.definition_metadata, context.output_metadata)
    scopes = scopes_of(context, stream.id)
    if handed is None:
        context.log.info("The asset gave nothing (None), so nothing was landed. An empty list empties what is there.")
        _version(context, [unchanged(_before(context, each)) for each in scopes])
        return
    rows = preview_rows_of(context.definition_metadata, preview_rows)
    run_id, versions = delivery_id(), []
    landed: list[LandedPartition] = []
    try:
        with open_target(destination, bucket, clock=now, entropy=os.urandom) as target:
            for scope, records in deliveries(handed, scopes):
                sync = new_sync(sync_id(run_id, context.asset_key, scope.partition))
                started, preview = time.monotonic(), Preview(stream, rows)
                receipt = _land(records, target, stream, sync, scope, preview, context.log.info)
                seconds = time.monotonic() - started
                context.log.info(landed_sentence(receipt, seconds))
                metadata = receipt_metadata(receipt, stream, bucket=bucket, seconds=seconds, preview=preview)
                _tell(context, metadata, scope, alone=len(scopes) == 1)
                versions.append(data_version(receipt, partial(_before, context, scope.partition)))
                if scope.partition is not None:
                    landed.append(LandedPartition(context.asset_key, scope.partition, metadata, versions[-1]))
                warn_of_second_writers(context.log, receipt, target.bucket)
    except BaseException:
        if landed:
            report_landed(landed, context.asset_partitions_def, context.log_event)
        raise
    finally:
        let_go(handed)
    _version(context, versions)


def _pass_only_none(context: dg.OutputContext, handed: Any) -> None:
    """An op's output belongs to no stream: None passes, anything else is a SettingsError."""
    if handed is None:
        context.log.debug("The op gave nothing (None), so there is nothing to keep.")
        return
    raise SettingsError(
        f"The op's output {context.name!r} is a {type(handed).__name__}, and an op's output belongs to no stream: only "
        'an asset\'s can be landed. Give the output an IO manager of its own, as dg.Out(io_manager_key="files") with '
        "the resource dg.FilesystemIOManager(), or make it an asset.",
        setting="io_manager_key",
    )


def _land(
    records: Any,
    target: Target,
    stream: Stream,
    sync: Sync,
    scope: Scope,
    preview: Preview,
    say: Callable[[str], None],
) -> Receipt:
    on_progress = partial(ProgressLines(str(scope), say).take, scope.stream)

    def on_checkpoint(receipt: Receipt) -> None:
        say(checkpoint_sentence(receipt))

    with (
        placed(scope),
        Landing(
            target,
            stream,
            sync,
            scope=scope,
            allow_empty=records.allow_empty if isinstance(records, DeferredRead) else True,
            on_progress=on_progress,
            on_checkpoint=on_checkpoint,
        ) as landing,
    ):
        if not landing.recorded:
            with opened(records, _state_for(landing), emitted_at=now_ms) as items:
                for item in preview.of(items):
                    landing.append(item)
        return landing.commit()


def _state_for(landing: Landing) -> ReachedState | None:
    """The state that a source goes on from. Partitions and full refreshes begin anew."""
    goes_on = landing.scope.partition is None and landing.stream.sync_mode is SyncMode.APPEND
    return landing.last_state if goes_on else None


# ---------------------------------------------------------------------- what is told


def _tell(context: dg.OutputContext, metadata: dict[str, Any], scope: Scope, *, alone: bool) -> None:
    """Puts the metadata on the materialization: of the run's one scope, or of this partition."""
    if alone:
        context.add_output_metadata(metadata)
    elif (execution := current_execution()) is not None:
        execution.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=scope.partition)


def _version(context: dg.OutputContext, versions: list[str]) -> None:
    """Notes the data version of what the step has landed."""
    if (execution := current_execution()) is not None:
        execution.set_data_version(context.asset_key, common_version(versions))


def _before(context: dg.OutputContext, partition: str | None) -> str | None:
    execution = current_execution()
    return version_before(execution.instance, context.asset_key, partition) if execution is not None else None


_PARENT = "dagster/parent_run_id"
_RETRY_NUMBER = "dagster/retry_number"
_RESUMED = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")

FindRun = Callable[[str], dg.DagsterRun | None]


def delivering_run(run: dg.DagsterRun, find: FindRun) -> str:
    """The id of the run whose delivery this is: the run itself, or the one that it goes on with.

    A run goes on with its parent when Dagster retries it, or when a person re-executes it from failure. A run
    re-executed as a whole is a delivery of its own, and so are the retries of that one.
    """
    while _goes_on(run) and (parent_id := run.tags.get(_PARENT)):
        parent = find(parent_id)
        if parent is None:
            return parent_id
        run = parent
    return run.run_id


def _goes_on(run: dg.DagsterRun) -> bool:
    return _RETRY_NUMBER in run.tags or any(run.tags.get(tag) == "true" for tag in _RESUMED)


def sync_id(run_id: str, asset_key: dg.AssetKey, partition: str | None) -> str:
    """The id of the sync of one scope in a run: the run's id and a digest of asset and partition, printable ASCII."""
    scope = "\n".join([*asset_key.path, "" if partition is None else f"[{partition}]"])
    return f"{run_id}-{hashlib.sha256(scope.encode()).hexdigest()[:12]}"


# ---------------------------------------------------------------------- what is drawn from outside


def now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(now().timestamp() * 1000)


def new_sync(identity: str) -> Sync:
    """A sync of this id that begins now."""
    return Sync(identity, now(), str(uuid.uuid4()), os.environ.get(JOB_ID_VARIABLE, ""))


def delivery_id() -> str:
    """The id of the run whose delivery this step is a part of; outside of a run one that is drawn."""
    execution = current_execution()
    if execution is None:
        return str(uuid.uuid4())
    return delivering_run(execution.run, execution.instance.get_run_by_id)


def current_execution() -> dg.AssetExecutionContext | None:
    """The asset's execution context, where a step runs."""
    try:
        return dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None


_EVERY_S = 5.0
_warned: set[tuple[str, str]] = set()
"""Servers and buckets that a warning was given for."""


class ProgressLines:
    """A line every five seconds at most, over all streams that are landed side by side: a line in the run's log costs
    as much as many records. The rates are those since the line before."""

    def __init__(
        self,
        title: str,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], int | None] = resident_bytes,
    ) -> None:
        self._title = title
        self._say = say
        self._clock = clock
        self._memory = memory
        self._progress: dict[StreamId, Progress] = {}
        self._last = (clock(), 0, 0)

    def take(self, stream: StreamId, progress: Progress) -> None:
        """Notes where one stream stands; says where all of them do, when it is time."""
        self._progress[stream] = progress
        now = self._clock()
        if now - self._last[0] >= _EVERY_S:
            self._say(self._line(now))

    def _line(self, now: float) -> str:
        all_of_them = self._progress.values()
        rows, objects, total = (
            sum(getattr(each, name) for each in all_of_them) for name in ("rows", "objects", "bytes")
        )
        (then, rows_then, total_then), self._last = self._last, (now, rows, total)
        seconds = now - then
        parts = [
            amount(rows, "record"),
            amount(objects, "object"),
            size(total),
            f"{(rows - rows_then) / seconds:,.0f} records/s",
            f"{(total - total_then) / 1e6 / seconds:,.1f} MB/s",
        ]
        if (memory := self._memory()) is not None:
            parts.append(f"memory {memory / 1e6:,.0f} MB")
        return printable(f"{self._title}: {', '.join(parts)}")


def checkpoint_sentence(receipt: Receipt) -> str:
    """What a checkpoint has published, for the run's log."""
    return printable(
        f"{receipt.scope}: checkpoint, {amount(receipt.rows, 'row')} in {amount(len(receipt.objects), 'object')} "
        "published with the state that they reach; a retry, or the next run, goes on from there."
    )


def landed_sentence(receipt: Receipt, seconds: float) -> str:
    """What a landing was, for the run's log."""
    if receipt.repeated:
        return printable(
            f"{receipt.scope}: landed already by this run before it was retried; nothing was landed again."
        )
    removed = f", {amount(len(receipt.removed), 'object')} replaced" if receipt.removed else ""
    quarantined = f", {amount(receipt.counts.quarantined, 'line')} kept aside" if receipt.counts.quarantined else ""
    earlier = f", {receipt.earlier.landed:,} of them by earlier attempts" if receipt.earlier is not None else ""
    short = (
        f", {amount(receipt.ended_early, 'row group or object', 'row groups and objects')} ended early for memory"
        if receipt.ended_early
        else ""
    )
    beside = f"{earlier}{removed}{quarantined}{short}"
    return printable(
        f"{receipt.scope}: {amount(receipt.rows, 'row')} in {amount(len(receipt.objects), 'object')}, "
        f"{size(receipt.bytes)}, landed in {seconds:,.1f} s{beside}. {receipt.manifest}"
    )


def warn_of_second_writers(log: logging.Logger, receipt: Receipt, bucket: Bucket) -> None:
    """Says once in a process and bucket that its server cannot tell two writers of one scope apart."""
    place = (bucket.endpoint, bucket.name)
    # A sync that was repeated has put nothing, so that the server is not known.
    if receipt.repeated or place in _warned or bucket.abilities.detects_concurrent_writers:
        return
    _warned.add(place)
    log.warning(f"{bucket.endpoint}: {WITHOUT_CONDITIONS}")
