"""The landing next to engines that a user could take instead: DuckDB and Polars, on the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.engine_peers import LESS
from benchmarks.measure import Run, cpu_per_record, has_peers, interleaved
from benchmarks.messages import USERS, message_file
from benchmarks.parts import Measured, Options
from benchmarks.report import at_most, micros, table

_FORMATS = {"JSONL.gz": "jsonl", "CSV.gz, root level": "csv", "Avro deflate": "avro", "Parquet snappy": "parquet"}
_LEVEL = 2
"""The level of isal's gzip, for us and for Polars."""
_LACKING = {("duckdb", "avro")}
_TARGETS = {("duckdb", "parquet"): 1.5, ("polars", "csv"): 1.0}
"""The most times as much CPU as the engine."""


def engines(options: Options) -> Measured:
    """CPU per record from JSON text to one file: a landing of messages, and the engines with bare records."""
    file = message_file(USERS, options.records)
    sides = ("ours", *(("duckdb", "polars") if has_peers() else ()))
    tasks: dict[str, Mapping[str, Any]] = {
        f"{title}: {side}": {**(file.task if side == "ours" else file.bare_task), **_work(side, name)}
        for title, name in _FORMATS.items()
        for side in sides
        if (side, name) not in _LACKING
    }
    runs = interleaved(tasks, options.rounds, say=options.say)
    rows = [_row(title, name, runs, options.records) for title, name in _FORMATS.items()]
    header = ["format", "ours, µs of CPU per record", "DuckDB", "ours ÷ DuckDB", "Polars", "ours ÷ Polars"]
    size = f"{options.records:,} users, one thread each, median of {options.rounds} runs in turns.\n"
    less = "".join(f"- {each}\n" for each in LESS)
    versions = {name.rpartition(": ")[2]: each[0].report["versions"] for name, each in runs.items()}
    text = f"{size}\n{table(header, rows)}\nWhat the engines do less than a landing:\n\n{less}"
    return Measured(text, versions)


def _work(side: str, name: str) -> dict[str, Any]:
    return {"side": side, "format": name, "options": {}, "level": _LEVEL}


def _row(title: str, name: str, runs: Mapping[str, Sequence[Run]], records: int) -> list[str]:
    ours = cpu_per_record(runs[f"{title}: ours"], records)
    cells = [title, micros(ours)]
    for side in ("duckdb", "polars"):
        found = runs.get(f"{title}: {side}")
        cost = cpu_per_record(found, records) if found else None
        cells += ["–", "–"] if cost is None else [micros(cost), at_most(ours / cost, _TARGETS.get((side, name)))]
    return cells
