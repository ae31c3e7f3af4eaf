"""`ls`: a line for each object or file that the streams hold, under a header, in the order that people ask for.

Must not know: the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from s3dest_dagster.cli.output import Output
from s3dest_dagster.cli.scope_results import ScopeProgress, continue_after_error
from s3dest_dagster.cli.selections import Selection, SelectionOptions, selections
from s3dest_dagster.commit.landed_objects import LandedObject
from s3dest_dagster.commit.scopes import FoundStream
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.inspection.partition_filter import PartitionFilter
from s3dest_dagster.inspection.read import LiveObject, live_files, live_objects
from s3dest_dagster.printable import age, size
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope

NO_PARTITION = NO_ROWS = "-"
_LINE = "{landed:19}  {age:>8}  {rows:>12}  {size:>10}  {partition:12}  {object}"
_HEADER = {"landed": "LANDED", "age": "AGE", "rows": "ROWS", "size": "SIZE", "partition": "PARTITION"}


@dataclass(frozen=True, slots=True)
class _Listed:
    """One object or file that a scope holds."""

    scope: Scope
    live: LiveObject
    bucket: Bucket


ORDERS: dict[str, Callable[[_Listed], Any]] = {
    "landed": lambda each: -each.live.sync.started_at.timestamp(),
    "rows": lambda each: -each.live.item.rows,
    "size": lambda each: -each.live.item.bytes,
    "key": lambda each: each.live.item.key,
}
"""What the objects can be sorted by, besides their streams: the newest, the most rows and the largest come first."""


@dataclass(frozen=True, slots=True)
class ListRequest:
    """What `ls` is asked for."""

    where: PartitionFilter
    """The directories of the objects."""
    order: str | None = None
    """One of `ORDERS`. None: by stream, then partition, then from the oldest sync to the newest."""
    now: datetime | None = None
    """The time from which ages count. None: the present."""
    files: bool = False
    """Copies of files are listed, and not the objects with records."""


def ls(output: Output, options: SelectionOptions, request: ListRequest) -> int:
    """Lists the live objects of every scope, or those with these values in their directories, or the live files.

    Returns 1 if a scope cannot be listed, else 0. Raises SettingsError if no object has a directory that `where` names,
    or if `where` is given for files.
    """
    if request.files and request.where.values:
        raise SettingsError("Files are not in directories of partition_by. Leave out --where or --files.")
    problems: list[tuple[Scope, str]] = []
    progress = ScopeProgress()
    all_live = (
        _Listed(scope, landed, selection.bucket)
        for selection in selections(output, options)
        for stream in selection.found_streams()
        for scope, landed in _live(selection, stream, request, problems, progress)
    )
    found: Iterable[_Listed] = request.where.selected(all_live, lambda each: each.live.item, unless=problems)
    # Lines on a terminal show how far it is. Without an order, nothing is kept of them.
    with progress.shown() if output.screen is None or request.order else nullcontext():
        if request.order is not None:
            found = sorted(found, key=ORDERS[request.order])
        if output.json:
            output.show_json(list(map(_object_json, found)))
        else:
            _show_lines(output, found, request.now or datetime.now(UTC))
    for scope, problem in problems:
        output.say(f"Error: {scope}: {problem}")
    return 1 if problems else 0


def _live(
    selection: Selection,
    stream: FoundStream,
    request: ListRequest,
    problems: list[tuple[Scope, str]],
    progress: ScopeProgress,
) -> Iterator[tuple[Scope, LiveObject]]:
    """The live objects or files of a stream. Scopes that cannot be listed are added to `problems`."""
    live = live_files if request.files else live_objects
    problems += [(head.scope, head.error.message) for head in stream.damaged]

    def listed(scope: Scope) -> tuple[list[LiveObject], list[str]]:
        objects, errors = list[LiveObject](), list[str]()
        with continue_after_error(errors.append):
            objects = live(selection.bucket, selection.destination.template, scope)
        return objects, errors

    results = progress.results(stream.stream, listed, stream.scopes)
    for scope, (objects, errors) in zip(stream.scopes, results, strict=True):
        problems += [(scope, error) for error in errors]
        yield from ((scope, landed) for landed in objects)


def _show_lines(output: Output, found: Iterable[_Listed], now: datetime) -> None:
    """Shows a line for each object, and before the first one the header."""
    for number, each in enumerate(found):
        if number == 0:
            output.show_header(_LINE.format(**_HEADER, object="OBJECT"))
        output.show(_object_line(each, now))


def _object_line(listed: _Listed, now: datetime) -> str:
    item, started_at = listed.live.item, listed.live.sync.started_at
    return _LINE.format(
        landed=started_at.strftime("%Y-%m-%d %H:%M:%S"),
        age=age((now - started_at).total_seconds()),
        rows=_rows(item),
        size=size(item.bytes),
        partition=NO_PARTITION if listed.scope.partition is None else listed.scope.partition,
        object=listed.bucket.uri(item.key),
    )


def _rows(item: LandedObject) -> str:
    if item.file is not None:
        return NO_ROWS
    return f"{item.rows:,}" if item.is_counted else "not counted"


def _object_json(listed: _Listed) -> dict[str, Any]:
    item, sync, stream = listed.live.item, listed.live.sync, listed.scope.stream
    return {
        "stream": stream.name,
        "namespace": stream.namespace,
        "partition": listed.scope.partition,
        "key": item.key,
        "uri": listed.bucket.uri(item.key),
        "rows": item.rows if item.is_counted and item.file is None else None,
        "bytes": item.bytes,
        "sync_id": sync.sync_id,
        "started_at": sync.started_at.isoformat(),
        "partition_values": dict(item.partition_values) if item.partition_values is not None else None,
        "file": item.file,
    }
