"""Measures contestants in child processes, in turns, so that changes of the machine's speed affect all of them.

It must not know what a contestant does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.messages import ROOT

PEERS_PYTHON = ROOT / ".bench" / "bin" / "python"
"""The interpreter of the environment that peers and loops have, made by `make bench`."""
_PEER_SIDES = ("loop", "dlt", "duckdb", "polars")


@dataclass(frozen=True)
class Run:
    """What a child process reported. CPU and wall in seconds, memory in MB (1024²), `nbytes` of the files written."""

    cpu_s: float
    wall_s: float
    idle_mb: float
    peak_mb: float
    nbytes: int
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grown_mb(self) -> float:
        """How far memory rose above what the process had before the work."""
        return self.peak_mb - self.idle_mb


class ContestantFailed(Exception):
    """A child process ended with an error; the text is what it wrote."""


def has_peers() -> bool:
    """Whether the environment of the peers is there."""
    return PEERS_PYTHON.exists()


def measured(task: Mapping[str, Any]) -> Run:
    """One run of one contestant."""
    python = PEERS_PYTHON if task["side"] in _PEER_SIDES else Path(sys.executable)
    return run_child([str(python), "-m", "benchmarks.contestant", json.dumps(task)])


def run_child(command: Sequence[str], *, stdin: Any = subprocess.DEVNULL) -> Run:
    """Runs a command that prints a measurement as the last line of its output."""
    # Polars takes its number of threads from the environment when it is imported.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=stdin, capture_output=True, text=True)
    if done.returncode:
        raise ContestantFailed(f"{' '.join(command)[:300]} failed with {done.returncode}:\n{done.stderr[-4000:]}")
    report = json.loads(done.stdout.strip().rpartition("\n")[2])
    return Run(report["cpu_s"], report["wall_s"], report["idle_mb"], report["peak_mb"], report["bytes"], report)


def interleaved(
    tasks: Mapping[str, Mapping[str, Any]], rounds: int, *, say: Callable[[str], None]
) -> dict[str, list[Run]]:
    """The runs of each contestant by name: in every round each runs once, in the same order."""
    runs: dict[str, list[Run]] = {name: [] for name in tasks}
    for turn in range(1, rounds + 1):
        for name, task in tasks.items():
            say(f"round {turn} of {rounds}: {name}")
            runs[name].append(measured(task))
    return runs


def cpu_per_record(runs: Sequence[Run], records: int) -> float:
    """Median CPU in microseconds per record."""
    return median(each.cpu_s for each in runs) * 1e6 / records


def wall_s(runs: Sequence[Run]) -> float:
    """Median wall time in seconds."""
    return median(each.wall_s for each in runs)


def stage_sum_per_record(runs: Sequence[Run], records: int) -> float:
    """Median of the sums of the stages' CPU, in microseconds per record."""
    return float(median(sum(each.report["stages"].values()) for each in runs)) * 1e6 / records
