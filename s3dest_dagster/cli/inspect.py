"""The verbs that are asked before a sync: check, spec, discover, plan. They change nothing that has landed.

It must not know how the command is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from s3dest_dagster.cli.output import Output, Screen, Table
from s3dest_dagster.cli.targets import (
    bucket_of,
    new_sync,
    opened_target,
    read_catalog_file,
    read_config,
    read_json_object,
)
from s3dest_dagster.columns.diagnostics import Diagnostic, DiagnosticGroup, grouped
from s3dest_dagster.errors import CredentialsError
from s3dest_dagster.inspection.check import CheckStep, check_streams
from s3dest_dagster.inspection.check import check as check_server
from s3dest_dagster.inspection.plan import Plan, StreamPlan
from s3dest_dagster.inspection.plan import plan as plan_streams
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.connector_config import ConnectorConfig
from s3dest_dagster.settings.connector_spec import connector_spec
from s3dest_dagster.sources.airbyte.config import ConfigFile
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.storage import Bucket, Identity, identity
from s3dest_dagster.stream import Stream

_SHOWN_KEYS = 10
_SHOWN_FIELDS = 8
"""Fields of one group of remarks."""
_CHECK_ATTEMPTS = 2
_NO_COLUMNS = "taken from the first records"
_NAMES = {"*": "all others"}
"""What people read in place of a remark's field."""

# ---------------------------------------------------------------------- check


def check(output: Output, config_path: str, catalog_path: str | None, *, again: bool = False) -> int:
    """Tries an identity and every request of a sync, then looks at the streams of a catalog; 1 when one of it fails.
    With `again` it is found out anew what the server can do."""
    config = _with_few_attempts(read_config(config_path, output))
    streams = read_catalog_file(catalog_path).streams if catalog_path is not None else ()
    found, steps = _check_steps(config, streams, again=again)
    example = bucket_of(config).uri(config.destination.template.example(config.destination.format.extension))
    failed = [each for each in steps if not each.ok and each.tried]
    if output.json:
        output.show_json(_check_json(found, steps, example))
    elif (screen := output.screen) is not None:
        _show_check(screen, steps, example)
    else:
        for each in steps:
            output.show(_check_line(each))
        output.show(f"  keys look like {example}")
    if failed:
        output.say(f"Error: The check failed at: {', '.join(each.name for each in failed)}.")
    return 1 if failed else 0


def _with_few_attempts(config: ConnectorConfig) -> ConnectorConfig:
    """The configuration for somebody who waits for the answer; a sync goes on trying for a minute."""
    attempts = min(config.connection.max_attempts, _CHECK_ATTEMPTS)
    return replace(config, connection=replace(config.connection, max_attempts=attempts))


def _check_steps(
    config: ConnectorConfig, streams: Sequence[Stream], *, again: bool
) -> tuple[Identity | None, list[CheckStep]]:
    name = "find an identity"
    try:
        found = identity(config.connection)
    except CredentialsError as error:
        return None, [CheckStep(name, "", False, error.message)]
    whom = f"acting as {found.arn}" if found.arn else f"whom it acts as is not known ({found.unknown})"
    step = CheckStep(name, "", True, f"{found.source}, access key id {found.access_key_id}, {whom}")
    with opened_target(config, None) as target:
        steps = [step, *check_server(target, uuid4().hex, again=again)]
        if streams and all(each.ok for each in steps):
            steps += check_streams(target, streams)
        return found, steps


def _check_line(step: CheckStep) -> str:
    action = f" ({step.action})" if step.action else ""
    message = f": {step.message}" if step.message else ""
    return f"{_sign(step)} {step.name}{action}{message}"


def _sign(step: CheckStep) -> str:
    if not step.tried:
        return "?"
    if not step.has:
        return "-"
    return "✓" if step.ok else "✗"


def _show_check(screen: Screen, steps: Sequence[CheckStep], example: str) -> None:
    """A table of the steps. What there is to say of one stands below, whole: somebody copies the statement in it."""
    rows = [(_sign(each), each.name, each.action) for each in steps]
    screen.table(Table(("", "step", "IAM action"), rows))
    for each in steps:
        if each.message:
            screen.sentence(_check_line(each))
    screen.fact("keys look like", example)


def _check_json(found: Identity | None, steps: Sequence[CheckStep], example: str) -> dict[str, Any]:
    return {
        "ok": all(each.ok for each in steps),
        "identity": None if found is None else {**asdict(found), "unknown": found.unknown or None},
        "steps": [
            {
                "name": each.name,
                "action": each.action or None,
                "ok": each.ok,
                "tried": each.tried,
                "has": each.has,
                "message": each.message or None,
            }
            for each in steps
        ],
        "example_key": example,
    }


# ---------------------------------------------------------------------- spec, discover


def spec(output: Output) -> int:
    """Prints the SPEC message, one line."""
    output.show_document(json.dumps({"type": "SPEC", "spec": connector_spec()}))
    return 0


def discover(output: Output, source: str, config_path: str) -> int:
    """Prints the source's catalog; its log lines go to standard error. What it changes of its configuration is kept."""
    read_json_object(config_path, "configuration")
    catalog = AirbyteSource(source, ConfigFile(config_path)).discover(log=output.log)
    output.show_json(dict(catalog.raw))
    return 0


# ---------------------------------------------------------------------- plan


