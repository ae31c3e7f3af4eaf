"""Partitions by field: what directories cost in CPU, in order or not, and the memory of very many of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks.measure import Run, run_child
from benchmarks.parts import Measured, Options
from benchmarks.parts.memory import versions
from benchmarks.report import table

_FORMATS = {
    "JSON Lines": "lines",
    "JSON Lines, gzip": "jsonl",
    "CSV, root level, gzip": "csv",
    "Avro, deflate 1": "avro",
    "Parquet, snappy": "parquet",
}
_VALUES = (8, 100)
_RECORDS_PER_OPTION = 20
"""The published two million records are this many times the options' hundred thousand."""
_MANY, _MANY_MB = 10_000, 1024
_DAYS, _REGIONS = 365, 100
_ALLOWED = {
    ("lines", 8): "+1 µs",
    ("jsonl", 8): "1.4×",
    ("csv", 8): "1.4×",
    ("avro", 8): "1.4×",
    ("parquet", 8): "1.15×",
    ("parquet", 100): "3.5×",
}


def directories(options: Options) -> Measured:
    """The CPU of a landing by a field's values against the same landing without directories."""
    records = options.records * _RECORDS_PER_OPTION
    rows = [row for title, name in _FORMATS.items() for row in _rows(title, name, records, options)]
    header = ["format", "values", "order", "CPU per record", "without directories", "ratio", "allowed", "objects"]
    header.append("CPU per object more")
    text = f"{records:,} records of about 190 bytes, two encode workers, medians.\n\n{table(header, rows)}"
    return Measured(text, {"ours": versions()})


def many_directories(options: Options) -> Measured:
    """The memory of very many directories, and of a backfill of a year by regions."""
    records = options.records * _RECORDS_PER_OPTION
    rows = []
    for title, name in (("JSON Lines, gzip", "jsonl"), ("Parquet, snappy", "parquet")):
        for what, values in (("values in turns", _MANY), ("365 days × 100 regions", _DAYS * _REGIONS)):
            options.say(f"{title}: {values:,} directories")
            run = _landed(name, records, values, "turns", memory_mb=_MANY_MB)
            report = run.report
            figures = [f"{run.grown_mb:.0f} MB", f"≤ {_MANY_MB} MB", f"{report['objects']:,}"]
            rows.append([title, what, f"{values:,}", *figures, f"{report['median'] / 1e3:,.0f} kB"])
    header = ["format", "input", "directories", "landing adds", "memory_mb", "objects", "median object"]
    text = f"{records:,} records of about 190 bytes, whose values come in turns.\n\n{table(header, rows)}"
    return Measured(text, {"ours": versions()})


def _rows(title: str, name: str, records: int, options: Options) -> Iterator[list[str]]:
    cases = [(values, order) for values in _VALUES for order in ("random", "sorted")]
    runs: dict[tuple[int, str, bool], list[Run]] = {}
    for turn in range(options.rounds):
        for values, order in cases:
            for partitioned in (False, True):
                options.say(f"round {turn + 1}: {title}, {values} values, {order}")
                run = _landed(name, records, values, order, partitioned=partitioned)
                runs.setdefault((values, order, partitioned), []).append(run)
    for values, order in cases:
        without, own = (_cpu(runs[values, order, partitioned], records) for partitioned in (False, True))
        objects = runs[values, order, True][0].report["objects"]
        more = (own - without) * records / max(objects, 1) / 1e3
        figures = [f"{own:.2f} µs", f"{without:.2f} µs", f"{own / without:.2f}×", _ALLOWED.get((name, values), "")]
        yield [title, f"{values}", order, *figures, f"{objects:,}", f"{more:.1f} ms"]


def _cpu(runs: list[Run], records: int) -> float:
    return median(each.cpu_s for each in runs) * 1e6 / records


def _landed(name: str, records: int, values: int, order: str, *, partitioned: bool = True, **more: Any) -> Run:
    task: Mapping[str, Any] = {
        "format": name,
        "records": records,
        "values": values,
        "order": order,
        "partitioned": partitioned,
        **more,
    }
    return run_child([sys.executable, "-m", "benchmarks.partitioned_landing", json.dumps(task)])
