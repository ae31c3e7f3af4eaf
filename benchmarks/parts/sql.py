"""A table of PostgreSQL as objects: `SqlSource` and a landing next to dlt with its connectorx backend."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.measure import PEERS_PYTHON, Run, cpu_per_record, has_peers, run_child
from benchmarks.parts import Measured, Options
from benchmarks.postgresql import FEW, orders_of_postgresql
from benchmarks.report import at_most, megabytes, micros, table

_RECORDS_PER_OPTION = 10
"""The published million rows are this many times the options' hundred thousand."""
_FORMATS = {"Parquet snappy": "parquet", "CSV.gz, root level": "csv", "JSONL.gz": "jsonl"}
_LEVEL = 2
"""The level of gzip, for both."""
_TABLES = {"table": "orders", "few": "few_orders"}
_TARGETS = {"parquet": 0.8}
"""The most times as much CPU as dlt."""
_SIDES = {"ours": (sys.executable, "benchmarks.sql_landing"), "dlt": (str(PEERS_PYTHON), "benchmarks.sql_peer")}


def sql(options: Options) -> Measured:
    """CPU and memory of the client; the server's own CPU does not count."""
    rows = options.records * _RECORDS_PER_OPTION
    sides = ["ours", *(["dlt"] if has_peers() and options.with_dlt else [])]
    runs: dict[tuple[str, str], list[Run]] = {}
    with TemporaryDirectory(prefix="s3dest-bench-") as folder, orders_of_postgresql(rows, Path(folder)) as uri:
        for turn in range(1, options.rounds + 1):
            for title, name in _FORMATS.items():
                for side in sides:
                    options.say(f"round {turn} of {options.rounds}: {title}, {side}")
                    python, module = _SIDES[side]
                    task = {**_TABLES, "uri": uri, "format": name, "level": _LEVEL}
                    runs.setdefault((name, side), []).append(run_child([python, "-m", module, json.dumps(task)]))
    header = ["format", "ours, µs of CPU per row", "dlt", "ours ÷ dlt"]
    header += ["ours, memory over idle", "of it the largest row group", "dlt's"]
    cells = [_row(title, runs, rows) for title in _FORMATS]
    size = f"{rows:,} rows of 11 columns after {FEW:,} that warm up, median of {options.rounds} runs in turns.\n"
    versions = {side: found[0].report["versions"] for (_, side), found in runs.items()}
    return Measured(f"{size}\n{table(header, cells)}", versions)


def _row(title: str, runs: dict[tuple[str, str], list[Run]], rows: int) -> list[str]:
    name = _FORMATS[title]
    ours, dlt = runs[name, "ours"], runs.get((name, "dlt"))
    cost = cpu_per_record(ours, rows)
    against = ["–", "–"]
    if dlt is not None:
        against = [micros(cpu_per_record(dlt, rows)), at_most(cost / cpu_per_record(dlt, rows), _TARGETS.get(name))]
    row_group = median(each.report["row_group_mb"] for each in ours)
    return [title, micros(cost), *against, _memory(ours), megabytes(row_group) if row_group else "–", _memory(dlt)]


def _memory(runs: list[Run] | None) -> str:
    return "–" if runs is None else megabytes(median(each.grown_mb for each in runs))
