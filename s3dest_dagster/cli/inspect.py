"""The verbs that people run before a sync: spec, discover, plan. They change nothing that has landed.

Must not know: the command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from s3dest_dagster.cli.leftovers import location_json
from s3dest_dagster.cli.output import LABEL_WIDTH, Output, Screen, Table
from s3dest_dagster.cli.selections import SelectionOptions
from s3dest_dagster.cli.streams_to_land import StreamsToLand, streams_to_land
from s3dest_dagster.cli.targets import new_sync
from s3dest_dagster.columns.diagnostics import Diagnostic, DiagnosticGroup, grouped
from s3dest_dagster.columns.schema_differences import ColumnChange, Difference
from s3dest_dagster.commit.documents import StreamLocation
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.receipt import former_template_sentence, left_beside_sentence
from s3dest_dagster.inspection.plan import Plan, StreamPlan
from s3dest_dagster.inspection.plan import plan as plan_streams
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.connector_config import read_json_object
from s3dest_dagster.settings.connector_spec import connector_spec
from s3dest_dagster.settings.schema_contract import Verdict
from s3dest_dagster.sources.airbyte.config import ConfigFile
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

_MAX_KEYS = 10
# The most fields of one group of diagnostics.
_MAX_FIELDS = 8
_NO_COLUMNS = "taken from the first records"
# How a diagnostic's field is shown to people.
_FIELD_NAMES = {"*": "all others"}


# ---------------------------------------------------------------------- spec, discover


def spec(output: Output) -> int:
    """Prints the SPEC message in one line."""
    output.show_document(json.dumps({"type": "SPEC", "spec": connector_spec()}))
    return 0


def discover(output: Output, source: str, config_path: str) -> int:
    """Prints the source's catalog. Its log lines go to standard error; what it changes in its configuration is kept."""
    read_json_object(config_path, "configuration")
    catalog = AirbyteSource(source, ConfigFile(config_path)).discover(log=output.log)
    output.show_json(dict(catalog.raw))
    return 0


# ---------------------------------------------------------------------- plan


def plan(
    output: Output,
    options: SelectionOptions,
    discovered_path: str | None,
    now: datetime | None,
    *,
    owner: str | None = None,
) -> int:
    """Shows what the next sync of each stream would do, and changes nothing."""
    landing = streams_to_land(output, options, discovered_path, owner)
    streams, scopes = _scopes(landing, options, now or datetime.now(UTC))
    with landing.opened_target(now) as target:
        planned = plan_streams(target, streams, new_sync(None, now), scopes=scopes)
        planned = replace(planned, without_effect=(*planned.without_effect, *landing.unknown, *landing.warnings))
        if output.json:
            output.show_json(_plan_json(planned, target.bucket))
        elif (screen := output.screen) is not None:
            _show_plan(screen, planned, target.bucket, every_key=output.verbose)
        else:
            for line in _plan_lines(planned, target.bucket, every_key=output.verbose):
                output.show(line)
    return 0


def _scopes(landing: StreamsToLand, options: SelectionOptions, now: datetime) -> tuple[list[Stream], list[Scope]]:
    """The streams that would land, and what of each."""
    if not landing.streams:
        raise SettingsError("Name the streams to plan: by --catalog, next to --config.", setting="catalog")
    found = [(stream, landing.scope_of(stream, options.partition, now)) for stream in landing.streams]
    selected = [(stream, scope) for stream, scope in found if scope is not None]
    if not selected:
        what = f"a partition {options.partition!r}" if options.partition is not None else "a partition yet"
        raise SettingsError(f"None of the selected assets has {what}.", setting="partition")
    return [stream for stream, _ in selected], [scope for _, scope in selected]


def _plan_json(planned: Plan, bucket: Bucket) -> dict[str, Any]:
    return {
        "key_template": planned.template,
        "streams": [_stream_plan_json(stream, bucket) for stream in planned.streams],
        "actions": list(planned.actions),
        "without_effect": list(planned.without_effect),
    }


