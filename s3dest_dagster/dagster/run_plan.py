"""Shows what a run would do, in its log and as an observation of the asset, without reading or landing anything.

Must not know: where the settings of a run come from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from s3dest_dagster.commit.states import reached_state
from s3dest_dagster.dagster.asset_metadata import partition_scopes, partitions_of_run, stream_of
from s3dest_dagster.dagster.run_config import (
    StreamRunConfig,
    destination_of_run,
    for_stream,
    refuse_settings,
    shown_settings,
    stream_of_run,
)
from s3dest_dagster.dagster.run_landing import LandingResource, as_landing_resource, new_sync, now
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.inspection.plan import StreamPlan, plan
from s3dest_dagster.printable import amount, printable
from s3dest_dagster.stream import Scope, Stream, SyncMode

SHOWN_KEYS = 20
"""The number of objects to delete that are listed one by one."""


def show_plan(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    keys: Mapping[dg.AssetKey, Stream],
    resource: LandingResource,
    config: StreamRunConfig,
) -> None:
    """Shows what the run would do with each scope of these assets. Raises what `plan` raises."""
    destination = destination_of_run(config, resource.destination())
    with open_target(destination, resource.bucket(), clock=now, entropy=os.urandom) as target:
        for key, source_stream in keys.items():
            landed = stream_of(key, context.assets_def.metadata_by_key[key])
            own = for_stream(config, landed.id)
            stream = stream_of_run(own, source_stream, destination)
            for scope in _scopes(context, landed).values():
                _show(context, key, scope, stream, target, own)


def show_plan_of_output(execution: dg.AssetExecutionContext, config: StreamRunConfig) -> None:
    """Shows what the run would do with the only asset of a step.

    Raises:
        SettingsError: The step has checks, whose results Dagster expects from it.
    """
    (key,) = execution.assets_def.keys
    stream = stream_of(key, execution.assets_def.metadata_by_key[key])
    if execution.assets_def.check_keys:
        reason = "Dagster expects results of its check_specs from each run. Use build_landing_checks or run them apart."
        refuse_settings(config, ["plan"], str(stream.id), reason)
    # Dagster has prepared the IO manager of the output, and gives it to no function.
    resources = execution.get_step_execution_context().resources
    name = execution.assets_def.get_io_manager_key_for_asset_key(key)
    show_plan(execution, {key: stream}, as_landing_resource(getattr(resources, name), name), config)


def _scopes(context: dg.AssetExecutionContext | dg.OpExecutionContext, stream: Stream) -> dict[str | None, Scope]:
    partitions = context.assets_def.partitions_def
    if partitions is None:
        return {None: Scope(stream.id)}
    return partition_scopes(stream.id, partitions, partitions_of_run(context, stream.id))


def _show(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    key: dg.AssetKey,
    scope: Scope,
    stream: Stream,
    target: Target,
    config: StreamRunConfig,
) -> None:
    sync = new_sync(key, scope.partition)
    (found,) = plan(target, [stream], sync, scopes=[scope], assets=[key.to_user_string()]).streams
    start = _start(found, stream, target, config)
    sentence = (
        f"{scope}: would be {start}, and land with the sync mode {_mode(found)}. "
        f"The first object would be {found.first_key}."
    )
    context.log.info(printable(sentence))
    context.log_event(
        dg.AssetObservation(asset_key=key, partition=scope.partition, metadata=_metadata(found, start, config))
    )


def _mode(found: StreamPlan) -> str:
    if not found.deletes:
        return str(found.sync_mode)
    return f"{found.sync_mode}, replacing {amount(len(found.deletes), 'object')}"


def _start(found: StreamPlan, stream: Stream, target: Target, config: StreamRunConfig) -> str:
    """Where the read would begin."""
    if config.start_date is not None:
        return f"read from {config.start_date} on"
    if config.state is not None:
        return "read from the given state on"
    if found.scope.partition is None and found.sync_mode is SyncMode.APPEND:
        template = target.destination.template_of(stream)
        if reached_state(target.bucket, template, found.scope) is not None:
            return "read from the last state on"
    return "read from the beginning"


def _metadata(found: StreamPlan, start: str, config: StreamRunConfig) -> dict[str, Any]:
    changes = [str(change) for change in found.column_changes]
    return {
        "plan": True,
        "sync_mode": str(found.sync_mode),
        "start": start,
        "first_key": found.first_key,
        "deleted_objects": len(found.deletes),
        **({"deleted_keys": list(found.deletes[:SHOWN_KEYS])} if found.deletes else {}),
        **({"column_changes": changes} if changes else {}),
        **({"former_template": found.former_template} if found.former_template else {}),
        **({"discards": True} if found.discards else {}),
        **shown_settings(config),
    }
