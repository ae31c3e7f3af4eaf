"""The results of `s3dest verify`, stream by stream, as lines, as a table and as JSON.

Must not know: how they were found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from s3dest_dagster.cli.leftovers import stream_json
from s3dest_dagster.cli.output import Table, check_mark
from s3dest_dagster.inspection.verify import StrayKeys, Verified
from s3dest_dagster.printable import amount
from s3dest_dagster.stream import Scope, StreamId


@dataclass(frozen=True, slots=True)
class VerifiedStream:
    """The result of verifying all scopes of a stream."""

    stream: StreamId
    scopes: list[Verified]
    stray: StrayKeys
    """Objects that look like the stream's although no manifest lists them."""
    left: list[Scope]
    """Scopes that hold objects although the stream's definition no longer has them."""

    @property
    def problems(self) -> list[tuple[Scope, str]]:
        """What is wrong, with the scope."""
        return [(verified.scope, problem) for verified in self.scopes for problem in verified.problems]

    def total(self, count: Callable[[Verified], int]) -> int:
        """The sum over all scopes."""
        return sum(map(count, self.scopes))


def verified_lines(verified: VerifiedStream) -> list[str]:
    """A line for each problem, or one for the stream."""
    if verified.problems:
        return [f"✗ {scope}: {problem}" for scope, problem in verified.problems]
    return [f"✓ {verified.stream}: {', '.join(_verified_parts(verified))}"]


def verified_table(results: list[VerifiedStream]) -> Table:
    """A row for each stream."""
    counts = (
        "partitions",
        "objects",
        "rows",
        "objects not counted",
        "ETags uncompared",
        "foreign objects",
        "unrecognised objects",
        "problems",
    )
    return Table(("", "stream", *counts), list(map(_verified_row, results)), frozenset(counts))


def _verified_row(verified: VerifiedStream) -> list[str]:
    counts = (
        len([scope for scope in verified.scopes if scope.scope.partition is not None]),
        verified.total(lambda scope: scope.objects),
        verified.total(lambda scope: scope.rows),
        verified.total(lambda scope: scope.uncounted),
        verified.total(lambda scope: scope.uncompared),
        len(verified.stray.foreign),
        len(verified.stray.unrecognised),
        len(verified.problems),
    )
    return [check_mark(not verified.problems), str(verified.stream), *(f"{count:,}" for count in counts)]


def _verified_parts(verified: VerifiedStream) -> Iterator[str]:
    yield amount(verified.total(lambda scope: scope.objects), "object")
    yield amount(verified.total(lambda scope: scope.rows), "row")
    if uncounted := verified.total(lambda scope: scope.uncounted):
        yield f"the rows of {amount(uncounted, 'object')} not counted"
    if partitions := [scope for scope in verified.scopes if scope.scope.partition is not None]:
        yield amount(len(partitions), "partition")
    if uncompared := verified.total(lambda scope: scope.uncompared):
        yield f"{amount(uncompared, 'ETag')} of a kind that cannot be compared"
    if verified.stray.foreign:
        yield f"{amount(len(verified.stray.foreign), 'foreign object')} next to them"
    if verified.stray.unrecognised:
        yield f"{amount(len(verified.stray.unrecognised), 'unrecognised object')} next to them"


def verified_json(verified: VerifiedStream) -> list[dict[str, Any]]:
    """The stream as JSON."""
    return [
        {
            **stream_json(verified.stream),
            "ok": not verified.problems,
            "scopes": len(verified.scopes),
            "objects": verified.total(lambda scope: scope.objects),
            "rows": verified.total(lambda scope: scope.rows),
            "not_counted": verified.total(lambda scope: scope.uncounted),
            "uncompared": verified.total(lambda scope: scope.uncompared),
            "foreign": len(verified.stray.foreign),
            "unrecognised": len(verified.stray.unrecognised),
            "left_from_before": [scope.partition for scope in verified.left],
            "problems": [{"partition": scope.partition, "problem": text} for scope, text in verified.problems],
        }
    ]
