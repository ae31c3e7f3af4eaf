"""Which streams of a source a component has, and the settings of each: by names, patterns and exclusions.

Several entries can match one stream. The most specific one wins, setting by setting. Must not know: YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from s3dest_dagster.dagster.asset_metadata import check_record_schema
from s3dest_dagster.dagster.component.streams import ComponentStream, stream_entry
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources import Source
from s3dest_dagster.stream import Stream, StreamId, SyncMode

SelectedStream = tuple[ComponentStream, Stream]
"""The settings of a stream in YAML, and the stream."""

_ALL = ComponentStream("*")
_INHERITED = ("json_schema", "sync_mode", "description", "io_manager_key", "checks")
"""What an entry takes from a less specific one, unless it says otherwise."""


def select_streams(
    source: Source, streams: Sequence[ComponentStream | str] | None, sync_mode: str | None
) -> list[SelectedStream]:
    """The streams that the entries select, or all streams of the source. Streams without a sync mode have `sync_mode`.

    An entry is the name of a stream, or a pattern with `*` or `?`. An entry that excludes leaves its streams out, and
    alone it selects all others. Of the entries that match a stream, the most specific one wins: each of its settings
    replaces that of the others, and it decides whether the stream is left out. A name is more specific than any
    pattern, a pattern with more characters apart from its wildcards is more specific than one with fewer, and of equal
    ones the later is. Attributes of the asset (`translation`) are applied one after another, the most specific last.

    Raises SettingsError for a stream that the source lacks, for a pattern that matches no stream, and for several
    streams that the source cannot distinguish.
    """
    if streams is None:
        entries = [ComponentStream(name) for name in source.stream_names()]
    else:
        entries = [stream_entry(each) if isinstance(each, str) else each for each in streams]
    selected = _expanded(source, entries) if any(map(_needs_names, entries)) else entries
    if len(selected) > 1 and not source.separates_streams:
        raise SettingsError(
            "The source would give the same records for each of several streams. Let the function have a parameter "
            "`stream`, or the path a placeholder {{ stream_name }}; or name one stream.",
            setting="streams",
        )
    return [(own, _described(source, own, own.sync_mode or sync_mode)) for own in selected]


def matching_streams(texts: Sequence[str] | None, streams: Sequence[StreamId]) -> list[StreamId]:
    """Those of the streams that names, patterns and exclusions select, as in `select_streams`. None selects all.

    Raises SettingsError for an entry that matches no stream, and if no stream is left.
    """
    entries = [_ALL] if texts is None else [stream_entry(text) for text in texts]
    if entries and all(entry.exclude for entry in entries):
        entries = [_ALL, *entries]
    for entry in entries:
        _check_match(entry, list(map(str, streams)))
    winners = {stream: _winner(entries, str(stream)) for stream in streams}
    matching = [stream for stream, winner in winners.items() if winner is not None and not winner.exclude]
    if not matching:
        raise SettingsError("There is no stream to run. Name at least one.", setting="streams")
    return matching


def _needs_names(entry: ComponentStream) -> bool:
    return entry.exclude or _is_pattern(entry)


def _is_pattern(entry: ComponentStream) -> bool:
    return any(mark in _full_name(entry) for mark in "*?")


def _full_name(entry: ComponentStream) -> str:
    return f"{entry.namespace}.{entry.name}" if entry.namespace else entry.name


def _expanded(source: Source, entries: Sequence[ComponentStream]) -> list[ComponentStream]:
    """An entry for each selected stream: those that are named, in their order, then the others in the source's."""
    try:
        listed = source.stream_names()
    except SettingsError as error:
        with next(filter(_needs_names, entries)).position.located():
            raise SettingsError(
                f"Patterns and exclusions are for sources that list their streams. {error.message}", setting="name"
            ) from None
    ids = {name: str(source.describe_stream(ComponentStream(name)).id) for name in listed}
    if all(entry.exclude for entry in entries):
        entries = [_ALL, *entries]
    for entry in filter(_needs_names, entries):
        _check_match(entry, list(ids.values()))
    patterns = [entry for entry in entries if _needs_names(entry)]
    named = [(entry, _id_of(source, entry)) for entry in entries if not _needs_names(entry)]
    known = {stream for _, stream in named}
    selected = [_merged(entry, patterns, stream) for entry, stream in named]
    for name, stream in ids.items():
        winner = None if stream in known else _winner(patterns, stream)
        if winner is not None and not winner.exclude:
            others = [entry for entry in patterns if entry is not winner]
            selected.append(_merged(replace(winner, name=name, namespace=None), others, stream))
    return selected


def _id_of(source: Source, entry: ComponentStream) -> str:
    with entry.position.located():
        return str(source.describe_stream(replace(entry, sync_mode=None)).id)


def _check_match(entry: ComponentStream, streams: Sequence[str]) -> None:
    """Raises SettingsError if the entry matches no stream. A pattern that excludes may wait for its first stream."""
    if entry is _ALL or any(_matches(entry, stream) for stream in streams):
        return
    if entry.exclude and _is_pattern(entry):
        return
    with entry.position.located():
        raise SettingsError(
            f"No stream of the source matches {_full_name(entry)!r}. Its streams are {', '.join(sorted(streams))}.",
            setting="name",
        )


def _matches(entry: ComponentStream, stream: str) -> bool:
    """Whether the entry means the stream, by its name with or without the namespace."""
    names = (stream,) if entry.namespace else (stream, stream.rpartition(".")[2])
    return any(fnmatchcase(name, _full_name(entry).replace("[", "[[]")) for name in names)


def _specificity(entry: ComponentStream) -> tuple[bool, int]:
    name = _full_name(entry)
    return not _is_pattern(entry), sum(character not in "*?" for character in name)


def _winner(entries: Iterable[ComponentStream], stream: str) -> ComponentStream | None:
    """The most specific entry that matches the stream; of equal ones the last."""
    matching = [entry for entry in entries if _matches(entry, stream)]
    return max(reversed(matching), key=_specificity, default=None)


# ---------------------------------------------------------------------- settings of several entries


def _merged(own: ComponentStream, others: Iterable[ComponentStream], stream: str) -> ComponentStream:
    """The entry of a stream, with what less specific entries set and it leaves open."""
    matching = [entry for entry in others if not entry.exclude and _matches(entry, stream)]
    # Of those that are equally specific, the last comes first.
    for entry in sorted(matching, key=_specificity)[::-1]:
        own = _with_defaults(own, entry)
    return own


def _with_defaults(own: ComponentStream, other: ComponentStream) -> ComponentStream:
    changes = {name: getattr(other, name) for name in _INHERITED if getattr(own, name) is None}
    if own.partitions_def is None and not own.unpartitioned:
        changes |= {"partitions_def": other.partitions_def, "unpartitioned": other.unpartitioned}
    inherited = {name: getattr(other.settings, name) for name in other.stated - own.stated}
    return replace(
        own,
        **changes,
        step=own.step.over(other.step),
        settings=replace(own.settings, **inherited),
        stated=own.stated | other.stated,
        translation=_one_after_another(other.translation, own.translation),
    )


def _one_after_another(first: Callable[..., Any] | None, then: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if first is None or then is None:
        return then or first
    return lambda spec, stream: then(first(spec, stream), stream)


def _described(source: Source, own: ComponentStream, sync_mode: SyncMode | str | None) -> Stream:
    with own.position.located():
        stream = source.describe_stream(replace(own, sync_mode=sync_mode))
        check_record_schema(own.json_schema, own.name)
        return stream