def plan(output: Output, config_path: str, catalog_path: str, partition: str | None, now: datetime | None) -> int:
    """Shows what the next sync of each stream would do."""
    config = read_config(config_path, output)
    catalog = read_catalog_file(catalog_path)
    with opened_target(config, now) as target:
        planned = plan_streams(target, catalog.streams, new_sync(None, now), partition=partition)
        if output.json:
            output.show_json(_plan_json(planned, target.bucket))
        elif (screen := output.screen) is not None:
            _show_plan(screen, planned, target.bucket, every_key=output.verbose)
        else:
            for line in _plan_lines(planned, target.bucket, every_key=output.verbose):
                output.show(line)
    return 0


def _plan_json(planned: Plan, bucket: Bucket) -> dict[str, Any]:
    return {
        "key_template": planned.template,
        "streams": [
            {
                "stream": each.scope.stream.name,
                "namespace": each.scope.stream.namespace,
                "partition": each.scope.partition,
                "sync_mode": each.sync_mode.value,
                "first_key": each.first_key,
                "uri": bucket.uri(each.first_key),
                "columns": [
                    {"name": name, "type": kind, "description": description} for name, kind, description in each.columns
                ],
                "renamed": dict(each.renamed),
                "remarks": [
                    {"field": r.field, "effect": r.effect.value, "becomes": r.becomes or None, "reason": r.reason}
                    for r in each.diagnostics
                ],
                "deletes": list(each.deletes),
                "pending": each.pending,
            }
            for each in planned.streams
        ],
        "actions": list(planned.actions),
        "without_effect": list(planned.without_effect),
    }


def _plan_lines(planned: Plan, bucket: Bucket, *, every_key: bool) -> Iterator[str]:
    yield f"keys: {bucket.uri(planned.template)}"
    for each in planned.streams:
        yield f"{each.scope}: {_mode(each)}"
        for label, value in _facts(each, bucket):
            yield _fact_line(label, value)
        if not each.columns:
            yield _fact_line("columns", _NO_COLUMNS)
        for number, (name, kind, _) in enumerate(each.columns):
            yield _fact_line("columns" if number == 0 else "", f"{name}  {kind}")
        for number, group in enumerate(grouped(each.diagnostics)):
            yield _fact_line("differs" if number == 0 else "", _group_line(group, every_field=every_key))
        for label, value in _deletions(each, bucket, every_key=every_key):
            yield _fact_line(label, value)
    yield f"IAM actions: {', '.join(planned.actions)}"
    yield from planned.without_effect


def _show_plan(screen: Screen, planned: Plan, bucket: Bucket, *, every_key: bool) -> None:
    """The same on a terminal: tables of the columns and of what is needed."""
    screen.heading("keys", bucket.uri(planned.template))
    for each in planned.streams:
        screen.heading(str(each.scope), _mode(each))
        for label, value in _facts(each, bucket):
            screen.fact(label, value)
        if not each.columns:
            screen.fact("columns", _NO_COLUMNS)
        else:
            screen.table(Table(("column", "type"), [(name, kind) for name, kind, _ in each.columns]))
        if each.diagnostics:
            groups = grouped(each.diagnostics)
            rows = [(_fields(group, every_field=every_key), group.effect.value, group.reason) for group in groups]
            screen.table(Table(("differs", "what becomes of it", "why"), rows))
        for label, value in _deletions(each, bucket, every_key=every_key):
            screen.fact(label, value)
    screen.table(Table(("IAM actions that a sync needs",), [(each,) for each in planned.actions]))
    if planned.without_effect:
        screen.table(Table(("settings without effect",), [(each,) for each in planned.without_effect]))


def _mode(planned: StreamPlan) -> str:
    return planned.sync_mode.value.replace("_", " ")


def _facts(planned: StreamPlan, bucket: Bucket) -> Iterator[tuple[str, str]]:
    if planned.pending is not None:
        interrupted = f"sync {planned.pending} is finished, which was interrupted while it was published"
        yield "first of all", interrupted
    yield "first object", bucket.uri(planned.first_key)


def _group_line(group: DiagnosticGroup, *, every_field: bool) -> str:
    return f"{group.effect.value}: {_fields(group, every_field=every_field)} ({group.reason})"


def _fields(group: DiagnosticGroup, *, every_field: bool) -> str:
    """The fields that a group is about; of many, the first, and how many more there are."""
    shown = group.diagnostics if every_field else group.diagnostics[:_SHOWN_FIELDS]
    more = len(group.diagnostics) - len(shown)
    names = ", ".join(map(_field, shown))
    return f"{names} and {more:,} more; --verbose shows them" if more else names


def _field(diagnostic: Diagnostic) -> str:
    name = _NAMES.get(diagnostic.field, diagnostic.field)
    return f"{name} becomes {diagnostic.becomes}" if diagnostic.becomes else name


def _deletions(planned: StreamPlan, bucket: Bucket, *, every_key: bool) -> Iterator[tuple[str, str]]:
    keys = planned.deletes
    shown = keys if every_key else keys[:_SHOWN_KEYS]
    yield "would delete", amount(len(keys), "object") if keys else "nothing"
    for key in shown:
        yield "", bucket.uri(key)
    if len(shown) < len(keys):
        yield "", f"and {len(keys) - len(shown):,} more; --verbose shows them"


def _fact_line(label: str, value: str) -> str:
    return f"  {label:14}{value}"
