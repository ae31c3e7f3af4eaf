"""Each step runs in a process of its own, started as executors on Kubernetes and Docker start it.

Such an executor sends the name of the code location, the run and the step. The process loads the definitions by that
name, so that nothing of them is pickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import create_execution_plan
from dagster._grpc.types import ExecuteStepArgs
from dagster_command import run_dagster
from process_pool import PROCESSES
from scripted_source import ScriptedSource

LOCATION = """
import json
import os

import dagster as dg
import pyarrow as pa
from s3dest_dagster import AirbyteSource, JsonlFormat, S3DestinationIOManager, S3Resource, build_stream_assets
from s3dest_dagster import stream_asset

source = AirbyteSource(json.loads(os.environ["CONNECTOR"]), lambda: {"page": 1}, on_config=lambda config: None)
connected = build_stream_assets(
    source,
    catalog=json.loads(os.environ["CATALOG"]),
    streams={"users": "append"},
    partitions_def=None,
    as_one_run="shop",
)


@stream_asset
def people(users: pa.Table):
    return [{"id": number} for number in users["id"].to_pylist()]


@dg.definitions
def defs():
    s3 = S3Resource(
        endpoint_url=os.environ["S3_URL"],
        region_name="us-east-1",
        aws_access_key_id=os.environ["S3_KEY"],
        aws_secret_access_key=dg.EnvVar("S3_SECRET"),
    )
    io_manager = S3DestinationIOManager(
        s3=s3, s3_bucket_name=os.environ["S3_BUCKET"], format=JsonlFormat(compression="No Compression")
    )
    return dg.Definitions(
        [*connected, people], jobs=[dg.define_asset_job("nightly")], resources={"io_manager": io_manager}
    )
"""


class Location:
    """The code location in a file, and its variables."""

    def __init__(self, lake: Any, folder: Path) -> None:
        scripted = ScriptedSource(folder).stream("users")
        scripted.records("users", {"id": 1}, {"id": 2}).state("users", {"at": 2})
        self.variables = {
            "CONNECTOR": json.dumps(scripted.source().command),
            "CATALOG": json.dumps(scripted.catalog),
            "S3_URL": lake.server.endpoint,
            "S3_KEY": lake.server.access_key_id,
            "S3_SECRET": lake.server.secret_access_key,
            "S3_BUCKET": lake.bucket,
        }
        file = folder / "location.py"
        file.write_text(LOCATION)
        repository = ReconstructableRepository.for_file(str(file), "defs", str(folder))
        self.job = repository.get_reconstructable_job("nightly")

    def new_run(self, instance: dg.DagsterInstance) -> dg.DagsterRun:
        return instance.create_run_for_job(
            self.job.get_definition(),
            execution_plan=create_execution_plan(self.job),
            job_code_origin=self.job.get_python_origin(),
            status=dg.DagsterRunStatus.STARTED,
        )

    def execute(self, instance: dg.DagsterInstance, run: dg.DagsterRun, step: str) -> None:
        """Executes a step in a process, by the command that the executor sends."""
        sent = ExecuteStepArgs(self.job.get_python_origin(), run.run_id, [step], instance.get_ref())
        command = sent.get_command_args()
        arguments = command[command.index("api") :]
        process = PROCESSES.Process(target=run_dagster, args=(arguments, self.variables))
        process.start()
        process.join()
        assert process.exitcode == 0


@pytest.fixture
def location(lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    made = Location(lake, tmp_path)
    for name, value in made.variables.items():
        monkeypatch.setenv(name, value)
    return made


def test_steps_in_processes_load_their_definitions_by_name_and_land_once(lake, location, tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        run = location.new_run(instance)
        for step, landed in (("shop", "users/"), ("people", "people/")):
            location.execute(instance, run, step)
            assert lake.ids(landed) == [1, 2]
        # The machine of the step was lost: the executor starts it again.
        location.execute(instance, run, "shop")
        assert lake.ids("users/") == [1, 2]
        events = instance.fetch_materializations(dg.AssetKey("users"), limit=10).records
        assert ["repeated" in each.asset_materialization.metadata for each in events] == [True, False]
