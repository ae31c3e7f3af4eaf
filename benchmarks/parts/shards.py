"""One stream on all cores: the wall time of two processes against that of one, and the memory of each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from statistics import median

from benchmarks.measure import Run, run_child, wall_s
from benchmarks.parts import Measured, Options
from benchmarks.report import at_most, megabytes, table, times
from benchmarks.sharded_landing import SOURCES, TIMES_AS_COLUMNS

_FORMATS = {"JSONL.gz": "jsonl", "CSV.gz, root level": "csv", "Avro deflate 1": "avro", "Parquet snappy": "parquet"}
_TARGET = 0.6
_PROCESSES = 2


def shards(options: Options) -> Measured:
    """Every format from every kind of source, landed by one process and by two."""
    runs: dict[tuple[str, str], list[Run]] = {}
    writing = [sys.executable, "-m", "benchmarks.sharded_landing", json.dumps({"write": options.records})]
    subprocess.run(writing, check=True)
    for turn in range(options.rounds):
        for source in SOURCES:
            for name in _FORMATS.values():
                options.say(f"round {turn + 1} of {options.rounds}: {name} from {source}")
                task = {"format": name, "source": source, "records": options.records, "processes": _PROCESSES}
                run = run_child([sys.executable, "-m", "benchmarks.sharded_landing", json.dumps(task)])
                runs.setdefault((source, name), []).append(run)
    rows = [[source, title, *_cells(runs[source, name])] for source in SOURCES for title, name in _FORMATS.items()]
    header = [
        "source",
        "format",
        "one process, wall time",
        "two processes",
        "two / one",
        "CPU, two / one",
        "memory of one",
        "memory of the reader",
        "of each process",
    ]
    columns = f"{options.records * TIMES_AS_COLUMNS:,} in Parquet files and Arrow columns"
    size = (
        f"{options.records:,} records, {columns}, median of {options.rounds} runs in turns; highest resident memory.\n"
    )
    versions = next(iter(runs.values()))[0].report["versions"]
    return Measured(f"{size}\n{table(header, rows)}", {"ours": versions})


def _cells(runs: Sequence[Run]) -> list[str]:
    one, others = [run.report["one"] for run in runs], [run.report["processes"] for run in runs]
    seconds = median(each["wall_s"] for each in one)
    cpu = median(run.cpu_s + sum(each["cpu_s"] for each in started) for run, started in zip(runs, others, strict=True))
    return [
        f"{seconds:.2f} s",
        f"{wall_s(runs):.2f} s",
        at_most(wall_s(runs) / seconds, _TARGET),
        times(cpu / median(each["cpu_s"] for each in one)),
        megabytes(median(each["peak_mb"] for each in one)),
        megabytes(median(run.peak_mb for run in runs)),
        megabytes(median(max(each["peak_mb"] for each in started) for started in others)),
    ]
