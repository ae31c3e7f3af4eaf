"""A backfill on celery workers with the settings of deploy/, one of which is killed. Opt-in: `make test-scale`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from land_and_read import data_keys, ids_by_listing, open_uploads
from scale.deployment import DEPLOY, Deployment, deployment, new_home, postgres, redis_server, short_visibility
from scale.partitions import BATCHES, PARTITIONS, ids
from servers import S3Server

redis = pytest.importorskip("redis", reason="make test-scale installs it")
k8s = pytest.importorskip("dagster_k8s")

pytestmark = [pytest.mark.scale, pytest.mark.timeout(3600)]

MAX_RUNTIME_S = 90
VISIBILITY_S = 120
"""Longer than the maximum runtime, as in deploy/."""
SLOTS = 2
REDELIVERY_S = VISIBILITY_S + 130
"""Workers look for steps that were not acknowledged every 100 seconds."""
LAUNCH = """mutation($backfill: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $backfill) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
BACKFILL = "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
RUNS = """query { runsOrError { ... on Runs { results {
    runId status startTime endTime parentRunId tags { key value } } } } }"""
SLOTS_HELD = 'query { instance { concurrencyLimit(concurrencyKey: "plant") { activeSlotCount pendingStepCount } } }'


@dataclass(frozen=True)
class Run:
    id: str
    partition: str
    status: str
    retry: bool
    seconds: float


def runs(deployed: Deployment) -> list[Run]:
    """All runs, oldest first."""
    found = []
    for each in reversed(deployed.ask(RUNS)["runsOrError"]["results"]):
        tags = {tag["key"]: tag["value"] for tag in each["tags"]}
        seconds = (each["endTime"] or time.time()) - (each["startTime"] or time.time())
        run = Run(each["runId"], tags["dagster/partition"], each["status"], bool(each["parentRunId"]), seconds)
        found.append(run)
    return found


def report(line: str) -> None:
    """Shows a figure of the run."""
    print(f"\n{line}", end="", flush=True)


def backfill(deployed: Deployment, partitions: Sequence[str]) -> str:
    """Asks the web interface for a backfill, as its button does. Returns its id."""
    asked = {"assetSelection": [{"path": ["plant", "measurements"]}], "partitionNames": list(partitions)}
    return deployed.ask(LAUNCH, backfill=asked)["launchPartitionBackfill"]["backfillId"]