def _stream_plan_json(planned: StreamPlan, bucket: Bucket) -> dict[str, Any]:
    return {
        "stream": planned.scope.stream.name,
        "namespace": planned.scope.stream.namespace,
        "partition": planned.scope.partition,
        "sync_mode": planned.sync_mode.value,
        "first_key": planned.first_key,
        "uri": bucket.uri(planned.first_key),
        "columns": [
            {"name": name, "type": kind, "description": description} for name, kind, description in planned.columns
        ],
        "renamed": dict(planned.renamed),
        "diagnostics": [
            {
                "field": diagnostic.field,
                "effect": diagnostic.effect.value,
                "becomes": diagnostic.becomes or None,
                "reason": diagnostic.reason,
            }
            for diagnostic in planned.diagnostics
        ],
        "discards": planned.discards,
        "column_changes": [
            {
                "field": change.field,
                "difference": change.difference.value,
                "before": change.before or None,
                "now": change.now or None,
                "verdict": change.verdict.value,
            }
            for change in planned.column_changes
        ],
        **{name: list(planned.hidden.get(name, ())) for name in ("excluded", "hashed", "masked")},
        "unknown_paths": list(planned.unknown_paths),
        "readers": {each.reader: each.text for each in planned.readers},
        "advice": planned.advice or None,
        "deletes": list(planned.deletes),
        "pending": planned.pending,
        "left_beside": [each.partition for each in planned.left_beside],
        "left_elsewhere": [location_json(each) for each in planned.left_elsewhere],
        "former_template": planned.former_template or None,
        "expires": list(planned.expires),
    }


def _plan_lines(planned: Plan, bucket: Bucket, *, every_key: bool) -> Iterator[str]:
    yield f"keys: {bucket.uri(planned.template)}"
    for stream in planned.streams:
        yield f"{stream.scope}: {_mode(stream)}"
        for label, value in _facts(stream, bucket):
            yield _fact_line(label, value)
        if not stream.columns:
            yield _fact_line("columns", _NO_COLUMNS)
        for number, (name, kind, _) in enumerate(stream.columns):
            yield _fact_line("columns" if number == 0 else "", f"{name}  {kind}")
        for number, group in enumerate(grouped(stream.diagnostics)):
            yield _fact_line("differs" if number == 0 else "", _group_line(group, every_field=every_key))
        for number, change in enumerate(stream.column_changes):
            yield _fact_line("changes" if number == 0 else "", _change_line(change))
        for label, value in (*_deletions(stream, bucket, every_key=every_key), *_reader_lines(stream)):
            yield _fact_line(label, value)
    yield f"IAM actions: {', '.join(planned.actions)}"
    yield from planned.without_effect


def _show_plan(screen: Screen, planned: Plan, bucket: Bucket, *, every_key: bool) -> None:
    """Shows the plan on a terminal, with tables of the columns and of the IAM actions."""
    screen.heading("keys", bucket.uri(planned.template))
    for stream in planned.streams:
        screen.heading(str(stream.scope), _mode(stream))
        for label, value in _facts(stream, bucket):
            screen.fact(label, value)
        if not stream.columns:
            screen.fact("columns", _NO_COLUMNS)
        else:
            screen.table(Table(("column", "type"), [(name, kind) for name, kind, _ in stream.columns]))
        if stream.diagnostics:
            groups = grouped(stream.diagnostics)
            rows = [(_fields(group, every_field=every_key), group.effect.value, group.reason) for group in groups]
            screen.table(Table(("differs", "what becomes of it", "why"), rows))
        if stream.column_changes:
            screen.table(Table(("changes",), [(_change_line(change),) for change in stream.column_changes]))
        for label, value in (*_deletions(stream, bucket, every_key=every_key), *_reader_lines(stream)):
            screen.fact(label, value)
    screen.table(Table(("IAM actions that a sync needs",), [(action,) for action in planned.actions]))
    if planned.without_effect:
        screen.table(Table(("settings without effect",), [(setting,) for setting in planned.without_effect]))


