"""`s3dest state`: the states that sources go on from, shown, set and forgotten. Only whole streams have one.

It must not know how the command is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec

from s3dest_dagster.cli.output import Output
from s3dest_dagster.cli.session import Session
from s3dest_dagster.cli.targets import Place, Where, places
from s3dest_dagster.commit.states import change_state, reached_state
from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.sources.airbyte.states import GivenState, read_states
from s3dest_dagster.stream import Scope, StreamId, Sync

_ATTEMPT_BYTES = 4
_STDIN = "-"


def show(output: Output, where: Where) -> int:
    """Prints the states of the streams as one JSON list; one of all streams once, though each of them keeps it."""
    found = [
        reached_state(place.bucket, place.destination.template, scope)
        for place in places(output, where)
        for scope in _whole_streams(place)
    ]
    texts = dict.fromkeys(_compact(state.text) for state in found if state is not None)
    output.show_document(_formatted(f"[{','.join(texts)}]"))
    return 0


def set_(session: Session, where: Where, state_path: str, names: Sequence[str], now: datetime | None) -> int:
    """Sets the states of a file; what they were before is told."""
    given = _read(state_path)
    found = places(session.output, where)
    asked = list(_named(found, names)) if names else None
    changes = [change for state in given for change in _changes(state, found, asked, where)]
    return _changed(session, changes, "set", now)


def reset(session: Session, where: Where, names: Sequence[str], everything: bool, now: datetime | None) -> int:
    """Forgets the states of the streams that are named, or of all; what they were before is told."""
    narrowed = bool(names or where.catalog_path or where.selection)
    if everything == narrowed:
        raise SettingsError(
            "--all forgets every state: leave out what names streams, or --all."
            if everything
            else "Say whose states are to be forgotten: --stream, --catalog (or --select), or --all."
        )
    found = places(session.output, where)
    streams = _named(found, names) if names else ((place, scope) for place in found for scope in _whole_streams(place))
    return _changed(session, [_Change(place, scope, None) for place, scope in streams], "reset", now)


# ---------------------------------------------------------------------- whose state


@dataclass(frozen=True, slots=True)
class _Change:
    """What is to be the state of a scope; None for none."""

    place: Place
    scope: Scope
    state: str | None


def _whole_streams(place: Place) -> Iterator[Scope]:
    """The scopes that have landed and keep a state."""
    return (scope for scope in place.scopes() if scope.partition is None)


def _named(found: Iterable[Place], names: Sequence[str]) -> Iterator[tuple[Place, Scope]]:
    """The streams of these names, as the source calls them, with the namespace where one has it."""
    landed = [(place, scope) for place in found for scope in _whole_streams(place)]
    known = {str(_at_source(place, scope.stream)): (place, scope) for place, scope in landed}
    for name in names:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise SettingsError(f"No stream {name!r} has landed here as a whole. There is: {there}.", setting="stream")
        yield known[name]


def _at_source(place: Place, stream: StreamId) -> StreamId:
    """The stream under the name that its source knows."""
    return StreamId(stream.namespace, stream.name.removeprefix(place.destination.stream_prefix))


def _changes(
    state: GivenState, found: Sequence[Place], asked: Sequence[tuple[Place, Scope]] | None, where: Where
) -> Iterator[_Change]:
    """The scopes whose state this is: of its own stream, or of all that were asked for."""
    if state.stream is not None:
        yield _Change(*_home(state.stream, found, asked), state.text)
        return
    streams = (
        [(place, Scope(stream)) for place in found for stream in sorted(place.streams or (), key=str)]
        if asked is None
        else asked
    )
    if not streams:
        raise SettingsError(
            "A state of all streams (GLOBAL, LEGACY) names none of them: say by --catalog (or --select), or --stream, "
            "for which it counts.",
            setting="state",
        )
    for place, scope in streams:
        yield _Change(place, scope, state.text)


def _home(stream: StreamId, found: Sequence[Place], asked: Sequence[tuple[Place, Scope]] | None) -> tuple[Place, Scope]:
    """Where the stream lands. SettingsError for one that was not asked for."""
    for place in found:
        scope = Scope(stream).prefixed(place.destination.stream_prefix)
        if (place, scope) in asked if asked is not None else place.streams is None or scope.stream in place.streams:
            return place, scope
    raise SettingsError(
        f"There is a state of the stream {stream} in it, which is not among those that were asked for.",
        stream=str(stream),
        setting="state",
    )


def _read(path: str) -> list[GivenState]:
    try:
        text = sys.stdin.buffer.read() if path == _STDIN else Path(path).read_bytes()
        return read_states(text)
    except OSError as error:
        raise SettingsError(f"The state {path} cannot be read: {error.strerror}.", setting="state") from None
    except SettingsError as error:
        error.add_note(f"(In {'standard input' if path == _STDIN else path}.)")
        raise


# ---------------------------------------------------------------------- what is done and told


class _Told(msgspec.Struct):
    """A changed, or unchanged, state, for programs."""

    stream: str
    namespace: str | None
    changed: bool
    before: msgspec.Raw
    state: msgspec.Raw


def _changed(session: Session, changes: Sequence[_Change], verb: str, now: datetime | None) -> int:
    """Commits one after the other; a signal waits until the one at hand is done."""
    told: list[_Told] = []
    for change in changes:
        try:
            with session.interruption.deferred():
                before = _commit(change, verb, now)
        except S3DestError as error:
            done = [str(_stream_of(each)) for each in told if each.changed]
            error.add_note(f"Changed were before: {', '.join(done)}." if done else "No state was changed.")
            raise
        told.append(_telling(change, before))
        if not session.output.json:
            session.output.show(_sentence(change, before))
    if session.output.json:
        session.output.show_document(_formatted(msgspec.json.encode(told).decode()))
    return 0


def _commit(change: _Change, verb: str, now: datetime | None) -> str | None:
    """The state before, without blanks, as the one that was given."""
    attempt = os.urandom(_ATTEMPT_BYTES).hex()
    moment = now or datetime.now(UTC)
    before = change_state(
        change.place.bucket,
        change.place.destination,
        change.scope,
        change.state,
        Sync(f"state-{verb}-{attempt}", moment, str(uuid4())),
        attempt=attempt,
        clock=(lambda: now) if now is not None else None,
    )
    return _compact(before.text) if before is not None else None


def _sentence(change: _Change, before: str | None) -> str:
    if before == change.state:
        unchanged = "there is no state to forget" if before is None else "this is its state already"
        return f"{change.scope}: {unchanged}"
    done = "state forgotten" if change.state is None else "state set"
    return f"{change.scope}: {done}; before: {before or 'none'}"


def _telling(change: _Change, before: str | None) -> _Told:
    stream = change.scope.stream
    return _Told(stream.name, stream.namespace, before != change.state, _raw(before), _raw(change.state))


def _stream_of(told: _Told) -> StreamId:
    return StreamId(told.namespace, told.stream)


def _raw(state: str | None) -> msgspec.Raw:
    return msgspec.Raw(b"null" if state is None else state.encode())


def _compact(json_text: str) -> str:
    return msgspec.json.format(json_text, indent=-1)


def _formatted(json_text: str) -> str:
    """The JSON for people, every number as it was written."""
    return msgspec.json.format(json_text, indent=2)