def wait_for(done: Callable[[], bool], timeout_s: float, what: str, *, every_s: float = 0.5) -> float:
    """Waits, and returns for how many seconds."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() < began + timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(every_s)
    return time.monotonic() - began


def succeeded(deployed: Deployment, backfill_id: str) -> bool:
    status = deployed.ask(BACKFILL, id=backfill_id)["partitionBackfillOrError"]["status"]
    assert status in ("REQUESTED", "COMPLETED_SUCCESS"), status
    return status == "COMPLETED_SUCCESS"


# ---------------------------------------------------------------------- the bucket


def segments(server: S3Server, bucket: str) -> dict[str, int]:
    """How many segments there are of each partition, by listing."""
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return dict(Counter(key.split("/")[-3] for key in keys if "/segments/" in key))


def s3dest(deployed: Deployment, *words: str) -> list[dict[str, Any]]:
    """The answer of the command in JSON."""
    command = [Path(sys.executable).with_name("s3dest"), *words, "--module", "scale.location", "--json"]
    done = subprocess.run(command, env={**os.environ, **deployed.environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def check_bucket(deployed: Deployment, server: S3Server, bucket: str, expected: list[int]) -> None:
    """Every record once, the objects of the manifests and no others: by listing, and by the command."""
    assert ids_by_listing(server, bucket) == expected
    (stream,) = s3dest(deployed, "verify", "--deep")
    assert (stream["rows"], stream["foreign"], stream["objects"]) == (len(expected), 0, len(data_keys(server, bucket)))


# ---------------------------------------------------------------------- the fault


def begun(progress: Path) -> list[tuple[str, int, int]]:
    """What the steps have reported: partition, batch, and process."""
    parts = (path.name.split("-") for path in progress.iterdir())
    return [(partition, int(batch), int(pid)) for partition, batch, pid, _ in parts]


def in_the_middle(worker: subprocess.Popen, progress: Path) -> set[str]:
    """The partitions whose steps the worker executes now and has read by two thirds, so that objects are closed."""
    last: dict[tuple[str, int], int] = {}
    for partition, batch, pid in begun(progress):
        last[partition, pid] = max(batch, last.get((partition, pid), 0))
    return {
        partition
        for (partition, pid), batch in last.items()
        if 2 * BATCHES // 3 <= batch < BATCHES - 3 and Path(f"/proc/{pid}").exists() and os.getpgid(pid) == worker.pid
    }


@pytest.fixture
def deployed(moto_s3: S3Server, tmp_path: Path) -> Iterator[Deployment]:
    """The deployment on loopback, without workers."""
    logs, progress = tmp_path / "logs", tmp_path / "progress"
    for folder in (logs, progress):
        folder.mkdir()
    new_home(tmp_path / "home", max_runtime_s=MAX_RUNTIME_S, runs=4, slots=SLOTS)
    settings = short_visibility(tmp_path / "settings", VISIBILITY_S)
    tests = Path(__file__).resolve().parents[1]
    with postgres(logs) as of_postgres, redis_server(logs) as of_redis:
        environment = {
            **of_postgres,
            **of_redis,
            "S3_BUCKET": moto_s3.new_bucket(),
            "DAGSTER_LOGS_BUCKET": moto_s3.new_bucket(),
            "AWS_ENDPOINT_URL_S3": moto_s3.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": moto_s3.access_key_id,
            "AWS_SECRET_ACCESS_KEY": moto_s3.secret_access_key,
            "PROGRESS": str(progress),
            "PYTHONPATH": os.pathsep.join(map(str, (settings, DEPLOY, tests))),
        }
        with deployment(environment, tmp_path / "home", logs, tests / "scale" / "location.py") as running:
            yield running


def test_a_backfill_outlives_a_killed_worker(deployed: Deployment, moto_s3: S3Server, tmp_path: Path):
    bucket, progress = deployed.environment["S3_BUCKET"], tmp_path / "progress"
    records = list(range(len(PARTITIONS) * len(ids(PARTITIONS[0]))))
    first, second = (deployed.start_worker(name, processes=2) for name in ("worker-1", "worker-2"))
    asked, began = backfill(deployed, PARTITIONS), time.monotonic()

    wait_for(lambda: sum(run.status == "SUCCESS" for run in runs(deployed)) >= 3, 600, "three partitions")
    wait_for(
        lambda: bool(in_the_middle(first, progress)) and open_uploads(moto_s3, bucket) > 0,
        600,
        "a step in the middle on the first worker",
        every_s=0.1,
    )
    lost = in_the_middle(first, progress)
    os.killpg(first.pid, signal.SIGKILL)
    uploads = open_uploads(moto_s3, bucket)
    report(f"killed a worker while it landed {', '.join(sorted(lost))}, with {uploads} open uploads")
    assert uploads > 0

    wait_for(lambda: succeeded(deployed, asked), 2400, "the backfill")
    assert second.poll() is None
    landed = runs(deployed)
    failed = [run for run in landed if run.status == "FAILURE"]
    report(
        f"{time.monotonic() - began:.0f} s: {dict(Counter(run.status for run in landed))}, "
        f"the failed ones after {', '.join(f'{run.seconds:.0f} s' for run in failed)}"
    )
    assert sorted(run.partition for run in landed if run.status == "SUCCESS") == PARTITIONS
    assert lost <= {run.partition for run in failed}
    check_bucket(deployed, moto_s3, bucket, records)
    assert segments(moto_s3, bucket) == dict.fromkeys(PARTITIONS, 1)

    # Only the killed process could not abort its uploads. They are invisible; a sweep looks for them.
    left = open_uploads(moto_s3, bucket)
    assert left <= uploads
    (swept,) = s3dest(deployed, "sweep", "--now", "2040-01-01T00:00:00Z")
    report(f"{left} uploads were left to the sweep")
    assert (swept["aborted"], open_uploads(moto_s3, bucket)) == (left, 0)

    # Redis delivers the lost step again. Its run has ended.
    steps = redis.Redis.from_url(deployed.environment["CELERY_BROKER_URL"])
    waited = wait_for(lambda: steps.hlen("unacked") == steps.llen("dagster") == 0, REDELIVERY_S, "no step is left")
    report(f"no step was left in Redis {waited:.0f} s later")
    held = deployed.ask(SLOTS_HELD)["instance"]["concurrencyLimit"]
    assert held == {"activeSlotCount": 0, "pendingStepCount": 0}

    # More partitions than the pool has slots, so that a slot that is still held would show; and everything lands twice.
    again = PARTITIONS[: 2 * SLOTS]
    asked = backfill(deployed, again)
    wait_for(lambda: succeeded(deployed, asked), 600, "the second backfill")
    assert len(runs(deployed)) == len(landed) + len(again)
    check_bucket(deployed, moto_s3, bucket, records)
    assert open_uploads(moto_s3, bucket) == 0


def test_dagster_k8s_accepts_the_launcher_of_the_values():
    launcher = yaml.safe_load((DEPLOY / "values.yaml").read_text("utf-8"))["runLauncher"]["config"]["k8sRunLauncher"]
    of_runs = launcher.pop("runK8sConfig")
    config = {**snake_case(launcher), "run_k8s_config": snake_case(of_runs)}
    config |= {"job_image": "lake:1", "dagster_home": "/opt/dagster/dagster_home"}
    config |= {"service_account_name": "lake-runs", "instance_config_map": "lake-instance"}
    result = process_config(resolve_to_config_type(k8s.K8sRunLauncher.config_type()), config)
    assert result.success, result.errors
    own = k8s.job.UserDefinedDagsterK8sConfig.from_dict(config["run_k8s_config"])
    settings = k8s.job.DagsterK8sJobConfig(job_image="lake:1", dagster_home="/opt/dagster/dagster_home")
    job = k8s.job.construct_dagster_k8s_job(settings, ["dagster"], "run", user_defined_k8s_config=own)
    assert (job.spec.active_deadline_seconds, job.spec.ttl_seconds_after_finished) == (15000, 86400)
    assert job.spec.template.spec.termination_grace_period_seconds == 300
    assert job.spec.template.metadata.annotations["karpenter.sh/do-not-disrupt"] == "true"


def snake_case(values: dict[str, Any]) -> dict[str, Any]:
    """What the chart makes of names: Dagster's own."""
    return {re.sub("(?=[A-Z])", "_", name).lower(): value for name, value in values.items()}
