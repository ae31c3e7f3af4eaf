"""Runs of `killed_job` whose steps are killed amid their uploads, and their re-execution from failure.

This is apart from the job, so that the processes of the steps import no more than they need.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
from killed_job import ROWS, STREAMS, TEXT
from scripted_source import ScriptedSource
from servers import S3Server

from s3dest_dagster import S3Destination
from s3dest_dagster.commit.maintenance import sweep
from s3dest_dagster.stream import StreamId

PARTITION = "dagster/partition"
TIME_LIMIT_S = 120


class KilledJob:
    """Runs the job on an instance, in a folder that has no script of a connector yet."""

    def __init__(self, server: S3Server, bucket: str, folder: Path, instance: dg.DagsterInstance) -> None:
        self._server, self._bucket, self._folder, self._instance = server, bucket, folder, instance
        self._go = folder / "go"
        self.scripted = ScriptedSource(folder)
        half = ROWS // 2
        self.scripted.generated("users", half, text=TEXT).waits_for(self._go)
        self.scripted.generated("users", half, first=half, text=TEXT).source()

    def kill_midway(self, day: str) -> str:
        """Runs the job for a day and kills both of its steps when each has open uploads. Gives the id of the run."""
        self._go.unlink(missing_ok=True)
        with ThreadPoolExecutor(1) as pool:
            killing = pool.submit(self._kill_steps, self.uploads())
            with dg.execute_job(self._job(), self._instance, tags={PARTITION: day}) as result:
                killing.result()
                assert not result.success
        return result.run_id

    def execute_again(self, run_id: str) -> dict[str, dg.AssetMaterialization]:
        """Re-executes the run from failure. Gives the materialization of each stream."""
        run = self._instance.get_run_by_id(run_id)
        assert run is not None
        # The web interface carries over the tag that names the partition. This function of Dagster's does not.
        tags = {PARTITION: run.tags[PARTITION]}
        options = dg.ReexecutionOptions.from_failure(run_id, self._instance)
        with dg.execute_job(self._job(), self._instance, tags=tags, reexecution_options=options) as result:
            assert result.success
            landed = [each.materialization for each in result.get_asset_materialization_events()]
        return {each.asset_key.path[-1]: each for each in landed}

    def uploads(self) -> set[tuple[str, str]]:
        """The key and the id of each open upload."""
        listed = self._server.client().list_multipart_uploads(Bucket=self._bucket).get("Uploads", [])
        return {(each["Key"], each["UploadId"]) for each in listed}

    def sweep(self) -> None:
        """Aborts what killed runs have left."""
        settings = S3Destination(s3_bucket_name=self._bucket)
        for name in STREAMS:
            sweep(self._server.open(settings), settings, StreamId(None, name))

    def _job(self) -> Any:
        # The process that is forked has an environment of its own, so the job's arguments say where the bucket is.
        arguments = {
            "endpoint": self._server.endpoint,
            "key_id": self._server.access_key_id,
            "secret": self._server.secret_access_key,
            "bucket": self._bucket,
            "folder": str(self._folder),
        }
        return dg.build_reconstructable_job("killed_job", "killed_job", reconstructable_kwargs=arguments)

    def _kill_steps(self, before: set[tuple[str, str]]) -> None:
        """Kills the steps when each stream has other uploads than `before`. Then what waits for `go` goes on."""
        deadline = time.monotonic() + TIME_LIMIT_S
        try:
            while (begun := {name for name in STREAMS for key, _ in self.uploads() - before if name in key}) != STREAMS:
                assert time.monotonic() < deadline, f"Only {begun} have uploads."
                time.sleep(0.05)
            for pid in self._steps():
                os.kill(pid, signal.SIGKILL)
        finally:
            self._go.touch()

    def _steps(self) -> list[int]:
        """The processes of the steps of the newest run."""
        (run,) = self._instance.get_runs(limit=1)
        started = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
        return [int(each.dagster_event.event_specific_data.metadata["pid"].value) for each in started]
