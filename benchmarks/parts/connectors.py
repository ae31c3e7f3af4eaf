"""Schemas of large connectors, which declare far more than records have: cost per byte and before the first record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.connectors import ANSWERS, ANSWERS_AS_TEXT, BLOCKS, FILTERS, INVOICES
from benchmarks.measure import Run, interleaved
from benchmarks.messages import USERS, MessageFile, message_file
from benchmarks.parts import Measured, Options
from benchmarks.report import at_most, table

_FORMATS = {"JSONL.gz": "jsonl", "CSV.gz": "csv", "Avro deflate 1": "avro", "Parquet snappy": "parquet"}
_KINDS = (INVOICES, BLOCKS, FILTERS, ANSWERS)
_AGAINST = {ANSWERS: ANSWERS_AS_TEXT}
"""What a kind is compared with, if not with users."""
_SHARE = 5
"""These records are measured in a fifth of the number: each is two users and more."""
_MOST_TIMES = 2
"""The most times as much per byte as what a kind is compared with."""


def connectors(options: Options) -> Measured:
    """CPU per megabyte of each kind against users, and the CPU of a landing of one record."""
    kinds = (USERS, *_KINDS, *_AGAINST.values())
    count = max(1, options.records // _SHARE)
    files = {kind: message_file(kind, count) for kind in kinds}
    tasks = {name: task for kind, file in files.items() for name, task in _tasks(kind, file).items()}
    runs = interleaved(tasks, options.rounds, say=options.say)
    rows = [_row(title, kind, files, runs) for title in _FORMATS for kind in kinds]
    header = ["format", "records", "fields", "bytes of a message"]
    header += ["one record, ms of CPU", "ms of CPU per MB", "against"]
    size = f"{count:,} records of each kind, the least CPU of {options.rounds} runs in turns.\n"
    return Measured(f"{size}\n{table(header, rows)}", {"ours": runs[next(iter(tasks))][0].report["versions"]})


def _tasks(kind: str, file: MessageFile) -> dict[str, Mapping[str, Any]]:
    """A landing of all records and one of a single record, in each format."""
    one = message_file(kind, 1, file.path.parent)
    work = {"side": "ours", "options": {}}
    return {
        f"{title}: {kind}: {what}": {**work, "format": name, **each.task}
        for title, name in _FORMATS.items()
        for what, each in (("one", one), ("all", file))
    }


def _row(title: str, kind: str, files: Mapping[str, MessageFile], runs: Mapping[str, Sequence[Run]]) -> list[str]:
    def cost(of: str) -> float:
        """Milliseconds of CPU per megabyte, without those of the first record."""
        spent = _least(runs[f"{title}: {of}: all"]) - _least(runs[f"{title}: {of}: one"])
        return spent * 1e3 / (files[of].nbytes / 1e6)

    file, other = files[kind], _AGAINST.get(kind, USERS)
    is_compared = kind in _KINDS
    return [
        title,
        kind,
        f"{_fields(file.schema):,}",
        f"{file.nbytes / file.records:.0f}",
        f"{_least(runs[f'{title}: {kind}: one']) * 1e3:.0f}",
        f"{cost(kind):.1f}",
        f"{at_most(cost(kind) / cost(other), _MOST_TIMES)} of {other}" if is_compared else "–",
    ]


def _least(runs: Sequence[Run]) -> float:
    return min(each.cpu_s for each in runs)


def _fields(definition: Mapping[str, Any]) -> int:
    """The number of fields that a schema declares, at all levels."""
    own = [each.get("items", each) for each in definition.get("properties", {}).values()]
    return len(own) + sum(map(_fields, own))
