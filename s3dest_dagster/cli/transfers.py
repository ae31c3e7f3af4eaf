"""`s3dest transfer`: gives a stream to a new owner, or what it holds to a new name.

Must not know: the command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from s3dest_dagster.cli.leftovers import content_json, content_text, stream_json
from s3dest_dagster.cli.output import Output, Session
from s3dest_dagster.cli.selections import SelectionOptions, named_stream, selections, stream_called
from s3dest_dagster.commit.publication import Clock
from s3dest_dagster.commit.registry_updates import transfer
from s3dest_dagster.commit.retirement import ScopeContent
from s3dest_dagster.commit.stream_transfer import NewName, move_stream, what_would_move
from s3dest_dagster.errors import SettingsError


def transfer_owner(output: Output, options: SelectionOptions, name: str, owner: str | None) -> int:
    """Gives a stream to a new owner."""
    if not owner:
        raise SettingsError(
            "Nothing says where the stream goes. Name the new owner by --to, such as an asset's key, or the new name "
            "by --to-stream.",
            setting="owner",
        )
    selection, stream = named_stream(selections(output, options), name)
    registry = transfer(selection.bucket, selection.destination, stream, owner)
    before = registry.owner if registry is not None else None
    if output.json:
        output.show_json({**stream_json(stream), "changed": before != owner, "before": before, "owner": owner})
    elif before == owner:
        output.show(f"{stream}: it belongs to {owner} already")
    else:
        output.show(f"{stream}: belongs to {owner}; before: {before or 'nobody'}")
    return 0


@dataclass(frozen=True, slots=True)
class RenameRequest:
    """What is to get a new name."""

    stream: str
    """The stream's name, as public.users."""
    target: str
    """Its new name."""
    owner: str | None
    """Who lands the new name; None: the owner of the old one."""
    yes: bool
    """Whether to do it. Otherwise it is only shown."""


def transfer_content(session: Session, options: SelectionOptions, request: RenameRequest, now: datetime | None) -> int:
    """Gives everything that a stream holds to another name. Without `yes`, shows it and changes nothing."""
    if request.owner == "":
        raise SettingsError("--to is empty. Name the new owner, such as an asset's key.", setting="owner")
    selection, stream = named_stream(selections(session.output, options), request.stream)
    target = stream_called(request.target, stream, selection.destination.stream_prefix)
    name = NewName(stream, target, request.owner)
    if not request.yes:
        contents = what_would_move(selection.bucket, selection.destination, name)
    else:
        clock: Clock | None = (lambda: now) if now is not None else None
        with session.interruption.deferred():
            contents = move_stream(
                selection.bucket, selection.destination, name, now or datetime.now(UTC), os.urandom, clock
            )
    _show(session.output, name, contents, done=request.yes)
    return 0


def _show(output: Output, name: NewName, contents: Sequence[ScopeContent], *, done: bool) -> None:
    if output.json:
        to = {"to_stream": name.target.name, "to_namespace": name.target.namespace}
        output.show_json([{**content_json(each), **to, "done": done} for each in contents])
    else:
        for each in contents:
            output.show(f"{content_text(each)} {'given' if done else 'would be given'} to {name.target}")
        if not contents:
            output.show(f"{name.source}: nothing to give to {name.target}")
    if contents and not done:
        output.say("Nothing was changed. Add --yes to do it.")
    elif any(each.has_state for each in contents):
        output.say(
            f"The state is as its source wrote it. If the source itself calls the stream {name.target.name} now, edit "
            "what `s3dest state show` prints, and give it to `s3dest state set`."
        )
