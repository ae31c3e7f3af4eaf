"""Where the CPU of a landing goes: its functions, and which of them the sum of the stages knows.

Samples of the stack, each weighted by the CPU time since the one before: a call into a library that is longer than the
pause between samples counts in full, for the function that made it.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from benchmarks.measure import run_child
from benchmarks.messages import USERS, message_file
from benchmarks.parts import Measured, Options
from benchmarks.report import micros, table

_FORMATS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "JSONL.gz": ("jsonl", {}),
    "CSV.gz, root level": ("csv", {}),
    "Avro deflate 1": ("avro", {}),
    "Parquet snappy": ("parquet", {}),
}
_SHOWN = 14


def profile(options: Options) -> Measured:
    """The functions that cost most, for each format."""
    file = message_file(USERS, options.records)
    texts = []
    for title, (name, others) in _FORMATS.items():
        runs = []
        for turn in range(options.rounds):
            options.say(f"profile {turn + 1} of {options.rounds}: {title}")
            task = {"format": name, "options": others, **file.task}
            runs.append(run_child([sys.executable, "-m", "benchmarks.sampling", json.dumps(task)]).report["samples"])
        texts.append(f"{title}:\n\n{_table(runs, options.records)}")
    size = f"{options.records:,} users, mean of {options.rounds} runs, µs of CPU per record.\n"
    return Measured("\n".join([size, *texts]), {})


def _table(runs: Sequence[Mapping[str, float]], records: int) -> str:
    seconds: defaultdict[str, float] = defaultdict(float)
    for name, each in chain.from_iterable(run.items() for run in runs):
        seconds[name] += each
    scale = 1e6 / records / len(runs)
    whole = sum(seconds.values())
    shown = sorted(seconds.items(), key=itemgetter(1), reverse=True)[:_SHOWN]
    rows = [[f"`{name}`", micros(each * scale), f"{each / whole:.0%}"] for name, each in shown]
    rest = whole - sum(each for _, each in shown)
    rows.append(["all others", micros(rest * scale), f"{rest / whole:.0%}"])
    rows.append(["together", micros(whole * scale), "100%"])
    return table(["function", "µs per record", "share"], rows)
