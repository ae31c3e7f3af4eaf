"""The code location of the deployment: its streams, its lake, and where the steps of a run are executed.

Replace `measurements` by your streams. The environment names the rest, so that one image serves every environment.
"""

import os

import dagster as dg

from s3dest_dagster import S3DestinationIOManager, stream_asset


def executor() -> dg.ExecutorDefinition:
    """Where steps run: `LAKE_EXECUTOR` is "celery", "kubernetes", or "processes" (the default: next to the run)."""
    match os.environ.get("LAKE_EXECUTOR", "processes"):
        case "celery":
            from dagster_celery import celery_executor
            from dagster_celery_config import EXECUTOR_CONFIG

            return celery_executor.configured(EXECUTOR_CONFIG)
        case "kubernetes":
            from dagster_k8s import k8s_job_executor

            return k8s_job_executor
        case "processes":
            return dg.multiprocess_executor
        case other:
            raise ValueError(f"LAKE_EXECUTOR is {other!r}. It may be 'celery', 'kubernetes' or 'processes'.")


def lake() -> S3DestinationIOManager:
    """The destination. Its credentials are the machine's own: a role, or the variables of the AWS SDK."""
    return S3DestinationIOManager(s3_bucket_name=dg.EnvVar("S3_BUCKET"), s3_bucket_path="lake")


# The pool limits how many runs ask the source at the same time; dagster.yaml has its default limit.
@stream_asset(namespace="plant", partitions_def=dg.DailyPartitionsDefinition(start_date="2026-01-01"), pool="plant")
def measurements(context: dg.AssetExecutionContext):
    """A day of measurements."""
    start, _ = context.partition_time_window
    for minute in range(24 * 60):
        yield {"sensor": f"s{minute % 10}", "minute": minute, "day": start.date().isoformat(), "value": minute / 7}


defs = dg.Definitions(
    assets=[measurements],
    jobs=[dg.define_asset_job("land", [measurements])],
    resources={"io_manager": lake()},
    executor=executor(),
)
