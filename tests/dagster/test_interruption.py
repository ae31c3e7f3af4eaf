"""A run is interrupted while it lands: by Ctrl-C, or by the signal of a container orchestrator."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from fault_proxy import Fault, fault_proxy
from interrupted_runs import land_endlessly, land_in_processes, read_endlessly
from killed_job import ROWS, STREAMS
from killed_runs import KilledJob
from process_pool import PROCESSES
from scripted_source import ScriptedSource, is_running, is_soon_gone
from server_variables import server_variables

from s3dest_dagster.settings.destination import S3Destination


@contextmanager
def interrupted(run: Callable[..., None], *arguments: Any, by: signal.Signals, until: Callable[[], bool]) -> Iterator:
    """Starts the run in its own process. The block is over when it has begun; then the signal ends it, and it fails."""
    process = PROCESSES.Process(target=run, args=arguments)
    process.start()
    try:
        while not until():
            assert process.is_alive()
            time.sleep(0.05)
        yield
        assert process.pid is not None
        os.kill(process.pid, by)
        process.join()
        assert process.exitcode != 0
    finally:
        process.kill()
        process.join()


def test_an_interrupted_run_leaves_neither_objects_nor_uploads(lake, tmp_path):
    begun = tmp_path / "begun"
    connection = lake.server.connection
    with interrupted(land_endlessly, lake.bucket, connection, begun, by=signal.SIGINT, until=begun.exists):
        assert lake.uploads() > 0
    # The abilities of the server are known from now on, and the names of the columns are reserved.
    assert lake.all_keys() == ["_s3dest/server.json", "_s3dest/~/endless/~stream.json"]
    assert lake.uploads() == 0


def test_an_interrupted_run_ends_a_stubborn_connector_though_the_server_hangs(lake, tmp_path):
    """The connector and its child ignore SIGTERM, and S3 answers neither parts nor aborts. The run waits for none of
    them."""
    begun, child = tmp_path / "begun", tmp_path / "child"
    scripted = ScriptedSource(tmp_path).ignores_sigterm().spawns_grandchild(child)
    scripted.generated("users", 70_000, text=os.urandom(60).hex()).touches(begun).sleeps(600).source()
    with fault_proxy(lake.server) as proxy:
        lake.server.store_abilities(S3Destination(s3_bucket_name=lake.bucket), proxy.server.endpoint)
        proxy.always(Fault.HANG, "UploadPart", "AbortMultipartUpload")
        connection = replace(proxy.server.connection, read_timeout_s=600)

        def landing() -> bool:
            return "UploadPart" in proxy.calls and begun.exists()

        with interrupted(read_endlessly, lake.bucket, connection, scripted.path, by=signal.SIGTERM, until=landing):
            pass
    assert not is_running(scripted.calls("read")[0]["pid"])
    assert is_soon_gone(int(child.read_text()))
    assert lake.data_keys() == []


def test_an_interrupted_run_ends_though_the_server_hangs_while_its_abilities_are_tried(lake, tmp_path):
    with fault_proxy(lake.server) as proxy:
        proxy.always(Fault.HANG, "UploadPart", "AbortMultipartUpload")
        connection = replace(proxy.server.connection, read_timeout_s=600)
        run = interrupted(
            land_endlessly,
            lake.bucket,
            connection,
            tmp_path / "begun",
            by=signal.SIGTERM,
            until=lambda: "UploadPart" in proxy.calls,
        )
        with run:
            pass


def test_a_terminated_run_ends_the_process_of_its_step_and_leaves_no_upload(lake, tmp_path):
    """SIGTERM reaches the process of the run, as a run launcher sends it, and that process ends the one of the step."""
    begun = tmp_path / "begun"
    environment = {**server_variables(lake.server, lake.bucket), "BEGUN": str(begun)}
    run = interrupted(land_in_processes, str(tmp_path), environment, by=signal.SIGTERM, until=begun.exists)
    with run:
        assert lake.uploads() > 0
    assert lake.uploads() == 0
    assert lake.data_keys() == []
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        (ended,) = instance.get_runs()
        events = [each.dagster_event for each in instance.all_logs(ended.run_id) if each.dagster_event]
    assert ended.is_finished
    assert "STEP_FAILURE" in [each.event_type_value for each in events]


# Eight steps, each a process of its own, in four pairs.
@pytest.mark.timeout(300)
def test_killed_steps_that_are_executed_again_from_failure_land_every_record_once(lake, tmp_path, metadata_of):
    """SIGKILL ends the processes of both steps amid their uploads. The second time, the partition has landed before."""
    objects: set[str] = set()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = KilledJob(lake.server, lake.bucket, tmp_path, instance)
        for _ in range(2):
            run_id = job.kill_midway("2026-01-06")
            left = job.uploads()
            assert set(lake.data_keys()) == objects
            receipts = job.execute_again(run_id)
            assert job.uploads() <= left
            assert receipts.keys() == STREAMS
            shown = {name: metadata_of(receipt.metadata) for name, receipt in receipts.items()}
            for name, values in shown.items():
                counts = [values[each] for each in ("rows", "records_read", "dagster/partition_row_count")]
                assert (receipts[name].partition, *counts) == ("2026-01-06", ROWS, ROWS, ROWS)
                assert lake.ids(f"{name}/") == list(range(ROWS))
            objects = {each["key"] for values in shown.values() for each in values["objects"]}
            assert set(lake.data_keys()) == objects
    job.sweep()
    assert job.uploads() == set()
    assert all(is_soon_gone(call["pid"]) for call in job.scripted.calls("read"))
