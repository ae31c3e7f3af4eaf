"""The verbs for what has landed: ls, verify, recover, sweep.

One line a stream or object, or JSON; on a terminal, tables. It must not know how the command is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from s3dest_dagster.cli.output import Output, Table, waiting
from s3dest_dagster.cli.targets import Place, Where, places
from s3dest_dagster.commit.scopes import FoundStream
from s3dest_dagster.commit.sweep import Swept
from s3dest_dagster.commit.sweep import sweep as sweep_stream
from s3dest_dagster.errors import (
    BucketNotFoundError,
    CommitError,
    CredentialsError,
    EndpointUnreachableError,
    StorageError,
)
from s3dest_dagster.inspection.read import LiveObject, live_objects
from s3dest_dagster.inspection.recover import Recovered
from s3dest_dagster.inspection.recover import recover as recover_scope
from s3dest_dagster.inspection.verify import Verified, foreign_keys
from s3dest_dagster.inspection.verify import verify as verify_scope
from s3dest_dagster.printable import amount, size
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId

_Result = TypeVar("_Result")


def ls(output: Output, where: Where) -> int:
    """Lists the live objects of every scope; 1 when a scope cannot be listed."""
    problems: list[tuple[Scope, str]] = []
    live = (
        (place.bucket, scope, each)
        for place in places(output, where)
        for stream in place.found()
        for scope, each in _live(place, stream, problems)
    )
    _told(output, live, lambda row: [_object_line(row[2], row[0])], lambda row: _object_json(row[1], row[2], row[0]))
    for scope, problem in problems:
        output.say(f"Error: {scope}: {problem}")
    return 1 if problems else 0


def verify(output: Output, where: Where, *, deep: bool) -> int:
    """Compares the bucket with the manifests; 1 when something does not agree."""
    verified = (_verified(place, stream, deep=deep) for place in places(output, where) for stream in place.found())
    results = _told(output, verified, _verified_lines, _verified_json, _verified_table)
    broken = [each for each in results if each.problems]
    if broken:
        output.say(f"Error: {len(broken)} of {amount(len(results), 'stream')} do not agree with their manifests.")
    return 1 if broken else 0


def recover(output: Output, where: Where) -> int:
    """Finishes interrupted publications; 1 when one was turned back or failed."""
    recovered = (_recovered(place, stream) for place in places(output, where) for stream in place.found())
    results = _told(output, recovered, _recovered_lines, _recovered_json, _recovered_table)
    failed = [each for stream in results for each in stream if not each.ok]
    if failed:
        output.say(f"Error: {amount(len(failed), 'scope')} could not be recovered.")
    return 1 if failed else 0


def sweep(output: Output, where: Where, now: datetime | None) -> int:
    """Aborts abandoned uploads of the streams; 1 when those of one could not be."""
    swept = (
        _swept(place, stream, now)
        for place in places(output, where)
        for stream in sorted(place.streams or {each.stream for each in place.found()}, key=str)
    )
    results = _told(output, swept, lambda each: [_swept_line(each)], lambda each: [_swept_json(each)], _swept_table)
    failed = [each for each in results if each.problem]
    if failed:
        output.say(f"Error: {len(failed)} of {amount(len(results), 'stream')} could not be swept.")
    return 1 if failed else 0


# ---------------------------------------------------------------------- stream by stream


@contextmanager
def _going_on(tell: Callable[[str], None]) -> Iterator[None]:
    """What is wrong with one stream is told, and ends nothing; what is wrong with the whole bucket does."""
    try:
        yield
    except (CredentialsError, BucketNotFoundError, EndpointUnreachableError):
        raise
    except (CommitError, StorageError) as error:
        tell(error.message)


def _note(problems: list[tuple[Scope, str]], scope: Scope, problem: str) -> None:
    problems.append((scope, problem))


def _live(place: Place, found: FoundStream, problems: list[tuple[Scope, str]]) -> Iterator[tuple[Scope, LiveObject]]:
    """The live objects of a stream; `problems` gets those scopes whose objects nobody can tell."""
    problems += [(each.scope, each.error.message) for each in found.damaged]
    for scope in found.scopes:
        objects: list[LiveObject] = []
        with _going_on(partial(_note, problems, scope)):
            objects = live_objects(place.bucket, place.destination.template, scope)
        yield from ((scope, each) for each in objects)


@dataclass(frozen=True, slots=True)
class _VerifiedStream:
    """What a look at all scopes of a stream gave. `foreign` objects match its template, and no manifest knows them."""

    stream: StreamId
    scopes: list[Verified]
    foreign: int

    @property
    def problems(self) -> list[tuple[Scope, str]]:
        return [(each.scope, problem) for each in self.scopes for problem in each.problems]

    def total(self, count: Callable[[Verified], int]) -> int:
        return sum(map(count, self.scopes))


def _verified(place: Place, found: FoundStream, *, deep: bool) -> _VerifiedStream:
    bucket, template, foreign = place.bucket, place.destination.template, set[str]()
    verified = [Verified(each.scope, 0, 0, (each.error.message,)) for each in found.damaged]

    def tell(scope: Scope, problem: str) -> None:
        if not any(problem in each.problems for each in verified):
            verified.append(Verified(scope, 0, 0, (problem,)))

    for scope in found.scopes:
        with _going_on(partial(tell, scope)):
            verified.append(verify_scope(bucket, template, scope, deep=deep))
    # Whose an object is cannot be told while a manifest cannot be read that might name it.
    with _going_on(partial(tell, Scope(found.stream))):
        foreign = foreign_keys(bucket, template, found.stream)
    return _VerifiedStream(found.stream, verified, len(foreign))


def _recovered(place: Place, found: FoundStream) -> list[Recovered]:
    damaged = [Recovered(each.scope, None, False, each.error.message) for each in found.damaged]
    template = place.destination.template
    return [*damaged, *(recover_scope(place.bucket, template, scope) for scope in found.scopes)]


@dataclass(frozen=True, slots=True)
class _SweptStream:
    """What became of a stream's abandoned uploads; `problem` says why nothing more did."""

    stream: StreamId
    swept: Swept
    problem: str


