"""Two workers compared with one: wall time, and whether the objects are the same to the byte."""

from __future__ import annotations

from benchmarks.measure import interleaved, wall_s
from benchmarks.messages import USERS, message_file
from benchmarks.parts import Measured, Options
from benchmarks.report import at_least, table

_FORMATS = {"JSONL.gz": "jsonl", "CSV.gz, root level": "csv", "Avro deflate 1": "avro", "Parquet snappy": "parquet"}
_TARGET = 1.6
_WITHOUT_TARGET = ("jsonl",)


def workers(options: Options) -> Measured:
    """The wall time of landings with one and with two encode workers; random bytes are the same in all of them."""
    file = message_file(USERS, options.records)
    work = {"side": "ours", "options": {}, "seeded": True, **file.task}
    tasks = {
        f"{title}: {count}": {**work, "format": name, "workers": count}
        for title, name in _FORMATS.items()
        for count in (1, 2)
    }
    runs = interleaved(tasks, options.rounds, say=options.say)
    rows = []
    for title, name in _FORMATS.items():
        one, two = runs[f"{title}: 1"], runs[f"{title}: 2"]
        faster = wall_s(one) / wall_s(two)
        same = len({tuple(each.report["checksums"]) for each in (*one, *two)}) == 1
        target = None if name in _WITHOUT_TARGET else _TARGET
        rows.append(
            [title, f"{wall_s(one):.2f} s", f"{wall_s(two):.2f} s", at_least(faster, target), "yes" if same else "NO"]
        )
    header = ["format", "one worker, wall time", "two workers", "faster", "objects identical"]
    size = f"{options.records:,} users, median of {options.rounds} runs in turns.\n"
    versions = next(iter(runs.values()))[0].report["versions"]
    return Measured(f"{size}\n{table(header, rows)}", {"ours": versions})
