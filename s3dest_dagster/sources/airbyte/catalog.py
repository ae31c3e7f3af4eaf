"""A source's catalog: the streams that it has, and the configured catalog that tells it what to read.

Must not know: how a connector is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any

from s3dest_dagster.columns.left_out_fields import left_out_paths
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.settings.connector_config import Dedup
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.stream import Generation, Stream, StreamId, SyncMode

_MEMBER_TYPES: Sequence[tuple[str, str, type | UnionType, str]] = [
    ("stream", "namespace", str, "a text"),
    ("stream", "json_schema", Mapping, "an object"),
    ("stream", "supported_sync_modes", list | tuple, "a list"),
    ("configured", "sync_mode", str, "a text"),
    ("configured", "destination_sync_mode", str, "a text"),
    ("configured", "generation_id", int, "a whole number"),
    ("configured", "minimum_generation_id", int, "a whole number"),
    ("configured", "sync_id", int, "a whole number"),
]
"""The types of a stream's members: the object that has the member, its name, its type, and the type in words."""
_ID_NAMES = ("generation_id", "minimum_generation_id", "sync_id")
_SYNC_MODES = {"overwrite": SyncMode.FULL_REFRESH, "append": SyncMode.APPEND}
_DEDUP_MODES = {"overwrite_dedup": "overwrite", "append_dedup": "append"}
"""The modes that remove duplicates, each with the mode that lands the same records and keeps duplicates."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """A catalog as the connector wrote it (`raw`), discovered or configured.

    The streams of a discovered catalog are full refreshes. A configured one has a destination sync mode for each
    stream: `overwrite` is a full refresh, `append` is append. Deduplication needs a database, and is refused with
    SettingsError unless `dedup` says otherwise.
    """

    raw: Mapping[str, Any]
    discovered: Mapping[str, Any] | None = None
    """The discovered catalog from which a configured one was made, if it is known. A property that it has and the
    configured one leaves out is deselected (see `Stream.deselected`)."""
    dedup: Dedup = "refuse"
    """"append": a stream whose duplicates should be removed lands with all its records."""

    def __post_init__(self) -> None:
        seen = set()
        for stream in self.streams:
            if stream.id in seen:
                raise SettingsError(f"The catalog has the stream {stream.id} twice.", stream=str(stream.id))
            seen.add(stream.id)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams, in the catalog's order."""
        schemas = self._discovered_schemas()
        number = _number_of_all_ids(self._entries())
        generation_of = None if number == 0 else partial(_generation, is_ambiguous=number == 1)
        streams = (_parse_stream(entry, generation_of) for entry in self._entries())
        return tuple(
            replace(each, deselected=left_out_paths(schemas[each.id], each.json_schema)) if each.id in schemas else each
            for each in streams
        )

    def _discovered_schemas(self) -> Mapping[StreamId, Any]:
        if self.discovered is None:
            return {}
        return {each.id: each.json_schema for each in Catalog(self.discovered).streams}

    def find_stream(self, name: str) -> Stream:
        """The stream of this name, which includes the namespace ("public.users") unless it is unambiguous without.

        Raises SettingsError if there is none, or more than one.
        """
        streams = self.streams
        matches = [stream for stream in streams if str(stream.id) == name]
        matches = matches or [stream for stream in streams if stream.name == name]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(str(stream.id) for stream in matches)
            raise SettingsError(f"The catalog has several streams {name!r}: {names}. Name one.", setting="streams")
        raise SettingsError(self.unknown_names([name])[name], stream=name, setting="streams")

    def streams_with(self, settings: Mapping[str, StreamSettings]) -> tuple[Stream, ...]:
        """The streams, each with the settings that a user gave under its name ("public.users", or "users" if that is
        unambiguous). Names that the catalog lacks are ignored, see `unknown_names`.

        Raises SettingsError if a name is ambiguous, or if two names are the same stream.
        """
        given: dict[StreamId, str] = {}
        for name in settings.keys() - self.unknown_names(settings):
            if (other := given.setdefault(self.find_stream(name).id, name)) != name:
                first, second = sorted((name, other))
                raise SettingsError(
                    f"{first!r} and {second!r} are the same stream. Give its settings under one name.",
                    stream=first,
                    setting="streams",
                )
        of_stream = {stream: settings[name] for stream, name in given.items()}
        return tuple(replace(each, settings=of_stream.get(each.id, each.settings)) for each in self.streams)

    def unknown_names(self, names: Iterable[str]) -> dict[str, str]:
        """The names of streams that the catalog lacks, each with a sentence that says so."""
        streams = self.streams
        known, bare = {str(stream.id) for stream in streams}, {stream.name for stream in streams}
        return {
            name: f"The catalog has no stream {name!r}. {did_you_mean(name, known if '.' in name else bare)}"
            for name in sorted(set(names) - known - bare)
        }

    def configure(self, streams: Sequence[Stream]) -> dict[str, Any]:
        """The configured catalog that requests these streams from the source, in their sync modes.

        A full refresh is read in full. An append is read incrementally if the source supports it, unless this is a
        configured catalog that requests a full read. Raises SettingsError for a stream that the catalog lacks.
        """
        entries = {_parse_stream(entry).id: entry for entry in self._entries()}
        for stream in streams:
            if stream.id not in entries:
                hint = did_you_mean(str(stream.id), (str(each.id) for each in self.streams))
                raise SettingsError(f"The source's catalog has no stream {stream.id}. {hint}", stream=str(stream.id))
        return {"streams": [_configure_stream(entries[stream.id], stream) for stream in streams]}

    def is_incremental(self, stream: Stream) -> bool:
        """Whether `configure` requests only new records. False for a stream that the catalog lacks."""
        return any(_parse_stream(entry).id == stream.id and _is_incremental(entry, stream) for entry in self._entries())

    @property
    def keeps_duplicates_of(self) -> tuple[str, ...]:
        """The streams whose duplicates should be removed, and are not."""
        modes = ((_source_stream(each)["name"], each.get("destination_sync_mode")) for each in self._raw_entries())
        return tuple(name for name, mode in modes if mode in _DEDUP_MODES)

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        """The entries, with the modes in which their streams land."""
        for entry in self._raw_entries():
            mode = entry.get("destination_sync_mode")
            if self.dedup == "append" and mode in _DEDUP_MODES:
                entry = {**entry, "destination_sync_mode": _DEDUP_MODES[mode]}
            yield entry

    def _raw_entries(self) -> Iterator[Mapping[str, Any]]:
        entries = self.raw.get("streams")
        if not isinstance(entries, list):
            raise SettingsError('This is no Airbyte catalog: it has no list "streams". Use what `discover` printed.')
        for entry in entries:
            if not isinstance(entry, Mapping) or not isinstance(_source_stream(entry).get("name"), str):
                raise SettingsError("The catalog has an entry that is no stream: it has no name.")
            _check_types(entry)
            yield entry


