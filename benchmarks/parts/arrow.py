"""Arrow columns in memory: what a landing costs against the best library alone on the same columns."""

from __future__ import annotations

import json
import sys
from statistics import median

from benchmarks.measure import Run, run_child
from benchmarks.parts import Measured, Options
from benchmarks.report import at_most, micros, table

_RECORDS_PER_OPTION = 10
"""The published million records are this many times the options' hundred thousand."""
_FORMATS = {
    "JSONL.gz": ("jsonl", "Polars + isal", 1.5),
    "CSV.gz, root level": ("csv", "pyarrow + isal", 1.3),
    "Avro deflate 1": ("avro", "", None),
    "Parquet snappy": ("parquet", "pyarrow", 1.2),
}


def arrow(options: Options) -> Measured:
    """CPU and bytes per record of every format."""
    records = options.records * _RECORDS_PER_OPTION
    runs: dict[tuple[str, str], list[Run]] = {}
    for turn in range(options.rounds):
        for name, library, _ in _FORMATS.values():
            for side in ("ours", "alone") if library else ("ours",):
                options.say(f"round {turn + 1} of {options.rounds}: {name}, {side}")
                task = json.dumps({"format": name, "records": records, "side": side})
                run = run_child([sys.executable, "-m", "benchmarks.arrow_landing", task])
                runs.setdefault((name, side), []).append(run)
    rows = []
    for title, (name, library, target) in _FORMATS.items():
        ours, alone = (_cpu(runs.get((name, side), []), records) for side in ("ours", "alone"))
        sizes = " / ".join(_size(runs.get((name, side), []), records) for side in ("ours", "alone"))
        against = [library, micros(alone), at_most(ours / alone, target)] if library else ["–", "–", "–"]
        rows.append([title, micros(ours), *against, sizes])
    header = ["format", "ours, µs of CPU per record", "library alone", "its µs", "ours / alone", "bytes per record"]
    size = f"{records:,} records of 11 columns, one thread each, median of {options.rounds} runs in turns.\n"
    versions = next(iter(runs.values()))[0].report["versions"]
    return Measured(f"{size}\n{table(header, rows)}", {"ours and alone": versions})


def _cpu(runs: list[Run], records: int) -> float:
    return median(each.cpu_s for each in runs) * 1e6 / records if runs else 0.0


def _size(runs: list[Run], records: int) -> str:
    return f"{runs[0].nbytes / records:.0f}" if runs else "–"
