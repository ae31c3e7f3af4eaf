"""What Dagster does on its own: its daemon runs until a new file and a missing asset have landed.

A child process of the demo. Not part of the library.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from server import ROOT

from s3dest_dagster.local.processes import QUIET_S

BIN = Path(sys.executable).parent
LOG = ROOT / ".demo" / "daemon.log"
CONDITIONS = "default_automation_condition_sensor"
_TIMEOUT_S = 600


def let_it_work(
    home: Path, environment: Mapping[str, str], sensor: str, missing: str, *, daemon: bool
) -> Iterator[str | None]:
    """Waits until the sensor's run has ended and the missing asset exists; yields what the runs have landed.

    None stands for a few seconds of waiting. If `daemon` is true, a daemon is started; otherwise one must be running.
    """
    since = datetime.now(UTC)
    with dg.DagsterInstance.from_config(str(home)) as instance, _daemon(environment) if daemon else _nobody() as alive:
        reported = started = time.monotonic()
        while not _done(instance, since, sensor, missing):
            if time.monotonic() > started + _TIMEOUT_S or not alive():
                raise SystemExit(f"Dagster's daemon did not do it; see {LOG}.")
            time.sleep(1)
            if time.monotonic() > reported + QUIET_S:
                reported = time.monotonic()
                yield None
        for run in _runs(instance, since):
            yield from _landed(instance, run)


def _done(instance: dg.DagsterInstance, since: datetime, sensor: str, missing: str) -> bool:
    runs = _runs(instance, since)
    if failed := [run.run_id for run in runs if run.status is dg.DagsterRunStatus.FAILURE]:
        raise SystemExit(f"The run {failed[0]} failed; `make ui` shows why.")
    asked = any(run.tags.get("dagster/sensor_name") == sensor for run in runs)
    there = instance.get_latest_materialization_event(dg.AssetKey.from_user_string(missing)) is not None
    return asked and there and all(run.is_finished for run in runs)


def _runs(instance: dg.DagsterInstance, since: datetime) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(created_after=since))


def _landed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[str]:
    for entry in instance.all_logs(run.run_id):
        if not entry.is_dagster_event and " landed " in entry.user_message:
            yield entry.user_message


@contextmanager
def _daemon(environment: Mapping[str, str]) -> Iterator[Callable[[], bool]]:
    LOG.parent.mkdir(exist_ok=True)
    command = [BIN / "dagster-daemon", "run", "-w", "workspace.yaml"]
    with LOG.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield lambda: process.poll() is None
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def _nobody() -> Iterator[Callable[[], bool]]:
    yield lambda: True
