"""`s3dest state`: shows, sets and forgets the states that sources resume from. Only unpartitioned streams have one.

Must not know: the command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from s3dest_dagster.batch import compact_json
from s3dest_dagster.cli.output import Output, Session
from s3dest_dagster.cli.selections import Selection, SelectionOptions, selections
from s3dest_dagster.commit.documents import commit_without_source
from s3dest_dagster.commit.states import change_state, reached_state
from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.sources.airbyte.states import GivenState, read_states
from s3dest_dagster.stream import Scope, StreamId

_STDIN = "-"


def show(output: Output, options: SelectionOptions) -> int:
    """Prints the states of the streams as one JSON list. A state of all streams appears once, though each has it."""
    reached = [
        reached_state(selection.bucket, selection.destination.template, scope)
        for selection in selections(output, options)
        for scope in _unpartitioned(selection)
    ]
    texts = dict.fromkeys(compact_json(state.text) for state in reached if state is not None)
    output.show_document(_formatted(f"[{','.join(texts)}]"))
    return 0


def set_(
    session: Session, options: SelectionOptions, state_path: str, names: Sequence[str], now: datetime | None
) -> int:
    """Sets the states of a file, and prints those that they replace."""
    given = _read(state_path)
    selected = selections(session.output, options)
    asked = list(_named(selected, names)) if names else None
    changes = [change for state in given for change in _changes(state, selected, asked)]
    return _apply(session, changes, "set", now)


def reset(
    session: Session, options: SelectionOptions, names: Sequence[str], everything: bool, now: datetime | None
) -> int:
    """Forgets the states of the named streams, or of all, and prints them."""
    narrowed = bool(names or options.catalog_path or options.assets)
    if everything == narrowed:
        raise SettingsError(
            "--all forgets every state. Leave out either --all or the options that name streams."
            if everything
            else "Name the streams whose states are to be forgotten: --stream, --catalog (or --select), or --all."
        )
    selected = selections(session.output, options)
    streams = (
        _named(selected, names)
        if names
        else ((selection, scope) for selection in selected for scope in _unpartitioned(selection))
    )
    return _apply(session, [_Change(selection, scope, None) for selection, scope in streams], "reset", now)


# ---------------------------------------------------------------------- whose state


@dataclass(frozen=True, slots=True)
class _Change:
    """The state that a scope is to have; None for none."""

    selection: Selection
    scope: Scope
    state: str | None


def _unpartitioned(selection: Selection) -> Iterator[Scope]:
    """The scopes that have landed and can have a state."""
    return (scope for scope in selection.scopes() if scope.partition is None)


def _named(selected: Iterable[Selection], names: Sequence[str]) -> Iterator[tuple[Selection, Scope]]:
    """The streams of these names, as the source calls them, with their namespace if they have one."""
    landed = [(selection, scope) for selection in selected for scope in _unpartitioned(selection)]
    known = {str(_source_name(selection, scope.stream)): (selection, scope) for selection, scope in landed}
    for name in names:
        if name not in known:
            others = ", ".join(sorted(known)) or "none"
            raise SettingsError(
                f"No unpartitioned stream {name!r} has landed here. Those that have: {others}.", setting="stream"
            )
        yield known[name]


def _source_name(selection: Selection, stream: StreamId) -> StreamId:
    """The stream under the name that its source gives it."""
    return StreamId(stream.namespace, stream.name.removeprefix(selection.destination.stream_prefix))


def _changes(
    state: GivenState, selected: Sequence[Selection], asked: Sequence[tuple[Selection, Scope]] | None
) -> Iterator[_Change]:
    """The scopes that get this state: its own stream, or all streams that were asked for if it names none."""
    if state.stream is not None:
        yield _Change(*_scope_of(state.stream, selected, asked), state.text)
        return
    streams = (
        [(selection, Scope(stream)) for selection in selected for stream in sorted(selection.streams or (), key=str)]
        if asked is None
        else asked
    )
    if not streams:
        raise SettingsError(
            "A state of all streams (GLOBAL, LEGACY) names no stream. Select the streams that get it: "
            "--catalog (or --select), or --stream.",
            setting="state",
        )
    for selection, scope in streams:
        yield _Change(selection, scope, state.text)


def _scope_of(
    stream: StreamId, selected: Sequence[Selection], asked: Sequence[tuple[Selection, Scope]] | None
) -> tuple[Selection, Scope]:
    """Where the stream lands. Raises SettingsError for a stream that was not asked for."""
    for selection in selected:
        scope = Scope(stream).prefixed(selection.destination.stream_prefix)
        if _is_asked(selection, scope, asked):
            return selection, scope
    raise SettingsError(
        f"The file holds a state of the stream {stream}, which was not asked for.",
        stream=str(stream),
        setting="state",
    )


def _is_asked(selection: Selection, scope: Scope, asked: Sequence[tuple[Selection, Scope]] | None) -> bool:
    if asked is not None:
        return (selection, scope) in asked
    return selection.streams is None or scope.stream in selection.streams


def _read(path: str) -> list[GivenState]:
    try:
        text = sys.stdin.buffer.read() if path == _STDIN else Path(path).read_bytes()
        return read_states(text)
    except OSError as error:
        raise SettingsError(f"The state {path} cannot be read: {error.strerror}.", setting="state") from None
    except SettingsError as error:
        error.add_note(f"(In {'standard input' if path == _STDIN else path}.)")
        raise


# ---------------------------------------------------------------------- applying changes


class _AppliedChange(msgspec.Struct):
    """What became of a state, for programs. The order of the fields is that of the JSON."""

    stream: str
    namespace: str | None
    changed: bool
    before: msgspec.Raw
    state: msgspec.Raw


def _apply(session: Session, changes: Sequence[_Change], verb: str, now: datetime | None) -> int:
    """Commits one change after the other. A signal waits until the current one is done."""
    applied: list[_AppliedChange] = []
    for change in changes:
        try:
            with session.interruption.deferred():
                before = _commit(change, verb, now)
        except S3DestError as error:
            done = [str(StreamId(earlier.namespace, earlier.stream)) for earlier in applied if earlier.changed]
            error.add_note(f"Already changed: {', '.join(done)}." if done else "No state was changed.")
            raise
        applied.append(_as_applied(change, before))
        if not session.output.json:
            session.output.show(_sentence(change, before))
    if session.output.json:
        session.output.show_document(_formatted(msgspec.json.encode(applied).decode()))
    return 0


def _commit(change: _Change, verb: str, now: datetime | None) -> str | None:
    """Commits a change and returns the state before it, in the spelling of given states."""
    sync, attempt = commit_without_source(f"state-{verb}", now or datetime.now(UTC), os.urandom)
    before = change_state(
        change.selection.bucket,
        change.selection.destination,
        change.scope,
        change.state,
        sync,
        attempt=attempt,
        clock=(lambda: now) if now is not None else None,
    )
    return compact_json(before.text) if before is not None else None


def _sentence(change: _Change, before: str | None) -> str:
    if before == change.state:
        unchanged = "it has no state to forget" if before is None else "it has this state already"
        return f"{change.scope}: {unchanged}"
    done = "state forgotten" if change.state is None else "state set"
    return f"{change.scope}: {done}; before: {before or 'none'}"


def _as_applied(change: _Change, before: str | None) -> _AppliedChange:
    stream = change.scope.stream
    return _AppliedChange(stream.name, stream.namespace, before != change.state, _raw(before), _raw(change.state))


def _raw(state: str | None) -> msgspec.Raw:
    return msgspec.Raw(b"null" if state is None else state.encode())


def _formatted(json_text: str) -> str:
    """The JSON in indented lines; every number keeps its spelling."""
    return msgspec.json.format(json_text, indent=2)
