"""Memory of a landing above an idle process that has Dagster imported, whatever the size of the input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from benchmarks.measure import Run, run_child
from benchmarks.messages import ROOT, USERS, MessageFile, message_file
from benchmarks.parts import Measured, Options
from benchmarks.report import megabytes, table

_FORMATS = {"JSONL.gz": "jsonl", "CSV.gz, root level": "csv", "Avro deflate 1": "avro", "Parquet snappy": "parquet"}
_REPEATED_RECORDS = 20_000
_STREAMS = 30
_ROW_GROUP_MB = 128
_ALLOWED_MB, _BUDGET_MB = 150, 512
_WORKERS = 2
_EARLY = "row groups and objects ended early"


def memory(options: Options) -> Measured:
    """One stream in every format, for each of the sizes."""
    file = message_file(USERS, _REPEATED_RECORDS)
    rows = [cells for title, name in _FORMATS.items() for cells in _rows(title, name, file, options)]
    header = ["format", "input", "records", "idle process", "landing adds", "allowed", "CPU", "wall time"]
    text = f"Two encode workers, messages through a pipe, objects dropped as they are made.\n\n{table(header, rows)}"
    return Measured(text, {"ours": versions()})


def _rows(title: str, name: str, file: MessageFile, options: Options) -> Iterator[list[str]]:
    allowed = _ALLOWED_MB + (2 * _ROW_GROUP_MB if name == "parquet" else 0)
    for gigabytes in options.gigabytes:
        options.say(f"{title}: {gigabytes:g} GB")
        run = fed(file, name, gigabytes)
        yield [title, f"{gigabytes:g} GB", *_measurements(run, f"≤ {allowed} MB"), f"{run.wall_s:.0f} s"]


def interleaved_streams(options: Options) -> Measured:
    """Thirty streams at once, record by record in turns, in the format that buffers most."""
    file = message_file(USERS, _REPEATED_RECORDS)
    rows = []
    for gigabytes in options.gigabytes:
        options.say(f"{_STREAMS} streams: {gigabytes:g} GB")
        run = fed(file, "parquet", gigabytes, streams=_STREAMS)
        figures = [f"{run.report['objects']}", f"{run.report['ended_early']}", f"{run.wall_s:.0f} s"]
        rows.append([f"{gigabytes:g} GB", *_measurements(run, f"≤ {_BUDGET_MB} MB"), *figures])
    header = ["input", "records", "idle process", "landing adds", "budget", "CPU", "objects", _EARLY, "wall time"]
    text = f"{_STREAMS} interleaved streams of users as Parquet, two encode workers.\n\n{table(header, rows)}"
    return Measured(text, {"ours": versions()})


def fed(file: MessageFile, name: str, gigabytes: float, *, streams: int = 1) -> Run:
    """A landing, in a process of its own, of messages that another process writes into a pipe."""
    nbytes = str(int(gigabytes * 1e9))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    feeding = [sys.executable, "-m", "benchmarks.feeder", str(file.path), nbytes, str(streams)]
    task: Mapping[str, Any] = {"format": name, "schema": file.schema, "streams": streams, "workers": _WORKERS}
    with subprocess.Popen(feeding, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as feeder:
        try:
            return run_child([sys.executable, "-m", "benchmarks.fed_landing", json.dumps(task)], stdin=feeder.stdout)
        finally:
            assert feeder.stdout is not None
            feeder.stdout.close()
            feeder.terminate()


def _measurements(run: Run, allowed: str) -> list[str]:
    records = f"{run.report['records']:,}"
    return [records, megabytes(run.idle_mb), megabytes(run.grown_mb), allowed, f"{run.cpu_s:.0f} s"]


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("dagster", "msgspec", "pyarrow", "isal")}
