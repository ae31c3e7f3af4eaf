"""Partitions that landed in a step that fails later, as materializations of their own.

Dagster reports nothing of a step that fails, though these partitions are published. It must not know how they landed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg

from s3dest_dagster.commit.manifest import ReachedState
from s3dest_dagster.dagster.asset_metadata import preview_rows_of, scopes_of, stream_of
from s3dest_dagster.dagster.failures import placed
from s3dest_dagster.dagster.metadata import (
    DATA_VERSION_TAG,
    common_version,
    data_version,
    receipt_metadata,
    unchanged,
    version_before,
)
from s3dest_dagster.dagster.outputs import DeferredRead, deliveries, let_go, opened
from s3dest_dagster.dagster.preview import Preview
from s3dest_dagster.dagster.run_id import current_execution, delivery_id, new_sync, now, now_ms, sync_id
from s3dest_dagster.dagster.run_log import ProgressLines, checkpoint_sentence, landed_sentence, warn_of_second_writers
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, Sync, SyncMode


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
