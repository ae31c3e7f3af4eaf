"""`s3dest retire`: takes away what a stream, or one of its partitions, holds.

Must not know: the command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from s3dest_dagster.cli.output import Output, Session
from s3dest_dagster.cli.selections import Selection, SelectionOptions, named_stream, selections
from s3dest_dagster.commit.documents import StreamLocation, commit_without_source
from s3dest_dagster.commit.publication import Clock
from s3dest_dagster.commit.retirement import ScopeContent, content_of, restore, retired_scope
from s3dest_dagster.commit.retirement import retire as retire_scope
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.printable import amount, size
from s3dest_dagster.stream import Scope, StreamId


@dataclass(frozen=True, slots=True)
class RetireRequest:
    """What is to be retired, or brought back."""

    stream: str
    """The stream's name, as public.users."""
    partition: str | None
    """The only partition; empty for what has no partition. None for everything."""
    undo: bool
    """Whether to bring back what was retired."""
    yes: bool
    """Whether to do it. Otherwise it is only shown."""

    def covers(self, scope: Scope) -> bool:
        """Whether a scope of the stream is meant."""
        return self.partition is None or (scope.partition or "") == self.partition


@dataclass(frozen=True, slots=True)
class _Step:
    """What is done, or would be done, with one scope."""

    content: ScopeContent
    until: datetime | None
    """When its objects may be deleted; None if that is not known yet."""


def retire(session: Session, options: SelectionOptions, request: RetireRequest, now: datetime | None) -> int:
    """Retires the scopes of a stream, or brings them back. Without `yes`, shows them and changes nothing."""
    selection, stream = named_stream(selections(session.output, options), request.stream)
    found = [
        each for each in scopes(selection.bucket, selection.destination.template, {stream}) if request.covers(each)
    ]
    steps = list(_steps(selection, found, undo=request.undo))
    if request.partition is not None and not found:
        raise SettingsError(f"{stream} has no partition {request.partition!r}.", stream=str(stream), setting="scope")
    done: list[_Step] = []
    for step in steps:
        try:
            if request.yes:
                with session.interruption.deferred():
                    step = _Step(_carry_out(selection, step.content.scope, now, undo=request.undo), step.until)
        except S3DestError as error:
            error.add_note(f"Done before: {', '.join(str(each.content.scope) for each in done) or 'nothing'}.")
            raise
        done.append(step)
        if not session.output.json:
            session.output.show(_line(step, request))
    _sum_up(session.output, stream, done, request)
    return 0


def _steps(selection: Selection, found: Sequence[Scope], *, undo: bool) -> Iterator[_Step]:
    """The scopes that there is anything to do with, as they are now."""
    for scope in found:
        if undo:
            kept = retired_scope(selection.bucket, selection.destination, scope)
            if kept is not None:
                yield _Step(kept.content, kept.until)
        elif not (content := content_of(selection.bucket, selection.destination, scope)).is_empty:
            yield _Step(content, None)


def _carry_out(selection: Selection, scope: Scope, now: datetime | None, *, undo: bool) -> ScopeContent:
    clock: Clock | None = (lambda: now) if now is not None else None
    if undo:
        content = restore(selection.bucket, selection.destination, scope, clock=clock)
        return content or ScopeContent(scope=scope, objects=0, rows=0, bytes=0, has_state=False)
    sync, attempt = commit_without_source("retire", now or datetime.now(UTC), os.urandom)
    return retire_scope(selection.bucket, selection.destination, scope, sync, attempt=attempt, clock=clock)


# ---------------------------------------------------------------------- lines and JSON


def _line(step: _Step, request: RetireRequest) -> str:
    content = step.content
    verb = {
        (False, False): "would be retired",
        (False, True): "retired",
        (True, False): "would be brought back",
        (True, True): "brought back",
    }[request.undo, request.yes]
    kept = f"; kept until {step.until.isoformat(timespec='seconds')}" if step.until and not request.yes else ""
    return f"{content_text(content)} {verb}{kept}"


def _sum_up(output: Output, stream: StreamId, steps: Sequence[_Step], request: RetireRequest) -> None:
    if output.json:
        output.show_json([_step_json(step, request) for step in steps])
    elif not steps:
        output.show(f"{stream}: nothing to {'bring back' if request.undo else 'retire'}")
    if steps and not request.yes:
        output.say("Nothing was changed. Add --yes to do it.")


def _step_json(step: _Step, request: RetireRequest) -> dict[str, Any]:
    return {
        **content_json(step.content),
        "kept_until": step.until.isoformat() if step.until is not None else None,
        "done": request.yes,
    }


def content_text(content: ScopeContent) -> str:
    """The content in one line, without what becomes of it."""
    parts = [amount(content.objects, "object"), amount(content.rows, "row")]
    parts += [f"{content.uncounted:,} not counted"] if content.uncounted else []
    parts += [size(content.bytes)]
    parts += ["its state"] if content.has_state else []
    return f"{content.scope}: {', '.join(parts)}"


def content_json(content: ScopeContent) -> dict[str, Any]:
    """The content as JSON."""
    return {
        **stream_json(content.scope.stream),
        "partition": content.scope.partition,
        "objects": content.objects,
        "rows": content.rows,
        "not_counted": content.uncounted,
        "bytes": content.bytes,
        "state": content.has_state,
    }


def stream_json(stream: StreamId) -> dict[str, Any]:
    """The stream's names as JSON."""
    return {"stream": stream.name, "namespace": stream.namespace}


def location_json(location: StreamLocation) -> dict[str, Any]:
    """The stream's names and its bucket path as JSON."""
    return {**stream_json(location.stream_id), "bucket_path": location.bucket_path}