def _swept(place: Place, stream: StreamId, now: datetime | None) -> _SweptStream:
    swept, problems = Swept(0, 0), list[str]()
    with _going_on(problems.append):
        swept = sweep_stream(place.bucket, place.destination, stream, now=now)
    return _SweptStream(stream, swept, "".join(problems))


# ---------------------------------------------------------------------- lines and JSON


def _told(
    output: Output,
    results: Iterable[_Result],
    lines: Callable[[_Result], Iterable[str]],
    as_json: Callable[[_Result], list[dict[str, Any]]],
    table: Callable[[list[_Result]], Table] | None = None,
) -> list[_Result]:
    """The results, each shown as lines as soon as it is there; or all of them as one JSON list, or, on a terminal, as a
    table, with those lines below it that tell of something wrong."""
    told: list[_Result] = []
    screen = output.screen if table is not None else None
    if screen is not None and table is not None:
        try:
            with waiting() as say:
                for number, result in enumerate(results, start=1):
                    told.append(result)
                    say(f"{amount(number, 'stream')} looked at")
        finally:
            if told:
                screen.table(table(told))
            for line in (line for each in told for line in lines(each) if line.startswith("✗")):
                screen.sentence(line)
        return told
    for result in results:
        told.append(result)
        if not output.json:
            for line in lines(result):
                output.show(line)
    if output.json:
        output.show_json([part for each in told for part in as_json(each)])
    return told


def _object_line(each: LiveObject, bucket: Bucket) -> str:
    landed_at = each.sync.started_at.strftime("%Y-%m-%d %H:%M:%S")
    return f"{landed_at}  {amount(each.item.rows, 'row'):>16}  {size(each.item.bytes):>10}  {bucket.uri(each.item.key)}"


def _verified_lines(verified: _VerifiedStream) -> list[str]:
    if verified.problems:
        return [f"✗ {scope}: {problem}" for scope, problem in verified.problems]
    return [f"✓ {verified.stream}: {', '.join(_verified_parts(verified))}"]


def _verified_table(results: list[_VerifiedStream]) -> Table:
    counts = ("partitions", "objects", "rows", "ETags uncompared", "foreign objects", "problems")
    return Table(("", "stream", *counts), list(map(_verified_row, results)), frozenset(counts))


def _verified_row(verified: _VerifiedStream) -> list[str]:
    counts = (
        len([each for each in verified.scopes if each.scope.partition is not None]),
        verified.total(lambda each: each.objects),
        verified.total(lambda each: each.rows),
        verified.total(lambda each: each.uncompared),
        verified.foreign,
        len(verified.problems),
    )
    return [_sign(not verified.problems), str(verified.stream), *(f"{each:,}" for each in counts)]


