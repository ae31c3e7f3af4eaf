"""`show`: what a stream is and holds, for a person: columns, counts, the last syncs and a few records.

Must not know: the command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any

from s3dest_dagster.cli.output import LABEL_WIDTH, Output, Screen, Table
from s3dest_dagster.cli.selections import Selection, SelectionOptions, named_stream, selections
from s3dest_dagster.columns.schemas import columns
from s3dest_dagster.commit.registry_updates import registry_of
from s3dest_dagster.inspection.landed_scopes import LandedScopes
from s3dest_dagster.inspection.read import LiveObject, snapshot
from s3dest_dagster.inspection.record_selection import RecordSelection
from s3dest_dagster.printable import age, amount, size
from s3dest_dagster.storage import each_in_parallel
from s3dest_dagster.stream import StreamId

MOST_SYNCS = 10
_ENVELOPE = "_airbyte_"
_NARROW = 8
"""A sample of more columns than these is shown record by record."""


@dataclass(frozen=True, slots=True)
class _ShownSync:
    """A sync whose objects the stream holds."""

    partition: str | None
    sync_id: str
    started_at: datetime
    objects: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _ShownStream:
    """Everything that is shown of a stream."""

    stream: StreamId
    path: str
    owner: str | None
    partitions: Sequence[str]
    columns: Sequence[tuple[str, str, str | None]]
    syncs: Sequence[_ShownSync]
    """The newest first."""
    not_counted: int
    """Adopted objects that nobody has read."""
    sample: Sequence[dict[str, Any]]

    @property
    def objects(self) -> int:
        return sum(each.objects for each in self.syncs)

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.syncs)

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.syncs)


def show(output: Output, options: SelectionOptions, name: str, rows: int, now: datetime | None) -> int:
    """Shows one stream.

    Args:
        output: Where the result goes.
        options: Where the stream has landed.
        name: The stream, such as public.users.
        rows: The number of records of the sample.
        now: The time from which ages count. None: the present.

    Raises:
        SettingsError: There is no such stream.
    """
    selection, stream = named_stream(selections(output, options), name)
    shown = _look(selection, stream, rows)
    now, every = now or datetime.now(UTC), output.verbose
    if output.json:
        output.show_json(_stream_json(shown))
    elif (screen := output.screen) is not None:
        _show_screen(screen, shown, now, every_sync=every)
    else:
        for line in _lines(shown, now, every_sync=every):
            output.show(line)
    return 0


def _look(selection: Selection, stream: StreamId, rows: int) -> _ShownStream:
    bucket, template = selection.bucket, selection.destination.template
    scopes = list(replace(selection, streams=frozenset({stream})).scopes())
    snapshots = list(each_in_parallel(partial(snapshot, bucket, template), scopes))
    by_key = {scope.partition: each for scope, each in zip(scopes, snapshots, strict=True)}
    landed = LandedScopes.of(by_key, str(stream), RecordSelection())
    live = [(key, each) for key, scope in landed.scopes.items() for each in scope.objects()]
    registry = registry_of(bucket, selection.destination, stream)
    return _ShownStream(
        stream=stream,
        path=bucket.uri(template.literal_root),
        owner=registry.owner if registry is not None else None,
        partitions=sorted({key for key, _ in live if key is not None}),
        columns=[] if landed.record is None else columns(landed.record),
        syncs=sorted(_syncs(live), key=lambda each: each.started_at, reverse=True),
        not_counted=sum(not each.item.is_counted for _, each in live),
        sample=_sample(landed, live, rows),
    )


def _syncs(live: Sequence[tuple[str | None, LiveObject]]) -> Iterator[_ShownSync]:
    for (partition, name), group in groupby(live, key=lambda each: (each[0], each[1].sync.segment)):
        objects = [each for _, each in group]
        sync, items = objects[0].sync, [each.item for each in objects]
        assert sync.segment == name
        counts = (len(items), sum(item.rows for item in items), sum(item.bytes for item in items))
        yield _ShownSync(partition, sync.sync_id, sync.started_at, *counts)


def _sample(landed: LandedScopes, live: Sequence[tuple[str | None, LiveObject]], rows: int) -> Sequence[dict[str, Any]]:
    """The first records of the smallest object of the newest sync: one object is read."""
    if not live or not rows:
        return []
    newest = max(each.sync.started_at for _, each in live)
    key, smallest = min(
        ((key, each) for key, each in live if each.sync.started_at == newest and each.item.bytes),
        key=lambda each: each[1].item.bytes,
    )
    assert landed.record is not None, "a stream with objects has columns"
    table = landed.scopes[key].table_of(smallest, landed.record)
    found: list[dict[str, Any]] = table.slice(0, rows).to_pylist()
    return found


# ---------------------------------------------------------------------- for people


def _facts(shown: _ShownStream, now: datetime) -> Iterator[tuple[str, str]]:
    yield "under", shown.path
    yield "owner", shown.owner or "nobody"
    if not shown.syncs:
        yield "holds", "nothing"
        return
    if shown.partitions:
        first, last = shown.partitions[0], shown.partitions[-1]
        yield "partitions", f"{len(shown.partitions):,}: {first}{f' to {last}' if last != first else ''}"
    counted = f", {amount(shown.not_counted, 'object')} not counted" if shown.not_counted else ""
    yield "holds", f"{amount(shown.rows, 'row')}, {amount(shown.objects, 'object')}, {size(shown.bytes)}{counted}"
    newest = shown.syncs[0].started_at
    yield "last landed", f"{_time(newest)}, {age((now - newest).total_seconds())} ago"


def _lines(shown: _ShownStream, now: datetime, *, every_sync: bool) -> Iterator[str]:
    yield str(shown.stream)
    facts = list(_facts(shown, now))
    facts += _labelled("columns", [f"{name}  {kind}" for name, kind, _ in shown.columns])
    syncs = shown.syncs if every_sync else shown.syncs[:MOST_SYNCS]
    facts += _labelled("syncs", ["  ".join(_sync_cells(each)) for each in syncs] + _more(shown, syncs))
    facts += _labelled("sample", [json.dumps(_own(each), default=str, ensure_ascii=False) for each in shown.sample])
    for label, value in facts:
        yield f"  {label:{LABEL_WIDTH}}{value}"


def _labelled(label: str, values: Sequence[str]) -> list[tuple[str, str]]:
    return [(label if number == 0 else "", value) for number, value in enumerate(values)]


def _show_screen(screen: Screen, shown: _ShownStream, now: datetime, *, every_sync: bool) -> None:
    screen.heading(str(shown.stream))
    for label, value in _facts(shown, now):
        screen.fact(label, value)
    if shown.columns:
        screen.table(Table(("column", "type"), [(name, kind) for name, kind, _ in shown.columns]))
    syncs = shown.syncs if every_sync else shown.syncs[:MOST_SYNCS]
    if syncs:
        headings = ("landed", "partition", "rows", "objects", "size", "sync")
        screen.table(Table(headings, list(map(_sync_row, syncs)), frozenset({"rows", "objects", "size"})))
    for line in _more(shown, syncs):
        screen.sentence(line)
    _show_sample(screen, [_own(each) for each in shown.sample])


def _show_sample(screen: Screen, records: Sequence[dict[str, Any]]) -> None:
    if not records:
        return
    names = tuple(records[0])
    if len(names) <= _NARROW:
        screen.table(Table(names, [[_cell(each[name]) for name in names] for each in records]))
        return
    for number, record in enumerate(records, start=1):
        screen.heading(f"record {number}")
        for name, value in record.items():
            screen.fact(name, _cell(value))


def _sync_row(sync: _ShownSync) -> tuple[str, ...]:
    counts = (f"{sync.rows:,}", f"{sync.objects:,}", size(sync.bytes))
    return (_time(sync.started_at), sync.partition or "", *counts, sync.sync_id)


def _sync_cells(sync: _ShownSync) -> Iterator[str]:
    yield _time(sync.started_at)
    if sync.partition is not None:
        yield sync.partition
    yield f"{amount(sync.rows, 'row')}, {amount(sync.objects, 'object')}, {size(sync.bytes)}"
    yield sync.sync_id


def _more(shown: _ShownStream, syncs: Sequence[_ShownSync]) -> list[str]:
    more = len(shown.syncs) - len(syncs)
    return [f"and {more:,} more; --verbose shows them"] if more else []


def _own(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the columns that every stream has, unless it has no others."""
    return {name: value for name, value in record.items() if not name.startswith(_ENVELOPE)} or record


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


# ---------------------------------------------------------------------- for programs


def _stream_json(shown: _ShownStream) -> dict[str, Any]:
    return {
        "stream": shown.stream.name,
        "namespace": shown.stream.namespace,
        "path": shown.path,
        "owner": shown.owner,
        "partitions": list(shown.partitions),
        "objects": shown.objects,
        "rows": shown.rows,
        "not_counted": shown.not_counted,
        "bytes": shown.bytes,
        "columns": [{"name": name, "type": kind, "description": text} for name, kind, text in shown.columns],
        "syncs": [
            {
                "partition": each.partition,
                "sync_id": each.sync_id,
                "started_at": each.started_at.isoformat(),
                "objects": each.objects,
                "rows": each.rows,
                "bytes": each.bytes,
            }
            for each in shown.syncs
        ],
        "sample": json.loads(json.dumps(list(shown.sample), default=str)),
    }
