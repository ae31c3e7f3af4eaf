"""The verbs that look after what has landed: verify, recover, sweep.

They print a line per stream, JSON, or tables on a terminal. Must not know: the command line.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from s3dest_dagster.cli.output import Output, Screen, Table, check_mark
from s3dest_dagster.cli.scope_results import ScopeProgress, continue_after_error
from s3dest_dagster.cli.selections import Selection, SelectionOptions, selections
from s3dest_dagster.cli.verify_results import VerifiedStream, verified_json, verified_lines, verified_table
from s3dest_dagster.commit.maintenance import Recovered, Swept
from s3dest_dagster.commit.maintenance import recover as recover_scope
from s3dest_dagster.commit.maintenance import sweep as sweep_stream
from s3dest_dagster.commit.retention import expire_partitions
from s3dest_dagster.commit.retirement import ScopeContent
from s3dest_dagster.commit.scopes import FoundStream
from s3dest_dagster.commit.state_lineages import StateLineages
from s3dest_dagster.inspection.verify import StrayKeys, Verified, stray_keys
from s3dest_dagster.inspection.verify import verify as verify_scope
from s3dest_dagster.printable import amount
from s3dest_dagster.stream import Scope, StreamId

_Result = TypeVar("_Result")
_MAX_NAMES = 10


def verify(output: Output, options: SelectionOptions, *, deep: bool) -> int:
    """Compares the bucket with the manifests. Returns 1 if they differ anywhere, else 0."""
    selected, progress = selections(output, options), ScopeProgress()
    verified = (
        _verify_stream(selection, stream, progress, deep=deep)
        for selection in selected
        for stream in selection.found_streams()
    )
    results = _display(output, progress, verified, verified_lines, verified_json, verified_table)
    _tell_leftovers(output, selected, results)
    broken = [stream for stream in results if stream.problems]
    if broken:
        output.say(f"Error: {len(broken)} of {amount(len(results), 'stream')} do not agree with their manifests.")
    return 1 if broken else 0


def _tell_leftovers(output: Output, selected: Sequence[Selection], results: Sequence[VerifiedStream]) -> None:
    """Names what nobody lands any more. It is no failure."""
    for each in results:
        if each.left:
            more = f" and {len(each.left) - 1:,} more" if len(each.left) > 1 else ""
            output.say(
                f"Left from before the partitions of {each.stream} changed, it seems: {each.left[0]}{more}. If nobody "
                f"needs it, run `s3dest retire {each.stream} --scope {shlex.quote(each.left[0].partition or '')}`."
            )
    for selection in selected:
        if undefined := sorted(map(str, selection.undefined_streams())):
            path = selection.bucket.uri(selection.destination.template.literal_root)
            more = f" and {len(undefined) - _MAX_NAMES:,} more" if len(undefined) > _MAX_NAMES else ""
            names = f"{', '.join(undefined[:_MAX_NAMES])}{more}"
            output.say(
                f"Under {path}, and not defined here: {names}. If one was renamed, run `s3dest transfer {undefined[0]} "
                f"--to-stream NAME`; if nobody needs it, `s3dest retire {undefined[0]}`."
            )


def recover(output: Output, options: SelectionOptions) -> int:
    """Finishes interrupted publications. Returns 1 if one was rolled back or failed, else 0."""
    progress = ScopeProgress()
    recovered = (
        _recover_stream(selection, stream, progress)
        for selection in selections(output, options)
        for stream in selection.found_streams()
    )
    results = _display(output, progress, recovered, _recovered_lines, _recovered_json, _recovered_table)
    failed = [scope for stream in results for scope in stream if not scope.ok]
    if failed:
        output.say(f"Error: {amount(len(failed), 'scope')} could not be recovered.")
    return 1 if failed else 0


def sweep(output: Output, options: SelectionOptions, now: datetime | None) -> int:
    """Aborts abandoned uploads of the streams. Returns 1 if a stream could not be swept, else 0."""
    progress = ScopeProgress()
    swept = (
        _sweep_stream(selection, stream, now, lineages, progress)
        for selection in selections(output, options)
        for lineages in [StateLineages(selection.bucket, selection.destination.template.manifest_root)]
        for stream in sorted(selection.streams or {found.stream for found in selection.found_streams()}, key=str)
    )
    results = _display(
        output,
        progress,
        swept,
        lambda stream: [_swept_line(stream)],
        lambda stream: [_swept_json(stream)],
        _swept_table,
    )
    failed = [stream for stream in results if stream.problem]
    if failed:
        output.say(f"Error: {len(failed)} of {amount(len(results), 'stream')} could not be swept.")
    return 1 if failed else 0


# ---------------------------------------------------------------------- stream by stream


def _verify_stream(selection: Selection, stream: FoundStream, progress: ScopeProgress, *, deep: bool) -> VerifiedStream:
    bucket, template, stray = selection.bucket, selection.destination.template, StrayKeys()
    verified = [Verified(head.scope, 0, 0, (head.error.message,)) for head in stream.damaged]

    def report(scope: Scope, problem: str) -> None:
        if not any(problem in other.problems for other in verified):
            verified.append(Verified(scope, 0, 0, (problem,)))

    def compared(scope: Scope) -> Verified | str:
        errors: list[str] = []
        with continue_after_error(errors.append):
            return verify_scope(bucket, template, scope, deep=deep)
        return errors[0]

    # A deep comparison holds a whole object in memory.
    results = progress.results(stream.stream, compared, stream.scopes, at_once=1 if deep else None)
    for scope, result in zip(stream.scopes, results, strict=True):
        if isinstance(result, str):
            report(scope, result)
        else:
            verified.append(result)
    # While a manifest cannot be read, nobody knows which objects it lists, so that none can be called foreign.
    with continue_after_error(partial(report, Scope(stream.stream))):
        stray = stray_keys(bucket, template, stream.stream)
    left = selection.left_from_before([each.scope for each in verified if each.objects])
    return VerifiedStream(stream.stream, verified, stray, left)


def _recover_stream(selection: Selection, stream: FoundStream, progress: ScopeProgress) -> list[Recovered]:
    damaged = [Recovered(head.scope, None, False, head.error.message) for head in stream.damaged]
    recover_one = partial(recover_scope, selection.bucket, selection.destination.template)
    return [*damaged, *progress.results(stream.stream, recover_one, stream.scopes)]


@dataclass(frozen=True, slots=True)
class _SweptStream:
    """The result of sweeping a stream; `problem` says why the sweep broke off, if it did."""

    stream: StreamId
    swept: Swept
    problem: str
    retired: int = 0
    """Partitions that were retired because they had expired."""


def _sweep_stream(
    selection: Selection, stream: StreamId, now: datetime | None, lineages: StateLineages, progress: ScopeProgress
) -> _SweptStream:
    bucket, destination = selection.bucket, selection.destination_of(stream)
    swept, problems, retired = Swept(0, 0), list[str](), list[ScopeContent]()
    with continue_after_error(problems.append):
        on_scope = progress.counting(stream)
        swept = sweep_stream(bucket, destination, stream, now=now, lineages=lineages, on_scope=on_scope)
        problems += swept.problems
        retired = expire_partitions(bucket, destination, stream, now or bucket.server_time(), os.urandom)
    return _SweptStream(stream, swept, "; ".join(problems), len(retired))


# ---------------------------------------------------------------------- lines, tables and JSON


def _display(
    output: Output,
    progress: ScopeProgress,
    results: Iterable[_Result],
    lines: Callable[[_Result], Iterable[str]],
    as_json: Callable[[_Result], list[dict[str, Any]]],
    table: Callable[[list[_Result]], Table],
) -> list[_Result]:
    """Displays results as lines while they arrive, as one JSON list, or as a table on a terminal.

    Returns:
        All results.
    """
    screen = output.screen
    if screen is not None:
        return _display_table(screen, progress, results, lines, table)
    displayed: list[_Result] = []
    with progress.shown():
        for number, result in enumerate(results, start=1):
            displayed.append(result)
            progress.stream_done(number)
            if not output.json:
                for line in lines(result):
                    output.show(line)
    if output.json:
        output.show_json([part for result in displayed for part in as_json(result)])
    return displayed


def _display_table(
    screen: Screen,
    progress: ScopeProgress,
    results: Iterable[_Result],
    lines: Callable[[_Result], Iterable[str]],
    table: Callable[[list[_Result]], Table],
) -> list[_Result]:
    """Displays a table, and below it the lines that report a problem."""
    displayed: list[_Result] = []
    try:
        with progress.shown():
            for number, result in enumerate(results, start=1):
                displayed.append(result)
                progress.stream_done(number)
    finally:
        if displayed:
            screen.table(table(displayed))
        for line in (line for result in displayed for line in lines(result) if line.startswith("✗")):
            screen.sentence(line)
    return displayed


def _recovered_lines(recovered: list[Recovered]) -> list[str]:
    failed = [f"✗ {scope.scope}: {scope.message}" for scope in recovered if not scope.ok]
    finished = [
        f"✓ {scope.scope}: sync {scope.sync_id} is finished" for scope in recovered if scope.ok and scope.sync_id
    ]
    return failed + finished or [f"✓ {recovered[0].scope.stream}: nothing to finish"]


def _recovered_table(results: list[list[Recovered]]) -> Table:
    """A row for each scope that had something to finish, and one for each stream that had nothing."""
    rows = []
    for stream in results:
        interrupted = [scope for scope in stream if scope.sync_id or not scope.ok]
        rows += [
            (check_mark(scope.ok), str(scope.scope), scope.sync_id or "", "finished" if scope.ok else "not finished")
            for scope in interrupted
        ]
        if not interrupted:
            rows.append((check_mark(True), str(stream[0].scope.stream), "", "nothing to finish"))
    return Table(("", "stream", "sync", "result"), rows)


def _swept_table(results: list[_SweptStream]) -> Table:
    counts = (
        "uploads aborted",
        "uploads kept",
        "scopes whose replaced objects were deleted",
        "unused segments deleted",
        "partitions retired",
    )
    return Table(("stream", *counts), list(map(_swept_row, results)), frozenset(counts))


def _swept_row(stream: _SweptStream) -> list[str]:
    swept = stream.swept
    counts = [f"{number:,}" for number in (swept.aborted, swept.kept, swept.expired, swept.collected, stream.retired)]
    return [str(stream.stream), *(counts if not stream.problem else ["✗"] * len(counts))]


def _swept_line(stream: _SweptStream) -> str:
    if stream.problem:
        return f"✗ {stream.stream}: {stream.problem}"
    swept = stream.swept
    expired = f", replaced objects of {amount(swept.expired, 'scope')} deleted" if swept.expired else ""
    expired += f", {amount(swept.collected, 'unused segment')} deleted" if swept.collected else ""
    retired = f", {amount(stream.retired, 'expired partition')} retired" if stream.retired else ""
    return f"{stream.stream}: {amount(swept.aborted, 'abandoned upload')} aborted, {swept.kept} kept{expired}{retired}"


def _stream_json(stream: StreamId) -> dict[str, Any]:
    return {"stream": stream.name, "namespace": stream.namespace}


def _scope_json(scope: Scope) -> dict[str, Any]:
    return {**_stream_json(scope.stream), "partition": scope.partition}


def _recovered_json(recovered: list[Recovered]) -> list[dict[str, Any]]:
    return [
        {**_scope_json(scope.scope), "ok": scope.ok, "sync_id": scope.sync_id, "message": scope.message or None}
        for scope in recovered
    ]


def _swept_json(stream: _SweptStream) -> dict[str, Any]:
    swept = stream.swept
    counts = {"aborted": swept.aborted, "kept": swept.kept, "expired": swept.expired}
    counts |= {"collected": swept.collected, "retired": stream.retired}
    return {**_stream_json(stream.stream), **counts, "problem": stream.problem or None}
