"""Computes the states from which a source continues, from the state that each of its streams has reached.

The protocol has three kinds of states: of one stream (STREAM), of all streams with an entry for each (GLOBAL), and of
all streams in a form that only the source knows (LEGACY). Must not know: where states are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import msgspec

from s3dest_dagster.batch import KnownState, Lineage, common_ancestors, up_to
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte.protocol import STATE, STREAM_STATE, is_utf8, parse_state
from s3dest_dagster.stream import StreamId, join_names


@dataclass(frozen=True, slots=True)
class Reached:
    """The state that a stream's records have reached."""

    state: str
    """The state as the source wrote it."""
    lineage: Lineage
    """The ancestors of a state of all streams, with the state itself as the last entry (see `lineage`)."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where the source's next read begins."""

    states: tuple[bytes, ...]
    """The states to pass to the source. If empty, it starts from the beginning."""
    lineage: Lineage = ()
    """The ancestors of any state of all streams that the read reaches. Empty at the beginning of the source."""
    warning: str | None = None
    """If records come again: which streams', and why."""


TextOf = Callable[[KnownState], str | None]
"""Returns the text of a state that a lineage names. None if it is no longer stored."""


_NULL = msgspec.Raw(b"null")


def resumption(
    reached: Mapping[StreamId, Reached | None],
    text_of: TextOf,
    *,
    in_full: Collection[StreamId] = (),
    are_all: bool = False,
    restarted: Mapping[StreamId, Reached | None] | None = None,
) -> Resumption:
    """Returns the states to continue from such that no stream misses a record.

    States of single streams are passed back as they are. If the streams have reached different states of all streams
    (GLOBAL or LEGACY), the source continues from the youngest state that each of them is or descends from. A stream
    without a state starts from the beginning: its part is removed from a state of all streams. If the state has no such
    parts, or if no common state is known, all streams start from the beginning.

    Args:
        reached: The state that each stream has reached, or None.
        text_of: Returns the text of a state that a lineage names.
        in_full: The streams that are read in full regardless of the state.
        are_all: Whether no other streams of the source are ever read.
        restarted: The states of streams that start from the beginning on purpose, although they have reached them. In
            `reached` they have none. Other streams of the source go on from their states, so that the shared part of a
            GLOBAL state is kept, without the entries of these streams.

    Raises:
        SettingsError: Some streams are restarted, and the source has a LEGACY state, which cannot be divided.
    """
    had = {stream: state for stream, state in (restarted or {}).items() if state is not None}
    found = {stream: state for stream, state in reached.items() if state is not None}
    kinds = {stream: _kind(state.state) for stream, state in found.items()}
    if had:
        _refuse_to_divide(had.keys(), [*kinds.values(), *(_kind(state.state) for state in had.values())])
    if not found:
        found, kinds = had, {stream: _kind(state.state) for stream, state in had.items()}
        found = {stream: state for stream, state in found.items() if kinds[stream] != "STREAM"}
    shared_kind = next((kind for kind in ("GLOBAL", "LEGACY") if kind in kinds.values()), None)
    if shared_kind is None:
        return Resumption(tuple(state.state.encode() for state in found.values()))
    sharing = {stream: found[stream] for stream, kind in kinds.items() if kind == shared_kind}
    if sharing.keys() <= had.keys() and not any(_has_entries(s.state, shared_kind, sharing) for s in sharing.values()):
        return Resumption(())
    start = _common_start(sharing, text_of)
    if start is None:
        return Resumption((), warning=_no_common_state(sharing))
    anew = (reached.keys() - start.streams) | had.keys()
    others = anew - set(in_full)
    if others and not _has_entries(start.text, shared_kind, start.streams):
        return Resumption((), warning=_no_entries(others, sharing))
    is_level = are_all and not others and all(start.is_state_of(state) for state in sharing.values())
    lineage = start.lineage[-1:] if is_level else start.lineage
    state = _remove_streams(start.text, shared_kind, anew)
    return Resumption((state,), lineage, _warning(start, sharing))


@dataclass(frozen=True, slots=True)
class _Start:
    """The state of all streams from which a read begins."""

    text: str
    lineage: Lineage
    streams: frozenset[StreamId]
    """The streams whose states are this one or descend from it."""

    def is_state_of(self, reached: Reached) -> bool:
        return reached.lineage[-1].id == self.lineage[-1].id


def _common_start(sharing: Mapping[StreamId, Reached], text_of: TextOf) -> _Start | None:
    """The newest common state of all streams. If there is none, that of the streams whose state was set by hand."""
    by_hand = {state.lineage[0].id for state in sharing.values() if state.lineage[0].read_count == 0}
    set_by_hand = {stream: state for stream, state in sharing.items() if state.lineage[0].id in by_hand}
    for group in (sharing, set_by_hand) if len(by_hand) == 1 else (sharing,):
        texts = {state.lineage[-1].id: state.state for state in group.values()}
        lineages = [state.lineage for state in group.values()]
        for ancestor in common_ancestors(lineages):
            text = texts.get(ancestor.id) or text_of(ancestor)
            if text is not None:
                return _Start(text, up_to(ancestor, lineages), frozenset(group))
    return None


def _warning(start: _Start, sharing: Mapping[StreamId, Reached]) -> str | None:
    anew = sharing.keys() - start.streams
    if anew:
        return (
            f"The state of {join_names(start.streams)} was set by hand, and that of {join_names(anew)} is another "
            "that does not descend from it: the source continues from the one that was set, and begins anew for "
            f"{join_names(anew)}. Set a state of all streams for all of them (`s3dest state set --catalog`)."
        )
    again = {stream for stream, state in sharing.items() if not start.is_state_of(state)}
    if not again:
        return None
    return (
        "The streams have reached different states of their common source, which continues from the last one that all "
        f"of them have passed: some records of {join_names(again)} may come again."
    )


