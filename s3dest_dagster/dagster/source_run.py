"""One run of a step that reads a source for several streams: it reads partition by partition, and reports each stream.

Must not know: how one partition is read (`partition_run`).
"""

import os
from collections.abc import Collection, Iterator
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.failures import failure_of_streams
from s3dest_dagster.dagster.partition_run import PartitionRun
from s3dest_dagster.dagster.run_config import StreamRunConfig, destination_of_run
from s3dest_dagster.dagster.run_landing import LandingResource, StepReport, add_partition_metadata, now
from s3dest_dagster.dagster.shared_streams import refuse_shared_streams
from s3dest_dagster.dagster.source_step import SourceStep
from s3dest_dagster.errors import S3DestError
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.stream import Scope


def land_streams(
    step: SourceStep,
    context: dg.AssetExecutionContext,
    resource: LandingResource,
    config: StreamRunConfig,
    only: Collection[str] | None = None,
) -> Iterator[dg.MaterializeResult[Any]]:
    """Lands the selected streams, and reports each as materialized once all of its partitions are published.

    A stream that fails is not read for the remaining partitions. Its partitions that landed before are reported as
    materialized, however the step ends.

    Args:
        step: The source, and the streams that it can read.
        context: The context of the step.
        resource: Where the streams land.
        config: The settings of the run.
        only: The names of the streams to land, of those that the run selects. None: all of them.

    Raises:
        dg.Failure: At the end, if any stream failed.
    """
    refuse_shared_streams(context, context.selected_asset_keys)
    selected = list(step.selected(context, only).values())
    if not selected:
        return
    destination = destination_of_run(config, resource.destination())
    partitions = step.partitions_of(context, selected[0])
    failed: dict[Scope, S3DestError] = {}
    with (
        open_target(destination, resource.bucket(), clock=now, entropy=os.urandom) as target,
        StepReport(context, target.bucket, step.partitions) as report,
    ):
        for partition in partitions:
            failed_streams = {scope.stream for scope in failed}
            streams = [stream for stream in selected if step.landed(context, stream) not in failed_streams]
            rows = getattr(resource, "preview_rows", 0)
            part = PartitionRun(step, context, target, report, partition, streams, rows, config)
            for stream, metadata in part.land(failed):
                key = step.keys[stream]
                if partition is not None:
                    add_partition_metadata(key, partition, metadata)
                if partition == partitions[-1]:
                    own = metadata if partition is None else {}
                    yield dg.MaterializeResult(asset_key=key, metadata=own, data_version=report.finish(key))
    if failed:
        raise failure_of_streams(failed, landed=len(selected) - len(failed))
