"""A source's catalog: which streams it has, and the configured catalog that it is asked to read.

It knows the protocol's catalog JSON and the library's streams; it must not know how a connector is run.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.stream import Stream, StreamId, SyncMode

_SHAPE: Sequence[tuple[str, str, type | UnionType, str]] = [
    ("stream", "namespace", str, "a text"),
    ("stream", "json_schema", Mapping, "an object"),
    ("stream", "supported_sync_modes", list | tuple, "a list"),
    ("configured", "sync_mode", str, "a text"),
    ("configured", "destination_sync_mode", str, "a text"),
]
"""What the members of a stream, as the source describes it or as somebody has configured it, must be."""
_SYNC_MODES = {"overwrite": SyncMode.FULL_REFRESH, "append": SyncMode.APPEND}


@dataclass(frozen=True, slots=True)
class Catalog:
    """A catalog as the connector wrote it (`raw`): discovered, or configured by somebody.

    The streams of a discovered catalog are full refreshes. A configured one says each stream's destination sync mode:
    `overwrite` is full refresh, `append` append; deduplication needs a database and is refused with SettingsError.
    """

    raw: Mapping[str, Any]

    def __post_init__(self) -> None:
        seen = set()
        for stream in self.streams:
            if stream.id in seen:
                raise SettingsError(f"The catalog has the stream {stream.id} twice.", stream=str(stream.id))
            seen.add(stream.id)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams, in the catalog's order."""
        return tuple(_stream(entry) for entry in self._entries())

    def find_stream(self, name: str) -> Stream:
        """The stream of this name, with its namespace ("public.users") or, if that is unambiguous, without.

        Raises SettingsError if there is none, or more than one.
        """
        streams = self.streams
        matches = [stream for stream in streams if str(stream.id) == name] or [
            stream for stream in streams if stream.name == name
        ]
        if len(matches) == 1:
            return matches[0]
        if matches:
            same = ", ".join(str(stream.id) for stream in matches)
            raise SettingsError(f"The catalog has several streams {name!r}: {same}. Name one.", setting="streams")
        names = sorted(str(stream.id) for stream in streams)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(names) or 'none'}."
        raise SettingsError(f"The catalog has no stream {name!r}. {hint}", stream=name, setting="streams")

    def configured(self, streams: Sequence[Stream]) -> dict[str, Any]:
        """The configured catalog that asks the source for these streams, in their sync modes.

        A stream that appends is read incrementally where the source can, unless this is a configured catalog that
        says otherwise; a full refresh is read in full. Raises SettingsError for a stream that the catalog lacks.
        """
        entries = {_stream(entry).id: entry for entry in self._entries()}
        missing = [stream.id for stream in streams if stream.id not in entries]
        if missing:
            raise _unknown(missing[0], list(entries))
        return {"streams": [_configured(entries[stream.id], stream) for stream in streams]}

    def is_incremental(self, stream: Stream) -> bool:
        """Whether `configured` asks the source for what is new only; False too for a stream that the catalog lacks."""
        return any(_stream(entry).id == stream.id and _is_incremental(entry, stream) for entry in self._entries())

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        entries = self.raw.get("streams")
        if not isinstance(entries, list):
            raise SettingsError('This is no Airbyte catalog: it has no list "streams". Use what `discover` printed.')
        for entry in entries:
            if not isinstance(entry, Mapping) or not isinstance(_described(entry).get("name"), str):
                raise SettingsError("The catalog has an entry that is no stream: it has no name.")
            _check_shape(entry)
            yield entry


def read_catalog(source: str | Path | Mapping[str, Any]) -> Catalog:
    """The catalog of a JSON file or a mapping: discovered or configured, bare or still within its CATALOG message.

    Raises SettingsError when it is none.
    """
    raw = source if isinstance(source, Mapping) else _parsed(Path(source))
    inner = raw.get("catalog")
    return Catalog(inner if isinstance(inner, Mapping) else raw)


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The catalog {path} cannot be read: {error}.", setting="catalog") from None
    for candidate in (text, *reversed(text.splitlines())):
        if isinstance(found := _json_or_none(candidate), Mapping) and ("streams" in found or "catalog" in found):
            return found
    raise SettingsError(
        f'{path} is no Airbyte catalog: it is not JSON with "streams". Use what `discover` printed.', setting="catalog"
    )


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _described(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The source's own description of the stream, in a discovered or configured entry."""
    inner = entry.get("stream")
    return inner if isinstance(inner, Mapping) else entry


def _check_shape(entry: Mapping[str, Any]) -> None:
    """Raises SettingsError for a member of the stream that is not of the protocol's type; null is none."""
    described = _described(entry)
    for place, name, type_, what in _SHAPE:
        value = (described if place == "stream" else entry).get(name)
        if value is not None and not isinstance(value, type_):
            raise SettingsError(
                f"Stream {described['name']!r} of the catalog: its {name} is not {what}. Use what `discover` printed.",
                stream=described["name"],
                setting=name,
            )


def _stream(entry: Mapping[str, Any]) -> Stream:
    described = _described(entry)
    schema = described.get("json_schema")
    description = schema.get("description") if isinstance(schema, Mapping) else None
    return Stream(
        name=described["name"],
        namespace=described.get("namespace"),
        json_schema=schema,
        sync_mode=SyncMode.FULL_REFRESH if described is entry else _sync_mode(entry, described["name"]),
        description=description if isinstance(description, str) else None,
    )


def _sync_mode(entry: Mapping[str, Any], name: str) -> SyncMode:
    asked = entry.get("destination_sync_mode")
    if asked in _SYNC_MODES:
        return _SYNC_MODES[asked]
    reason = "removes duplicates, which files in a bucket cannot" if "dedup" in str(asked) else "is not known"
    raise SettingsError(
        f"Stream {name}: the destination sync mode {asked!r} {reason}. Use 'append' or 'overwrite'.",
        stream=name,
        setting="destination_sync_mode",
    )


def _configured(entry: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
    described = _described(entry)
    return {
        "stream": described,
        "sync_mode": "incremental" if _is_incremental(entry, stream) else "full_refresh",
        "destination_sync_mode": "append" if stream.sync_mode is SyncMode.APPEND else "overwrite",
        "cursor_field": entry.get("cursor_field") or described.get("default_cursor_field") or [],
        "primary_key": entry.get("primary_key") or described.get("source_defined_primary_key") or [],
        # Newer sources and platforms want these; the bucket keeps its own generations.
        "generation_id": 0,
        "minimum_generation_id": 0,
        "sync_id": 0,
    }


def _is_incremental(entry: Mapping[str, Any], stream: Stream) -> bool:
    """Whether the source is asked for what is new only."""
    described = _described(entry)
    modes = described.get("supported_sync_modes") or ["full_refresh"]
    if "full_refresh" not in modes:
        return True
    if (
        stream.sync_mode is SyncMode.FULL_REFRESH
        or "incremental" not in modes
        or entry.get("sync_mode") == "full_refresh"
    ):
        return False
    has_cursor = entry.get("cursor_field") or described.get("default_cursor_field")
    return bool(has_cursor or described.get("source_defined_cursor"))


def _unknown(stream: StreamId, known: Sequence[StreamId]) -> SettingsError:
    names = sorted(map(str, known))
    close = difflib.get_close_matches(str(stream), names, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"It has: {', '.join(names) or 'none'}."
    return SettingsError(f"The source's catalog has no stream {stream}. {hint}", stream=str(stream))