def _sign(ok: bool) -> str:
    return "✓" if ok else "✗"


def _verified_parts(verified: _VerifiedStream) -> Iterator[str]:
    yield amount(verified.total(lambda each: each.objects), "object")
    yield amount(verified.total(lambda each: each.rows), "row")
    if partitions := [each for each in verified.scopes if each.scope.partition is not None]:
        yield amount(len(partitions), "partition")
    if uncompared := verified.total(lambda each: each.uncompared):
        yield f"{amount(uncompared, 'ETag')} of a kind that cannot be compared"
    if verified.foreign:
        yield f"{amount(verified.foreign, 'foreign object')} beside them"


def _recovered_lines(recovered: list[Recovered]) -> list[str]:
    failed = [f"✗ {each.scope}: {each.message}" for each in recovered if not each.ok]
    finished = [f"✓ {each.scope}: sync {each.sync_id} is finished" for each in recovered if each.ok and each.sync_id]
    return failed + finished or [f"✓ {recovered[0].scope.stream}: nothing to finish"]


def _recovered_table(results: list[list[Recovered]]) -> Table:
    """A row for each scope that had something to finish, and one for each stream of which none had."""
    rows = []
    for stream in results:
        touched = [each for each in stream if each.sync_id or not each.ok]
        rows += [
            (_sign(each.ok), str(each.scope), each.sync_id or "", "finished" if each.ok else "not finished")
            for each in touched
        ]
        if not touched:
            rows.append((_sign(True), str(stream[0].scope.stream), "", "nothing to finish"))
    return Table(("", "stream", "sync", "what became of it"), rows)


def _swept_table(results: list[_SweptStream]) -> Table:
    counts = ("uploads aborted", "uploads kept", "scopes whose replaced objects were deleted")
    return Table(("stream", *counts), list(map(_swept_row, results)), frozenset(counts))


def _swept_row(each: _SweptStream) -> list[str]:
    swept = each.swept
    counts = [f"{number:,}" for number in (swept.aborted, swept.kept, swept.released)]
    return [str(each.stream), *(counts if not each.problem else ["✗"] * len(counts))]


def _swept_line(each: _SweptStream) -> str:
    if each.problem:
        return f"✗ {each.stream}: {each.problem}"
    stream, swept = each.stream, each.swept
    released = f", replaced objects of {amount(swept.released, 'scope')} deleted" if swept.released else ""
    return f"{stream}: {amount(swept.aborted, 'abandoned upload')} aborted, {swept.kept} kept{released}"


def _stream_json(stream: StreamId) -> dict[str, Any]:
    return {"stream": stream.name, "namespace": stream.namespace}


def _scope_json(scope: Scope) -> dict[str, Any]:
    return {**_stream_json(scope.stream), "partition": scope.partition}


def _object_json(scope: Scope, each: LiveObject, bucket: Bucket) -> list[dict[str, Any]]:
    told = {
        **_scope_json(scope),
        "key": each.item.key,
        "uri": bucket.uri(each.item.key),
        "rows": each.item.rows,
        "bytes": each.item.bytes,
        "sync_id": each.sync.sync_id,
        "started_at": each.sync.started_at.isoformat(),
    }
    return [told]


def _verified_json(verified: _VerifiedStream) -> list[dict[str, Any]]:
    told = {
        **_stream_json(verified.stream),
        "ok": not verified.problems,
        "scopes": len(verified.scopes),
        "objects": verified.total(lambda each: each.objects),
        "rows": verified.total(lambda each: each.rows),
        "uncompared": verified.total(lambda each: each.uncompared),
        "foreign": verified.foreign,
        "problems": [{"partition": scope.partition, "problem": text} for scope, text in verified.problems],
    }
    return [told]


def _recovered_json(recovered: list[Recovered]) -> list[dict[str, Any]]:
    return [
        {**_scope_json(each.scope), "ok": each.ok, "sync_id": each.sync_id, "message": each.message or None}
        for each in recovered
    ]


def _swept_json(each: _SweptStream) -> dict[str, Any]:
    counts = {"aborted": each.swept.aborted, "kept": each.swept.kept, "released": each.swept.released}
    return {**_stream_json(each.stream), **counts, "problem": each.problem or None}
