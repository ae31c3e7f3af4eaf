"""An asset's output into its bucket: every scope of the step landed, told about while it runs and when it is done.

It knows Dagster's output context on one side and landings on the other; it must not know the IO manager's settings.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg

from s3dest_dagster.destination import S3Destination
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.landing import Landing, ReachedState, Receipt, Sync, Target, open_target
from s3dest_dagster.orchestration.declared import scopes_of, stream_of
from s3dest_dagster.orchestration.delivery import deliveries, let_go, opened
from s3dest_dagster.orchestration.failures import placed
from s3dest_dagster.orchestration.metadata import receipt_metadata
from s3dest_dagster.orchestration.run_identity import current_execution, delivery_id, new_sync, now, now_ms, sync_id
from s3dest_dagster.orchestration.run_log import (
    ProgressLines,
    checkpoint_sentence,
    landed_sentence,
    warn_of_second_writers,
)
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, SyncMode


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
    run_id = delivery_id()
    try:
        with open_target(destination, bucket, clock=now, entropy=os.urandom) as target:
            for scope, records in deliveries(handed, scopes):
                sync = new_sync(sync_id(run_id, context.asset_key, scope.partition))
                started = time.monotonic()
                receipt = _land(records, target, stream, sync, scope, context.log.info)
                _tell(context, receipt, stream, bucket.name, time.monotonic() - started, alone=len(scopes) == 1)
                warn_of_second_writers(context.log, receipt, bucket)
    finally:
        let_go(handed)


def _land(
    records: Any, target: Target, stream: Stream, sync: Sync, scope: Scope, say: Callable[[str], None]
) -> Receipt:
    on_progress = partial(ProgressLines(str(scope), say).take, scope.stream)

    def on_checkpoint(receipt: Receipt) -> None:
        say(checkpoint_sentence(receipt))

    with (
        placed(scope),
        Landing(target, stream, sync, scope=scope, on_progress=on_progress, on_checkpoint=on_checkpoint) as landing,
    ):
        if not landing.recorded:
            with opened(records, _state_for(landing), emitted_at=now_ms) as items:
                for item in items:
                    landing.take(item)
        return landing.commit()


def _state_for(landing: Landing) -> ReachedState | None:
    """The state that a source goes on from. Partitions and full refreshes begin anew."""
    goes_on = landing.scope.partition is None and landing.stream.sync_mode is SyncMode.APPEND
    return landing.last_state if goes_on else None


# ---------------------------------------------------------------------- what is told


def _tell(
    context: dg.OutputContext, receipt: Receipt, stream: Stream, bucket: str, seconds: float, *, alone: bool
) -> None:
    """Logs the receipt and puts it on the materialization: of the run's one scope, or of this partition."""
    metadata = receipt_metadata(receipt, stream, bucket=bucket, seconds=seconds)
    context.log.info(landed_sentence(receipt, seconds))
    if alone:
        context.add_output_metadata(metadata)
    elif (execution := current_execution()) is not None:
        execution.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=receipt.scope.partition)
