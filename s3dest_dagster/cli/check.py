"""`check`: whether everything that a sync needs is there, step by step.

Must not know: the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from s3dest_dagster.cli.output import Output, Screen, Table, check_mark
from s3dest_dagster.cli.selections import SelectionOptions
from s3dest_dagster.cli.streams_to_land import StreamsToLand, streams_to_land
from s3dest_dagster.errors import CredentialsError
from s3dest_dagster.inspection.check import CheckStep, check_streams, likely_misspelt
from s3dest_dagster.inspection.check import check as check_server
from s3dest_dagster.storage import Identity, identity

_IDENTITY = "find an identity"


def check(
    output: Output,
    options: SelectionOptions,
    discovered_path: str | None = None,
    *,
    again: bool = False,
    owner: str | None = None,
) -> int:
    """Tries to find an identity and to send every request of a sync, then checks the streams.

    Args:
        output: Where the result goes.
        options: The destination and the streams. A configuration without a catalog checks no stream.
        discovered_path: The discovered catalog from which the other one was made, if it is given.
        again: Whether to probe the server's abilities again, even if they are known.
        owner: On whose behalf the streams would land. None: as the settings say.

    Returns:
        0 if every step succeeds, else 1.
    """
    landing = streams_to_land(output, options, discovered_path, owner).with_few_attempts()
    acting_as, steps = check_steps(landing, again=again)
    example = landing.bucket.uri(landing.destination.template.example(landing.destination.format.extension))
    failed = [step for step in steps if not step.ok and step.tried]
    if output.json:
        output.show_json(_check_json(acting_as, steps, example))
    elif (screen := output.screen) is not None:
        _show_check(screen, steps, example)
    else:
        for step in steps:
            output.show(_check_line(step))
        output.show(f"  keys look like {example}")
    if failed:
        output.say(f"Error: The check failed at: {', '.join(step.name for step in failed)}.")
    return 1 if failed else 0


def check_steps(landing: StreamsToLand, *, again: bool) -> tuple[Identity | None, list[CheckStep]]:
    """The identity, and the steps of a check of a destination and of streams. No identity if none can be found.

    Args:
        landing: The destination and the streams.
        again: Whether to probe the server's abilities again, even if they are known.
    """
    try:
        acting_as = identity(landing.connection) if landing.connection is not None else None
    except CredentialsError as error:
        return None, [CheckStep(_IDENTITY, "", False, error.message)]
    with landing.opened_target(None) as target:
        steps = [_identity_step(acting_as), *check_server(target, uuid4().hex, again=again)]
        steps += [CheckStep("find the streams that have settings", "", False, each) for each in landing.unknown]
        if all(step.ok for step in steps):
            if landing.streams:
                steps += check_streams(target, landing.streams)
            elif landing.named:
                steps += likely_misspelt(target, landing.named)
        return acting_as, steps


def _identity_step(acting_as: Identity | None) -> CheckStep:
    if acting_as is None:
        return CheckStep(_IDENTITY, "", True, "the IO manager's s3 makes its own client")
    whom = f"acting as {acting_as.arn}" if acting_as.arn else f"acting as an unknown identity ({acting_as.unknown})"
    return CheckStep(_IDENTITY, "", True, f"{acting_as.source}, access key id {acting_as.access_key_id}, {whom}")


def _check_line(step: CheckStep) -> str:
    action = f" ({step.action})" if step.action else ""
    message = f": {step.message}" if step.message else ""
    return f"{_step_mark(step)} {step.name}{action}{message}"


def _step_mark(step: CheckStep) -> str:
    if not step.tried:
        return "?"
    if not step.has:
        return "-"
    return check_mark(step.ok)


def _show_check(screen: Screen, steps: Sequence[CheckStep], example: str) -> None:
    """Shows a table of the steps. Messages follow below it, unfolded, so that statements in them can be copied."""
    rows = [(_step_mark(step), step.name, step.action) for step in steps]
    screen.table(Table(("", "step", "IAM action"), rows))
    for step in steps:
        if step.message:
            screen.sentence(_check_line(step))
    screen.fact("keys look like", example)


def _check_json(acting_as: Identity | None, steps: Sequence[CheckStep], example: str) -> dict[str, Any]:
    return {
        "ok": all(step.ok for step in steps),
        "identity": None if acting_as is None else {**asdict(acting_as), "unknown": acting_as.unknown or None},
        "steps": [
            {
                "name": step.name,
                "action": step.action or None,
                "ok": step.ok,
                "tried": step.tried,
                "has": step.has,
                "message": step.message or None,
            }
            for step in steps
        ],
        "example_key": example,
    }
