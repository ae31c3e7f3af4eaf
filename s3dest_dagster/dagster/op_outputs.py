"""The outputs of ops that belong to no asset: those that name a stream land.

Must not know: how a landing works.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, closing, nullcontext
from inspect import isgenerator
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import op_scope, op_stream, preview_rows_of
from s3dest_dagster.dagster.outputs import ScopeOutput, split_by_scope
from s3dest_dagster.dagster.run_config import (
    destination_of_run,
    for_stream,
    refuse_settings,
    run_config_of,
    stream_of_run,
)
from s3dest_dagster.dagster.run_landing import StepReport, current_execution, now
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket


def land_op_output(
    context: dg.OutputContext,
    value: Any,
    destination: S3Destination,
    bucket: Bucket,
    *,
    preview_rows: int = 0,
    connection: S3Connection | None = None,
) -> None:
    """Lands the output of an op that names a stream, as a whole or not at all. None lands nothing.

    The output has the metadata of a materialization, since there is no asset. A step that is retried lands its output
    once. Two outputs of a run are two syncs, also of one stream.

    Raises:
        SettingsError: The output names no stream, and is not None.
    """
    if value is None:
        context.log.debug("The op gave nothing (None), so there is nothing to land.")
        return
    stream = op_stream(context.definition_metadata)
    if stream is None:
        raise _no_stream(context, value)
    config = for_stream(run_config_of(current_execution()), stream.id)
    refuse_settings(config, ["plan"], str(stream.id), "Its op has read its records already. Make it a stream_asset.")
    destination = destination_of_run(config, destination)
    stream = stream_of_run(config, stream, destination)
    scope = op_scope(context, stream.id)
    key = dg.AssetKey([*(stream.namespace or "").split("/"), stream.name, context.step_key, context.name])
    rows = preview_rows_of(context.definition_metadata or {}, preview_rows)
    release: AbstractContextManager[Any] = closing(value) if isgenerator(value) else nullcontext()
    with (
        release,
        open_target(destination, bucket, clock=now, entropy=os.urandom) as target,
        StepReport(context, target.bucket, None) as report,
    ):
        output = ScopeOutput(context, stream, target, report, rows, connection, config, key, None)
        for landed, records in split_by_scope(value, {scope.partition: scope}):
            context.add_output_metadata(output.land(landed, records))
        report.finish(key)


def _no_stream(context: dg.OutputContext, value: Any) -> SettingsError:
    return SettingsError(
        f"The op's output {context.name!r} is a {type(value).__name__}, and it names no stream, so that it cannot be "
        'landed. Name one, as dg.Out(metadata={"s3dest/name": "users"}); or give the output an IO manager of its own, '
        'as dg.Out(io_manager_key="files") with the resource dg.FilesystemIOManager(); or make it an asset.',
        setting="io_manager_key",
    )
