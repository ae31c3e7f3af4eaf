"""What a source goes on from, of the states that its streams have reached one by one.

It knows the protocol's three kinds of states; it must not know where they are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.protocol import StateMessage, StreamState
from s3dest_dagster.stream import StreamId


@dataclass(frozen=True, slots=True)
class Reached:
    """The state that a stream's records reach, as the source gave it, and when the sync began that reached it."""

    state: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Resumption:
    """The states for the source's next read, and the streams that were further already: some of their records may
    come again."""

    states: tuple[bytes, ...]
    again: tuple[StreamId, ...] = ()


def resumption(reached: Mapping[StreamId, Reached | None]) -> Resumption:
    """The states from which no stream misses a record.

    States of single streams are given back as they are. Of a state of all streams (GLOBAL or LEGACY), which the streams
    may have reached at different syncs, it is the oldest. A stream without a state begins anew: what a state of all
    streams says of it is left out.
    """
    found = {stream: each for stream, each in reached.items() if each is not None}
    kinds = {stream: _kind(each.state) for stream, each in found.items()}
    shared = next((kind for kind in ("GLOBAL", "LEGACY") if kind in kinds.values()), None)
    if shared is None:
        return Resumption(tuple(each.state.encode() for each in found.values()))
    sharing = {stream: found[stream] for stream, kind in kinds.items() if kind == shared}
    oldest = min(sharing.values(), key=lambda each: each.at)
    state = _without(oldest.state, shared, reached.keys() - sharing.keys())
    return Resumption((state,), tuple(stream for stream, each in sharing.items() if each.state != oldest.state))


@dataclass(frozen=True, slots=True)
class GivenState:
    """A state that somebody wrote down: its text without blanks, and its stream; None for one of all streams."""

    stream: StreamId | None
    text: str


def read_states(text: bytes) -> list[GivenState]:
    """The states of a text: one, a list of them, or a line for each; each as a state or within its STATE message.

    Of several of one stream the last counts. Numbers stay as they are written. Raises SettingsError for what is none.
    """
    found = {each.stream: each for each in map(_given, _elements(text))}
    if not found:
        raise SettingsError("There is no state in it.", setting="state")
    return list(found.values())


def _elements(text: bytes) -> list[msgspec.Raw]:
    """The elements of a list, the lines of lines, or the one value."""
    try:
        whole = msgspec.json.decode(text, type=msgspec.Raw)
        return msgspec.json.decode(text, type=list[msgspec.Raw]) if bytes(whole).startswith(b"[") else [whole]
    except msgspec.DecodeError as error:
        reason = error
    lines = [line for line in map(bytes.strip, text.splitlines()) if line]
    try:
        found = [msgspec.json.decode(line, type=msgspec.Raw) for line in lines]
    except msgspec.DecodeError:
        found = []
    if len(found) < 2:
        raise SettingsError(
            f"The state is no JSON: {reason}. Give what `s3dest state show` prints, or STATE messages.", setting="state"
        ) from None
    return found


def _given(raw: msgspec.Raw) -> GivenState:
    members = _members(raw)
    inner = members.get("state", raw) if bytes(members.get("type", b"")) == b'"STATE"' else raw
    try:
        state = msgspec.json.decode(inner, type=StateMessage)
    except msgspec.DecodeError as error:
        raise _no_state(str(error)) from None
    stream = state.stream.stream_descriptor.id if state.stream is not None and state.type == "STREAM" else None
    if state.type not in ("STREAM", "GLOBAL", "LEGACY") or (stream is None and state.type == "STREAM"):
        raise _no_state(f"it is of the type {state.type!r} and names no stream")
    if state.type == "LEGACY" and not state.data:
        raise _no_state("it has neither a type nor data")
    return GivenState(stream, msgspec.json.format(bytes(inner), indent=-1).decode())


def _no_state(reason: str) -> SettingsError:
    return SettingsError(
        f"Something in the file is no Airbyte state: {reason}. Give what `s3dest state show` prints, or STATE "
        "messages.",
        setting="state",
    )


def _kind(state: str) -> str:
    try:
        return msgspec.json.decode(state, type=StateMessage).type
    except msgspec.DecodeError as error:
        raise SettingsError(f"A kept state is no Airbyte state: {error}.", setting="state") from None


def _without(state: str, kind: str, streams: Collection[StreamId]) -> bytes:
    """A state of all streams without what it says of these; every other text in it stays as it was."""
    members = _members(msgspec.Raw(state.encode()))
    if kind == "LEGACY":
        names = {stream.name for stream in streams}
        by_name = _members(members["data"]) if "data" in members else {}
        if not names & by_name.keys():
            return state.encode()
        members["data"] = _raw({name: value for name, value in by_name.items() if name not in names})
    else:
        shared = _members(members["global"])
        entries = msgspec.json.decode(shared.get("stream_states", b"[]"), type=list[msgspec.Raw])
        shared["stream_states"] = _raw([each for each in entries if _stream_of(each) not in streams])
        members["global"] = _raw(shared)
    return msgspec.json.encode(members)


def _stream_of(entry: msgspec.Raw) -> StreamId:
    return msgspec.json.decode(entry, type=StreamState).stream_descriptor.id


def _members(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of an object; none where it is something else."""
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return {}


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
