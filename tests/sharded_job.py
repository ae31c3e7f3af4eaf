"""A job with a sharded asset that other processes can load: its bucket and its behaviour stand in the environment."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from server_variables import server_of_environment, server_variables
from servers import S3Server

from s3dest_dagster import JsonlFormat, S3DestinationIOManager, sharded_stream_asset

SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "text": {"type": "string"}}}
ROWS = 300


@sharded_stream_asset(shards=3, json_schema=SCHEMA)
def events(shard: int):
    """Shard 1 fails at its first attempt, as the environment says: by an error, or because its process is killed after
    several objects are closed."""
    attempts = Path(os.environ["ATTEMPTS"]) / f"{shard}-{time.time_ns()}"
    first = not list(attempts.parent.glob(f"{shard}-*"))
    attempts.touch()
    for number in range(ROWS):
        if first and shard == 1 and number == 2 * ROWS // 3:
            if os.environ["FAULT"] == "kill":
                time.sleep(1)  # so that the parts are sent
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("lost its database")
        yield [{"id": shard * ROWS + number, "text": f"{number:0500}"}]


def io_manager() -> S3DestinationIOManager:
    connection, bucket = server_of_environment()
    return S3DestinationIOManager(
        s3_bucket_name=bucket,
        s3=connection,
        object_size_mb=0.05,
        format=JsonlFormat(compression="No Compression"),  # type: ignore[arg-type]
    )


def job(executor: dg.ExecutorDefinition) -> dg.JobDefinition:
    definitions = dg.Definitions(
        [events],
        jobs=[dg.define_asset_job("load", [events])],
        resources={"io_manager": io_manager()},
        executor=executor,
    )
    return definitions.resolve_job_def("load")


def in_one_process() -> dg.JobDefinition:
    return job(dg.in_process_executor)


def in_many_processes() -> dg.JobDefinition:
    return job(dg.multiprocess_executor.configured({"max_concurrent": 2}))


# ---------------------------------------------------------------------- for tests


def set_environment(
    monkeypatch: pytest.MonkeyPatch, server: S3Server, bucket: str, folder: Path, *, fault: str
) -> None:
    """Sets the environment of the job. `fault` is "error" or "kill"."""
    (folder / "attempts").mkdir()
    variables = {
        **server_variables(server, bucket),
        "ATTEMPTS": str(folder / "attempts"),
        "FAULT": fault,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def attempts_of(folder: Path) -> dict[str, int]:
    """How often each shard was read."""
    return dict(Counter(path.name.partition("-")[0] for path in (folder / "attempts").iterdir()))


def execute_twice(name: str, folder: Path) -> None:
    """A run of the job that fails, and its re-execution from failure."""
    found = dg.reconstructable({"in_one_process": in_one_process, "in_many_processes": in_many_processes}[name])
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        with dg.execute_job(found, instance) as first:
            assert not first.success
        again = dg.ReexecutionOptions.from_failure(first.run_id, instance)
        with dg.execute_job(found, instance, reexecution_options=again) as second:
            assert second.success
