"""How the columns of a stream differ between two syncs: added, removed, of another type. Values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3dest_dagster.landing.manifest import Retyped, SchemaChanges
from s3dest_dagster.schema import paths, record_type
from s3dest_dagster.stream import StreamId


def schema_changes(before: Mapping[str, Any], now: Mapping[str, Any], stream: StreamId) -> SchemaChanges:
    """The differences of two JSON schemas of a stream, as differences of its columns; nested ones by dotted path."""
    old, new = _types(before, stream), _types(now, stream)
    return SchemaChanges(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        retyped=tuple(
            Retyped(name, old[name], kind) for name, kind in new.items() if name in old and old[name] != kind
        ),
    )


def _types(json_schema: Mapping[str, Any], stream: StreamId) -> dict[str, str]:
    return dict(paths(record_type(json_schema, stream.name, stream.namespace)))