def _mode(planned: StreamPlan) -> str:
    return planned.sync_mode.value.replace("_", " ")


def _facts(planned: StreamPlan, bucket: Bucket) -> Iterator[tuple[str, str]]:
    if planned.pending is not None:
        yield "first of all", f"finish sync {planned.pending}, which was interrupted while it was published"
    if planned.discards:
        yield "would discard", "every record: the schema contract discards streams that have never landed"
    yield "first object", bucket.uri(planned.first_key)
    if planned.left_beside:
        yield "stays visible", left_beside_sentence(planned.scope, planned.left_beside)
    for location in planned.left_elsewhere:
        yield "elsewhere", _elsewhere(planned.scope.stream, location, bucket)
    if planned.former_template:
        replaces = planned.sync_mode is SyncMode.FULL_REFRESH
        yield "new template", former_template_sentence(planned.scope, planned.former_template, replaces=replaces)
    if planned.expires:
        yield "would retire", f"{amount(len(planned.expires), 'expired partition')}, the first is {planned.expires[0]}"
    for label, paths in planned.hidden.items():
        yield label, ", ".join(paths)
    if planned.advice:
        yield "small objects", planned.advice
    if planned.unknown_paths:
        yield "not declared", f"{', '.join(planned.unknown_paths)}: the settings name it, and the schema does not"


def _elsewhere(stream: StreamId, location: StreamLocation, bucket: Bucket) -> str:
    """A place where the stream may have landed before, and the cure."""
    there = f"{location.stream_id} under {bucket.uri(location.bucket_path)}"
    if location.stream_id == stream:
        return f"{there}: if the stream has moved from there, that stays visible until you retire it there"
    return f"{there}: if that is the same stream, see `s3dest transfer {location.stream_id} --to-stream {stream}`"


_DISCARDED = {
    Difference.NEW_COLUMN: "it gets no column, and its values count as undeclared",
    Difference.NEW_TYPE: "its column stays, and values that do not fit go to the overflow",
    Difference.MISSING_COLUMN: "its column stays, and is null",
}
"""What the verdict `discard` means for a difference."""


def _change_line(change: ColumnChange) -> str:
    if change.verdict is not Verdict.DISCARD:
        return str(change)
    return f"{change}; {_DISCARDED[change.difference]}"


def _group_line(group: DiagnosticGroup, *, every_field: bool) -> str:
    return f"{group.effect.value}: {_fields(group, every_field=every_field)} ({group.reason})"


def _fields(group: DiagnosticGroup, *, every_field: bool) -> str:
    """The fields of a group; if there are many, the first ones and the number of the others."""
    shown = group.diagnostics if every_field else group.diagnostics[:_MAX_FIELDS]
    more = len(group.diagnostics) - len(shown)
    names = ", ".join(map(_field, shown))
    return f"{names} and {more:,} more; --verbose shows them" if more else names


def _field(diagnostic: Diagnostic) -> str:
    name = _FIELD_NAMES.get(diagnostic.field, diagnostic.field)
    return f"{name} becomes {diagnostic.becomes}" if diagnostic.becomes else name


def _deletions(planned: StreamPlan, bucket: Bucket, *, every_key: bool) -> Iterator[tuple[str, str]]:
    keys = planned.deletes
    shown = keys if every_key else keys[:_MAX_KEYS]
    yield "would delete", amount(len(keys), "object") if keys else "nothing"
    for key in shown:
        yield "", bucket.uri(key)
    if len(shown) < len(keys):
        yield "", f"and {len(keys) - len(shown):,} more; --verbose shows them"


def _reader_lines(planned: StreamPlan) -> Iterator[tuple[str, str]]:
    """The statements for readers, a line at a time."""
    for each in planned.readers:
        for number, line in enumerate(each.text.splitlines()):
            yield (each.reader if number == 0 else ""), line


def _fact_line(label: str, value: str) -> str:
    return f"  {label:{LABEL_WIDTH}}{value}"
