"""What a source goes on from, of the states that its streams have reached one by one.

It knows the protocol's three kinds of states; it must not know where they are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import msgspec

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.lineage import KnownState, Lineage, common_ancestors, up_to
from s3dest_dagster.sources.airbyte.protocol import STATE, STREAM_STATE, is_utf8, read_state
from s3dest_dagster.stream import StreamId


@dataclass(frozen=True, slots=True)
class Reached:
    """The state that a stream's records reach, as the source gave it, and where one of all streams stands, itself last
    (see `lineage`)."""

    state: str
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Resumption:
    """The states for the source's next read, and what a state of all streams that it reaches descends from: `lineage`,
    empty at the beginning. `warning` says whose records come again and why, where any do."""

    states: tuple[bytes, ...]
    lineage: Lineage = ()
    warning: str | None = None


TextOf = Callable[[KnownState], str | None]
"""Gives the text of a state that a lineage names, or None where it is kept no more."""


_NOTHING = msgspec.Raw(b"null")


def resumption(
    reached: Mapping[StreamId, Reached | None],
    text_of: TextOf,
    *,
    in_full: Collection[StreamId] = (),
    are_all: bool = False,
) -> Resumption:
    """The states from which no stream misses a record.

    States of single streams are given back as they are. Of states of all streams (GLOBAL or LEGACY), which the streams
    may have reached by different reads, it is the youngest that all of them are or descend from. A stream without a
    state begins anew: what a state of all streams says of it is left out. Where that tells no stream from another, or
    no common state is known, all begin anew. `in_full` are streams that are read in full whatever the state says.
    `are_all`: no other stream of the source is ever read with these.
    """
    found = {stream: each for stream, each in reached.items() if each is not None}
    kinds = {stream: _kind(each.state) for stream, each in found.items()}
    shared = next((kind for kind in ("GLOBAL", "LEGACY") if kind in kinds.values()), None)
    if shared is None:
        return Resumption(tuple(each.state.encode() for each in found.values()))
    sharing = {stream: found[stream] for stream, kind in kinds.items() if kind == shared}
    begin = _beginning(sharing, text_of)
    if begin is None:
        return Resumption((), warning=_no_common_state(sharing))
    anew = reached.keys() - begin.streams
    others = anew - set(in_full)
    if others and not _tells_streams_apart(begin.text, shared, begin.streams):
        return Resumption((), warning=_not_told_apart(others, sharing))
    level = are_all and not others and all(_is_at(begin, each) for each in sharing.values())
    lineage = begin.lineage[-1:] if level else begin.lineage
    state = _without(begin.text, shared, anew)
    return Resumption((state,), lineage, _warning(begin, sharing))


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The state of all streams that a read begins with: its text, where it stands, the streams that descend from it."""

    text: str
    lineage: Lineage
    streams: frozenset[StreamId]


def _beginning(sharing: Mapping[StreamId, Reached], text_of: TextOf) -> _Beginning | None:
    """The common state of all of them; where there is none, that of the streams whose state was set by hand."""
    by_hand = {each.lineage[0].id for each in sharing.values() if each.lineage[0].number == 0}
    those_by_hand = {name: each for name, each in sharing.items() if each.lineage[0].id in by_hand}
    for group in (sharing, those_by_hand) if len(by_hand) == 1 else (sharing,):
        texts = {each.lineage[-1].id: each.state for each in group.values()}
        lineages = [each.lineage for each in group.values()]
        for known in common_ancestors(lineages):
            text = texts.get(known.id) or text_of(known)
            if text is not None:
                return _Beginning(text, up_to(known, lineages), frozenset(group))
    return None


def _is_at(begin: _Beginning, each: Reached) -> bool:
    return each.lineage[-1].id == begin.lineage[-1].id


def _warning(begin: _Beginning, sharing: Mapping[StreamId, Reached]) -> str | None:
    anew = sharing.keys() - begin.streams
    if anew:
        return (
            f"The state of {_names(begin.streams)} was set by hand, and that of {_names(anew)} is another that does "
            f"not descend from it: the source goes on from the one that was set, and begins anew for {_names(anew)}. "
            "Set a state of all streams for all of them (`s3dest state set --catalog`)."
        )
    again = {stream for stream, each in sharing.items() if not _is_at(begin, each)}
    if not again:
        return None
    return (
        "The streams have reached different states of their common source, which goes on from the last one that all of "
        f"them have passed: some records of {_names(again)} may come again."
    )