def _refuse_to_divide(streams: Collection[StreamId], kinds: Collection[str]) -> None:
    if "LEGACY" in kinds:
        raise SettingsError(
            f"{join_names(streams)} cannot start from the beginning alone: the source has one state for all of its "
            "streams (LEGACY), which cannot be divided. Restart all of its streams in one run.",
            setting="full_refresh",
        )


def _no_common_state(sharing: Collection[StreamId]) -> str:
    return (
        f"The streams {join_names(sharing)} have reached different states of their common source, and none is known "
        "that all of them have passed: the source begins anew, and their records come again. To continue from another "
        "state, stop the run and set one state for all of them (`s3dest state set --catalog`)."
    )


def _no_entries(others: Collection[StreamId], sharing: Collection[StreamId]) -> str:
    return (
        "The source begins anew, since its state is one of all streams that says nothing of each, and "
        f"{join_names(others)} has not reached it: the records of {join_names(set(sharing) - set(others))} come "
        "again."
    )


# ---------------------------------------------------------------------- states that a user wrote


@dataclass(frozen=True, slots=True)
class GivenState:
    """A state that a user wrote: its text without whitespace, and its stream (None: a state of all streams)."""

    stream: StreamId | None
    text: str


def read_states(text: bytes) -> list[GivenState]:
    """Reads states from a text: one state, a list of states, or one per line, each bare or inside its STATE message.

    If a stream has several states, the last one is used. Numbers keep their spelling. Raises SettingsError for anything
    that is not a state.
    """
    if not is_utf8(text):
        raise SettingsError("The state is no text in UTF-8.", setting="state")
    states = {state.stream: state for state in map(_given_state, _elements(text))}
    if not states:
        raise SettingsError("There is no state in it.", setting="state")
    return list(states.values())


def _elements(text: bytes) -> list[msgspec.Raw]:
    """The elements of a list, the lines of JSON Lines, or the only value."""
    try:
        whole = msgspec.json.decode(text, type=msgspec.Raw)
        return msgspec.json.decode(text, type=list[msgspec.Raw]) if bytes(whole).startswith(b"[") else [whole]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = error
    lines = [line for line in map(bytes.strip, text.splitlines()) if line]
    try:
        elements = [msgspec.json.decode(line, type=msgspec.Raw) for line in lines]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        elements = []
    if len(elements) < 2:
        raise SettingsError(
            f"The state is no JSON: {reason}. Give what `s3dest state show` prints, or STATE messages.", setting="state"
        ) from None
    return elements


def _given_state(raw: msgspec.Raw) -> GivenState:
    members = _members(raw)
    inner = members.get("state", raw) if bytes(members.get("type", b"")) == b'"STATE"' else raw
    try:
        state = parse_state(inner)
    except ValueError as error:
        raise SettingsError(
            f"Something in the file is no Airbyte state: {error}. Give what `s3dest state show` prints, or STATE "
            "messages.",
            setting="state",
        ) from None
    return GivenState(state.stream_id, msgspec.json.format(bytes(inner), indent=-1).decode())


# ---------------------------------------------------------------------- the parts of a state


def _kind(state: str) -> str:
    try:
        return STATE.decode(state).type
    except msgspec.DecodeError as error:
        raise SettingsError(f"A kept state is no Airbyte state: {error}.", setting="state") from None


def _has_entries(state: str, kind: str, streams: Collection[StreamId]) -> bool:
    """Whether removing a stream from the state would have an effect, because some entry is not just `{}`."""
    members = _members(msgspec.Raw(state.encode()))
    if kind == "LEGACY":
        return any(stream.name in _members(members.get("data", _NULL)) for stream in streams)
    return any(bytes(_members(entry).get("stream_state", _NULL)) != b"{}" for entry in _stream_states(members))


def _stream_states(members: Mapping[str, msgspec.Raw]) -> list[msgspec.Raw]:
    """The entry of each stream in a GLOBAL state."""
    shared = _members(members.get("global", _NULL))
    try:
        return msgspec.json.decode(shared.get("stream_states", b"[]"), type=list[msgspec.Raw])
    except msgspec.ValidationError:
        return []


def _remove_streams(state: str, kind: str, streams: Collection[StreamId]) -> bytes:
    """A state of all streams without the parts of these streams. All other text in it is unchanged."""
    members = _members(msgspec.Raw(state.encode()))
    if kind == "LEGACY":
        names = {stream.name for stream in streams}
        by_name = _members(members["data"]) if "data" in members else {}
        if not names & by_name.keys():
            return state.encode()
        members["data"] = _raw({name: value for name, value in by_name.items() if name not in names})
    else:
        entries = _stream_states(members)
        kept = [entry for entry in entries if _stream_of(entry) not in streams]
        if len(kept) == len(entries):
            return state.encode()
        members["global"] = _raw(_members(members.get("global", _NULL)) | {"stream_states": _raw(kept)})
    return msgspec.json.encode(members)


def _stream_of(entry: msgspec.Raw) -> StreamId | None:
    """The stream that an entry names. None if it names no stream."""
    try:
        return STREAM_STATE.decode(entry).stream_descriptor.id
    except msgspec.ValidationError:
        return None


def _members(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of an object. Empty if the value is not an object."""
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return {}


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
