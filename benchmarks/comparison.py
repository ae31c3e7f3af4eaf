"""The landing compared with its peers: dlt, hand-written loops, and the sum of the stages, for each format.

Both sides compress with the same codec at the same level number. gzip and deflate levels are zlib's in the loops and in
dlt; ours are isal's 1 and 2 and zlib-ng's 6, whose sizes are printed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.measure import Run, cpu_per_record, has_peers, interleaved, stage_sum_per_record
from benchmarks.messages import MessageFile
from benchmarks.report import at_least, at_most, micros, table, times

USUAL_LEVEL = 6
"""The level that zlib uses by default."""


@dataclass(frozen=True)
class Row:
    """A format as it is compared. `level` is zlib's level number for both sides, None if the codec has none.

    `targets` are keyed by the contestant.
    """

    title: str
    format: str
    level: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dlt: bool = True
    loop: bool = True
    targets: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_usual_loop(self) -> bool:
        """Whether the loop at zlib's default level differs from the loop at this row's level."""
        return self.loop and self.level not in (None, USUAL_LEVEL)


ROWS = (
    Row("JSONL.gz", "jsonl", 2, {"gzip_effort": "balanced"}, targets={"dlt": 40, "loop": 7, "stages": 1.3}),
    Row("JSONL.gz, as small as zlib 6", "jsonl", 6, {"gzip_effort": "small"}, targets={"dlt": 15}),
    Row("CSV.gz, root level", "csv", 2, {"gzip_effort": "balanced"}, targets={"dlt": 15, "loop": 3.3, "stages": 1.4}),
    Row("CSV.gz, as small as zlib 6", "csv", 6, {"gzip_effort": "small"}, dlt=False),
    Row("Avro deflate 1", "avro", 1, {"deflate_level": 1}, dlt=False, targets={"loop": 5, "stages": 1.4}),
    Row("Avro deflate 6", "avro", 6, {"deflate_level": 6}, dlt=False),
    Row("Parquet snappy", "parquet", targets={"dlt": 16, "loop": 4, "stages": 1.4}),
)
HEADER = (
    "format",
    "ours, µs of CPU per record",
    "bytes per record: ours / loop",
    "dlt, same level",
    "loop, same level",
    "loop, level 6",
    "÷ sum of stages",
)


@dataclass(frozen=True)
class Comparison:
    """The table, and the versions of every side."""

    text: str
    stages: str
    versions: Mapping[str, Mapping[str, str]]


def compare(
    file: MessageFile, rounds: int, *, rows: Sequence[Row] = ROWS, with_dlt: bool = True, say: Callable[[str], None]
) -> Comparison:
    """Measures all rows in turns over the same messages. Without the peers' environment, their columns stay empty."""
    peers = has_peers()
    tasks = {name: task for row in rows for name, task in _tasks(row, file, peers, with_dlt)}
    runs = interleaved(tasks, rounds, say=say)
    compared = table(HEADER, [_cells(row, runs, file.records) for row in rows])
    return Comparison(compared, _stages_table(rows, runs, file.records), _versions(runs))


def _tasks(row: Row, file: MessageFile, peers: bool, with_dlt: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    work = {"format": row.format, **file.task}
    yield f"{row.title}: ours", {**work, "side": "ours", "options": row.options}
    yield f"{row.title}: stages", {**work, "side": "stages", "options": row.options}
    if not peers:
        return
    if row.loop:
        yield f"{row.title}: loop", {**work, "side": "loop", "level": row.level}
    if row.has_usual_loop:
        yield f"{row.title}: usual loop", {**work, "side": "loop", "level": USUAL_LEVEL}
    if row.dlt and with_dlt:
        yield f"{row.title}: dlt", {**work, "side": "dlt", "level": row.level}


def _cells(row: Row, runs: Mapping[str, Sequence[Run]], records: int) -> list[str]:
    ours = cpu_per_record(runs[f"{row.title}: ours"], records)

    def slower(side: str) -> float | None:
        found = runs.get(f"{row.title}: {side}")
        return cpu_per_record(found, records) / ours if found else None

    dlt, loop, usual = slower("dlt"), slower("loop"), slower("usual loop")
    over = ours / stage_sum_per_record(runs[f"{row.title}: stages"], records)
    return [
        row.title,
        micros(ours),
        f"{_size(runs, row, 'ours', records)} / {_size(runs, row, 'loop', records)}",
        "–" if dlt is None else at_least(dlt, row.targets.get("dlt")),
        "–" if loop is None else at_least(loop, row.targets.get("loop")),
        "–" if usual is None else times(usual),
        at_most(over, row.targets.get("stages")),
    ]


def _size(runs: Mapping[str, Sequence[Run]], row: Row, side: str, records: int) -> str:
    found = runs.get(f"{row.title}: {side}")
    return f"{median(each.nbytes for each in found) / records:.0f}" if found else "–"


def _stages_table(rows: Sequence[Row], runs: Mapping[str, Sequence[Run]], records: int) -> str:
    """What each stage costs, and how many times as much as all stages together the peers cost.

    A program that does nothing but the stages is that much faster, and no program that does them is faster than that.
    """
    names = list(dict.fromkeys(name for row in rows for name in runs[f"{row.title}: stages"][0].report["stages"]))
    cells = []
    for row in rows:
        found = runs[f"{row.title}: stages"]
        each = [median(run.report["stages"].get(name, 0.0) for run in found) * 1e6 / records for name in names]
        peers = [runs.get(f"{row.title}: {side}") for side in ("dlt", "loop")]
        together = stage_sum_per_record(found, records)
        ceilings = [times(cpu_per_record(peer, records) / together) if peer else "–" for peer in peers]
        cells.append([row.title, *(micros(value) if value else "–" for value in each), *ceilings])
    return table(["stage, µs of CPU per record", *names, "dlt ÷ all stages", "loop ÷ all stages"], cells)


def _versions(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, each in runs.items():
        side = name.rpartition(": ")[2].removeprefix("usual ")
        found.setdefault(side, {}).update(each[0].report["versions"])
    return found
