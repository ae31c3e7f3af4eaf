"""An asset's output into its bucket: every scope of the step landed, told about while it runs and when it is done.

It knows Dagster's output context on one side and landings on the other; it must not know the IO manager's settings.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from s3dest_dagster.connector_config import JOB_ID_VARIABLE
from s3dest_dagster.destination import S3Destination
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.landing import Landing, Progress, Receipt, Sync, Target, open_target
from s3dest_dagster.orchestration.declared import scopes_of, stream_of
from s3dest_dagster.orchestration.delivery import deliveries, let_go, opened
from s3dest_dagster.orchestration.failures import placed
from s3dest_dagster.orchestration.metadata import receipt_metadata
from s3dest_dagster.orchestration.run_identity import delivering_run, sync_id
from s3dest_dagster.storage import WITHOUT_CONDITIONS, Bucket
from s3dest_dagster.stream import Scope, Stream, SyncMode

_TELL_EVERY_S = 5.0
_warned: set[tuple[str, str]] = set()
"""Servers and buckets that a warning was given for."""


def land_output(context: dg.OutputContext, handed: Any, destination: S3Destination, bucket: Bucket) -> None:
    """Lands what an asset's body handed over, all of a scope or nothing; None lands nothing.

    The scopes are landed one after another; those of a run that failed later stay, and a retry of the run does not
    land them again.
    """
    if not context.has_asset_key:
        raise SettingsError(
            "Only an asset's output can be landed: an op's belongs to no stream. Use another IO manager."
        )
    if handed is None:
        context.log.info("The asset gave nothing (None), so nothing was landed. An empty list empties what is there.")
        return
    stream = stream_of(context.asset_key, context.definition_metadata, context.output_metadata)
    scopes = scopes_of(context, stream.id)
    run_id = _run_id(context)
    try:
        with open_target(destination, bucket, clock=_now, entropy=os.urandom) as target:
            for scope, records in deliveries(handed, scopes):
                sync = _sync(sync_id(run_id, context.asset_key, scope.partition))
                started = time.monotonic()
                receipt = _land(records, target, stream, sync, scope, _progress_log(context, scope))
                _tell(context, receipt, stream, bucket.name, time.monotonic() - started, alone=len(scopes) == 1)
                _warn_of_second_writers(context, receipt, bucket)
    finally:
        let_go(handed)


def _land(
    records: Any, target: Target, stream: Stream, sync: Sync, scope: Scope, on_progress: Callable[[Progress], None]
) -> Receipt:
    with placed(scope), Landing(target, stream, sync, scope=scope, on_progress=on_progress) as landing:
        if not landing.recorded:
            with opened(records, _state_for(landing), emitted_at=_now_ms) as items:
                for item in items:
                    landing.take(item)
        return landing.commit()


def _state_for(landing: Landing) -> str | None:
    """The state that a source goes on from. Partitions and full refreshes begin anew."""
    goes_on = landing.scope.partition is None and landing.stream.sync_mode is SyncMode.APPEND
    return landing.last_state if goes_on else None


# ---------------------------------------------------------------------- what is drawn from outside


def _now() -> datetime:
    return datetime.now(UTC)


def _now_ms() -> int:
    return int(_now().timestamp() * 1000)


def _sync(identity: str) -> Sync:
    return Sync(identity, _now(), str(uuid.uuid4()), os.environ.get(JOB_ID_VARIABLE, ""))


def _run_id(context: dg.OutputContext) -> str:
    """The id of the run whose delivery this is; outside of a run one that is drawn."""
    execution = _execution()
    if execution is None:
        return str(uuid.uuid4())
    return delivering_run(execution.run, execution.instance.get_run_by_id)


def _execution() -> dg.AssetExecutionContext | None:
    """The asset's execution context, where a step runs."""
    try:
        return dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None


# ---------------------------------------------------------------------- what is told


def _progress_log(context: dg.OutputContext, scope: Scope) -> Callable[[Progress], None]:
    """Logs where the landing stands, every few seconds: a log line costs as much as many records."""
    started = told = time.monotonic()

    def on_progress(progress: Progress) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _TELL_EVERY_S:
            told = now
            context.log.info(
                f"{scope}: {progress.rows:,} records, {progress.objects:,} objects, {progress.bytes / 1e6:,.1f} MB, "
                f"{progress.rows / (now - started):,.0f} records/s"
            )

    return on_progress


def _tell(
    context: dg.OutputContext, receipt: Receipt, stream: Stream, bucket: str, seconds: float, *, alone: bool
) -> None:
    """Logs the receipt and puts it on the materialization: of the run's one scope, or of this partition."""
    metadata = receipt_metadata(receipt, stream, bucket=bucket, seconds=seconds)
    context.log.info(_sentence(receipt, seconds))
    if alone:
        context.add_output_metadata(metadata)
    elif (execution := _execution()) is not None:
        execution.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=receipt.scope.partition)


def _warn_of_second_writers(context: dg.OutputContext, receipt: Receipt, bucket: Bucket) -> None:
    """Says once in a process and bucket that its server cannot tell two writers of one scope apart."""
    place = (bucket.endpoint, bucket.name)
    # A sync that was repeated has put nothing, so that the server is not known.
    if receipt.repeated or place in _warned or bucket.has_conditional_puts(receipt.manifest):
        return
    _warned.add(place)
    context.log.warning(f"{bucket.endpoint}: {WITHOUT_CONDITIONS}")


def _sentence(receipt: Receipt, seconds: float) -> str:
    if receipt.repeated:
        return f"{receipt.scope}: landed already by this run before it was retried; nothing was landed again."
    removed = f", {_counted(len(receipt.removed), 'object')} replaced" if receipt.removed else ""
    quarantined = f", {_counted(receipt.counts.quarantined, 'line')} kept aside" if receipt.counts.quarantined else ""
    return (
        f"{receipt.scope}: {_counted(receipt.rows, 'row')} in {_counted(len(receipt.objects), 'object')}, "
        f"{receipt.bytes / 1e6:,.1f} MB, landed in {seconds:,.1f} s{removed}{quarantined}. {receipt.manifest}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
