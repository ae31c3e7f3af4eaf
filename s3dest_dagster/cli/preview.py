"""The verbs that are asked before a sync: check, spec, discover, plan. They change nothing that stays.

It must not know how the command is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from s3dest_dagster import landing
from s3dest_dagster.cli.inputs import (
    bucket_of,
    new_sync,
    opened_target,
    read_catalog_file,
    read_config,
    read_json_object,
)
from s3dest_dagster.cli.output import Output, amount
from s3dest_dagster.connector_config import ConnectorConfig
from s3dest_dagster.connector_spec import connector_spec
from s3dest_dagster.errors import CredentialsError
from s3dest_dagster.landing import CheckStep, Plan, StreamPlan
from s3dest_dagster.sources.airbyte import AirbyteSource
from s3dest_dagster.sources.config_file import ConfigFile
from s3dest_dagster.storage import Bucket, Identity, identity

_SHOWN_KEYS = 10
_CHECK_ATTEMPTS = 2

# ---------------------------------------------------------------------- check


def check(output: Output, config_path: str) -> int:
    """Tries an identity and every request of a sync; 1 when one of them fails."""
    config = _with_few_attempts(read_config(config_path, output))
    found, steps = _check_steps(config)
    example = bucket_of(config).uri(config.destination.template.example(config.destination.format.extension))
    failed = [each for each in steps if not each.ok]
    if output.json:
        output.show_json(_check_json(found, steps, example))
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


def _check_steps(config: ConnectorConfig) -> tuple[Identity | None, list[CheckStep]]:
    name = "find an identity"
    try:
        found = identity(config.connection)
    except CredentialsError as error:
        return None, [CheckStep(name, "", False, error.message)]
    whom = f"acting as {found.arn}" if found.arn else f"whom it acts as is not known ({found.unknown})"
    step = CheckStep(name, "", True, f"{found.source}, access key id {found.access_key_id}, {whom}")
    with opened_target(config, None) as target:
        return found, [step, *landing.check(target, uuid4().hex)]


def _check_line(step: CheckStep) -> str:
    action = f" ({step.action})" if step.action else ""
    message = f": {step.message}" if step.message else ""
    return f"{'✓' if step.ok else '✗'} {step.name}{action}{message}"


def _check_json(found: Identity | None, steps: Sequence[CheckStep], example: str) -> dict[str, Any]:
    return {
        "ok": all(each.ok for each in steps),
        "identity": None if found is None else {**asdict(found), "unknown": found.unknown or None},
        "steps": [
            {"name": each.name, "action": each.action or None, "ok": each.ok, "message": each.message or None}
            for each in steps
        ],
        "example_key": example,
    }


# ---------------------------------------------------------------------- spec, discover


def spec(output: Output) -> int:
    """Prints the SPEC message, one line."""
    output.show(json.dumps({"type": "SPEC", "spec": connector_spec()}))
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
        planned = landing.plan(target, catalog.streams, new_sync(None, now), partition=partition)
        if output.json:
            output.show_json(_plan_json(planned, target.bucket))
            return 0
        for line in _plan_lines(planned, target.bucket, every_key=output.verbose):
            output.show(line)
    return 0


def _plan_json(planned: Plan, bucket: Bucket) -> dict[str, Any]:
    return {
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
                "deletes": list(each.deletes),
                "pending": each.pending,
            }
            for each in planned.streams
        ],
        "actions": list(planned.actions),
        "without_effect": list(planned.without_effect),
    }


def _plan_lines(planned: Plan, bucket: Bucket, *, every_key: bool) -> Iterator[str]:
    for each in planned.streams:
        yield f"{each.scope}: {each.sync_mode.value.replace('_', ' ')}"
        yield f"  first object  {bucket.uri(each.first_key)}"
        yield from _column_lines(each)
        yield from _deletion_lines(each, bucket, every_key=every_key)
        if each.pending is not None:
            yield f"  first of all  sync {each.pending} is finished, which was interrupted while it was published"
    yield f"IAM actions: {', '.join(planned.actions)}"
    yield from planned.without_effect


def _column_lines(planned: StreamPlan) -> Iterator[str]:
    if not planned.columns:
        yield "  columns       taken from the first records"
    for number, (name, kind, _) in enumerate(planned.columns):
        yield f"  {'columns' if number == 0 else '':14}{name}  {kind}"
    for source, name in planned.renamed.items():
        yield f"  renamed       {source!r} becomes {name}"


def _deletion_lines(planned: StreamPlan, bucket: Bucket, *, every_key: bool) -> Iterator[str]:
    keys = planned.deletes
    shown = keys if every_key else keys[:_SHOWN_KEYS]
    yield f"  would delete  {amount(len(keys), 'object') if keys else 'nothing'}"
    for key in shown:
        yield f"                {bucket.uri(key)}"
    if len(shown) < len(keys):
        yield f"                and {len(keys) - len(shown)} more; --verbose shows them"