def _no_common_state(sharing: Collection[StreamId]) -> str:
    return (
        f"The streams {_names(sharing)} have reached different states of their common source, and none is known that "
        "all of them have passed: the source begins anew, and their records come again. To have it go on elsewhere, "
        "stop the run and set one state for all of them (`s3dest state set --catalog`)."
    )


def _not_told_apart(others: Collection[StreamId], sharing: Collection[StreamId]) -> str:
    again = sorted(set(sharing) - set(others))
    return (
        f"The source begins anew, since its state is one of all streams that says nothing of each, and "
        f"{_names(others)} has not reached it: the records of {_names(again)} come again."
    )


def _names(streams: Collection[StreamId]) -> str:
    return ", ".join(sorted(map(str, streams)))


@dataclass(frozen=True, slots=True)
class GivenState:
    """A state that somebody wrote down: its text without blanks, and its stream; None for one of all streams."""

    stream: StreamId | None
    text: str


def read_states(text: bytes) -> list[GivenState]:
    """The states of a text: one, a list of them, or a line for each; each as a state or within its STATE message.

    Of several of one stream the last counts. Numbers stay as they are written. Raises SettingsError for what is none.
    """
    if not is_utf8(text):
        raise SettingsError("The state is no text in UTF-8.", setting="state")
    found = {each.stream: each for each in map(_given, _elements(text))}
    if not found:
        raise SettingsError("There is no state in it.", setting="state")
    return list(found.values())


def _elements(text: bytes) -> list[msgspec.Raw]:
    """The elements of a list, the lines of lines, or the one value."""
    try:
        whole = msgspec.json.decode(text, type=msgspec.Raw)
        return msgspec.json.decode(text, type=list[msgspec.Raw]) if bytes(whole).startswith(b"[") else [whole]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = error
    lines = [line for line in map(bytes.strip, text.splitlines()) if line]
    try:
        found = [msgspec.json.decode(line, type=msgspec.Raw) for line in lines]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
        state = read_state(inner)
    except ValueError as error:
        raise _no_state(str(error)) from None
    return GivenState(state.covers, msgspec.json.format(bytes(inner), indent=-1).decode())


def _no_state(reason: str) -> SettingsError:
    return SettingsError(
        f"Something in the file is no Airbyte state: {reason}. Give what `s3dest state show` prints, or STATE "
        "messages.",
        setting="state",
    )


def _kind(state: str) -> str:
    try:
        return STATE.decode(state).type
    except msgspec.DecodeError as error:
        raise SettingsError(f"A kept state is no Airbyte state: {error}.", setting="state") from None


def _tells_streams_apart(state: str, kind: str, streams: Collection[StreamId]) -> bool:
    """Whether the source would notice that a stream is left out of its state: some entry of it says more than `{}`."""
    members = _members(msgspec.Raw(state.encode()))
    if kind == "LEGACY":
        return any(stream.name in _members(members.get("data", _NOTHING)) for stream in streams)
    return any(bytes(_members(each).get("stream_state", _NOTHING)) != b"{}" for each in _entries(members))


def _entries(members: Mapping[str, msgspec.Raw]) -> list[msgspec.Raw]:
    """What a GLOBAL state says of each stream."""
    shared = _members(members.get("global", _NOTHING))
    try:
        return msgspec.json.decode(shared.get("stream_states", b"[]"), type=list[msgspec.Raw])
    except msgspec.ValidationError:
        return []


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
        shared = _members(members.get("global", _NOTHING))
        entries = _entries(members)
        if not any(_stream_of(each) in streams for each in entries):
            return state.encode()
        shared["stream_states"] = _raw([each for each in entries if _stream_of(each) not in streams])
        members["global"] = _raw(shared)
    return msgspec.json.encode(members)


def _stream_of(entry: msgspec.Raw) -> StreamId | None:
    """The stream that an entry names; None where it names none."""
    try:
        return STREAM_STATE.decode(entry).stream_descriptor.id
    except msgspec.ValidationError:
        return None


def _members(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of an object; none where it is something else."""
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return {}


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