CatalogFile = str | Path | Mapping[str, Any]
"""A JSON file, or its content."""


def read_catalog(source: CatalogFile, discovered: CatalogFile | None = None, *, dedup: Dedup = "refuse") -> Catalog:
    """Reads a catalog from a JSON file or a mapping: discovered or configured, bare or inside its CATALOG message.

    Args:
        source: The catalog.
        discovered: The discovered catalog from which a configured one was made.
        dedup: See `Catalog`.

    Raises:
        SettingsError: One of them is not a catalog.
    """
    return Catalog(_read(source), None if discovered is None else _read(discovered), dedup)


def _read(source: CatalogFile) -> Mapping[str, Any]:
    raw = source if isinstance(source, Mapping) else _read_file(Path(source))
    inner = raw.get("catalog")
    return inner if isinstance(inner, Mapping) else raw


def _read_file(path: Path) -> Mapping[str, Any]:
    """Reads the catalog from the file, which may also hold the connector's other messages, one per line."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The catalog {path} cannot be read: {error}.", setting="catalog") from None
    for candidate in (text, *reversed(text.splitlines())):
        value = _parse_json(candidate)
        if isinstance(value, Mapping) and ("streams" in value or "catalog" in value):
            return value
    raise SettingsError(
        f'{path} is no Airbyte catalog: it is not JSON with "streams". Use what `discover` printed.', setting="catalog"
    )


def _parse_json(text: str) -> Any:
    """The value of the text; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _source_stream(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The source's description of the stream: the entry of a discovered catalog, or a member of a configured entry."""
    inner = entry.get("stream")
    return inner if isinstance(inner, Mapping) else entry


def _check_types(entry: Mapping[str, Any]) -> None:
    """Raises SettingsError if a member of the stream has another type than the protocol requires. Null counts as
    absent."""
    stream = _source_stream(entry)
    for owner, name, type_, type_name in _MEMBER_TYPES:
        value = (stream if owner == "stream" else entry).get(name)
        if value is not None and not isinstance(value, type_):
            raise SettingsError(
                f"Stream {stream['name']!r} of the catalog: its {name} is not {type_name}. Use what `discover` "
                "printed.",
                stream=stream["name"],
                setting=name,
            )


def _parse_stream(
    entry: Mapping[str, Any], generation_of: Callable[[Mapping[str, Any]], Generation | None] | None = None
) -> Stream:
    """The stream of an entry.

    Args:
        entry: The entry.
        generation_of: Reads the entry's generation. None: it has none.
    """
    stream = _source_stream(entry)
    schema = stream.get("json_schema")
    description = schema.get("description") if isinstance(schema, Mapping) else None
    return Stream(
        name=stream["name"],
        namespace=stream.get("namespace"),
        json_schema=schema,
        sync_mode=SyncMode.FULL_REFRESH if stream is entry else _sync_mode(entry, stream["name"]),
        description=description if isinstance(description, str) else None,
        cursor_field=_cursor(entry),
        generation=generation_of(entry) if generation_of is not None else None,
    )


def _number_of_all_ids(entries: Iterable[Mapping[str, Any]]) -> int | None:
    """The number that all streams have as each of their ids. None if the ids differ.

    Programs that know no generations write one number for each id of every sync, because newer connectors require
    ids: PyAirbyte writes 1, others 0. As generations, they would mean that no sync ever replaces another one.
    """
    numbers = {each.get(name) for each in entries for name in _ID_NAMES}
    return numbers.pop() if len(numbers) == 1 else None


def _generation(entry: Mapping[str, Any], *, is_ambiguous: bool) -> Generation | None:
    """The generation of the next sync of a stream. None if the entry has none."""
    number, minimum, sync_id = (entry.get(name) for name in _ID_NAMES)
    if number is None:
        return None
    try:
        return Generation(number, minimum or 0, sync_id, is_ambiguous)
    except SettingsError as error:
        name = _source_stream(entry)["name"]
        raise SettingsError(f"Stream {name!r}: {error.message}", stream=name, setting=error.setting) from None


def _cursor(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The cursor that is declared, as the names on the way to it."""
    cursor = entry.get("cursor_field") or _source_stream(entry).get("default_cursor_field") or ()
    names = [cursor] if isinstance(cursor, str) else cursor
    return tuple(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else ()


def _sync_mode(entry: Mapping[str, Any], name: str) -> SyncMode:
    mode = entry.get("destination_sync_mode")
    if mode in _SYNC_MODES:
        return _SYNC_MODES[mode]
    reason, cure = "is not known", ""
    if mode in _DEDUP_MODES:
        reason = "removes duplicates, which files in a bucket cannot"
        cure = ', or set "dedup": "append" under "s3dest" in the configuration, which keeps the duplicates'
    raise SettingsError(
        f"Stream {name}: the destination sync mode {mode!r} {reason}. Use 'append' or 'overwrite'{cure}.",
        stream=name,
        setting="destination_sync_mode",
    )


def _configure_stream(entry: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
    source_stream = _source_stream(entry)
    return {
        "stream": source_stream,
        "sync_mode": "incremental" if _is_incremental(entry, stream) else "full_refresh",
        "destination_sync_mode": "append" if stream.sync_mode is SyncMode.APPEND else "overwrite",
        "cursor_field": entry.get("cursor_field") or source_stream.get("default_cursor_field") or [],
        "primary_key": entry.get("primary_key") or source_stream.get("source_defined_primary_key") or [],
        # Newer sources require these.
        **{name: entry.get(name) or 0 for name in _ID_NAMES},
    }


def _is_incremental(entry: Mapping[str, Any], stream: Stream) -> bool:
    """Whether only new records are requested from the source."""
    source_stream = _source_stream(entry)
    modes = source_stream.get("supported_sync_modes") or ["full_refresh"]
    if "full_refresh" not in modes:
        return True
    if (
        stream.sync_mode is SyncMode.FULL_REFRESH
        or "incremental" not in modes
        or entry.get("sync_mode") == "full_refresh"
    ):
        return False
    has_cursor = entry.get("cursor_field") or source_stream.get("default_cursor_field")
    return bool(has_cursor or source_stream.get("source_defined_cursor"))
