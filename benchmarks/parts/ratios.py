"""The landing compared with its peers on users and on wide nested records, and dirty data compared with clean data."""

from __future__ import annotations

from benchmarks.comparison import compare
from benchmarks.dirt import DIRT, NEVER_REPEATING
from benchmarks.measure import cpu_per_record, interleaved
from benchmarks.messages import USERS, WIDE, message_file
from benchmarks.parts import Measured, Options
from benchmarks.report import at_most, micros, table

_WIDE_SHARE = 5
"""Wide records are measured in a fifth of the number: each is three users and more."""
_DIRTY_FORMATS = {"Avro, uncompressed": "avro-null", "Parquet snappy": "parquet"}
_DIRTY_TARGET, _NEVER_REPEATING_TARGET = 2.1, 4


def users(options: Options) -> Measured:
    """Every format on users: the peers, the loops, the stages."""
    return _compared(USERS, options.records, options)


def wide(options: Options) -> Measured:
    """The same on wide nested records."""
    return _compared(WIDE, max(1, options.records // _WIDE_SHARE), options)


def _compared(kind: str, records: int, options: Options) -> Measured:
    file = message_file(kind, records)
    found = compare(file, options.rounds, with_dlt=options.with_dlt, say=options.say)
    nbytes = file.nbytes / records
    size = f"{records:,} records of {nbytes:.0f} bytes a message, median of {options.rounds} runs in turns.\n"
    return Measured("\n".join([size, found.text, found.stages]), found.versions)


def dirty(options: Options) -> Measured:
    """What each kind of dirt costs against clean data, from messages to Avro and Parquet bytes."""
    kinds = [USERS, *DIRT]
    tasks = {}
    for kind in kinds:
        file = message_file(kind, options.records)
        for title, name in _DIRTY_FORMATS.items():
            work = {"format": name, "options": {}, **file.task}
            tasks[f"{title}: {kind}"] = {**work, "side": "ours"}
    runs = interleaved(tasks, options.rounds, say=options.say)
    costs = {name: cpu_per_record(each, options.records) for name, each in runs.items()}
    rows = []
    for kind in kinds:
        cells = []
        for title in _DIRTY_FORMATS:
            cost, clean = costs[f"{title}: {kind}"], costs[f"{title}: {USERS}"]
            cells += [micros(cost), "1×" if kind == USERS else at_most(cost / clean, _target(kind))]
        rows.append(["clean" if kind == USERS else kind, *cells])
    header = ["data"]
    for title in _DIRTY_FORMATS:
        header += [f"{title}, µs of CPU per record", "against clean"]
    size = f"{options.records:,} users, median of {options.rounds} runs in turns.\n"
    versions = next(iter(runs.values()))[0].report["versions"]
    return Measured(f"{size}\n{table(header, rows)}", {"ours": versions})


def _target(kind: str) -> float:
    return _NEVER_REPEATING_TARGET if kind == NEVER_REPEATING else _DIRTY_TARGET
