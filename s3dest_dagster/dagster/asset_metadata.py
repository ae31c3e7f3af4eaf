"""Reads from an asset's definition its stream, and the scopes of the stream that a step works on.

A stream is stored as JSON in the asset's definition metadata, so that any process with the definition can read it.
An asset without it is a stream named after its key. Must not know: where streams come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import dagster as dg
from dagster_shared.check import CheckError

from s3dest_dagster.dagster.preview import MAX_ROWS
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.shards.order_settings import stream_settings_from_json, stream_to_json
from s3dest_dagster.sources.templating import Window, partition_values
from s3dest_dagster.stream import Generation, Scope, Stream, StreamId

STREAM_KEY = "s3dest/stream"
NAME_KEY = "s3dest/name"
NAMESPACE_KEY = "s3dest/namespace"
SYNC_MODE_KEY = "s3dest/sync_mode"
JSON_SCHEMA_KEY = "s3dest/json_schema"
SETTINGS_KEY = "s3dest/settings"
PREVIEW_ROWS_KEY = "s3dest/preview_rows"
TABLE_NAME_KEY = "dagster/table_name"


def stream_metadata(stream: Stream) -> dict[str, Any]:
    """The definition metadata of an asset that is this stream."""
    written = {
        "name": stream.name,
        "namespace": stream.namespace,
        "description": stream.description,
        "json_schema": stream.json_schema,
        "cursor_field": list(stream.cursor_field),
        "deselected": [str(path) for path in stream.deselected],
        "generation": asdict(stream.generation) if stream.generation is not None else None,
        "settings": stream_to_json(stream) | {"deselected_fields": stream.settings.deselected_fields},
    }
    given = {name: value for name, value in written.items() if value}
    return {STREAM_KEY: dg.MetadataValue.json(given), SYNC_MODE_KEY: stream.sync_mode.value}


def stream_of(key: dg.AssetKey, definition: Mapping[str, Any], output: Mapping[str, Any] | None = None) -> Stream:
    """The stream of an asset.

    Args:
        key: The asset's key. If no namespace is given, the parts of the key before the last one, with "/" between
            them, are the namespace. If no name is given, the last part is the name.
        definition: The asset's metadata, in which `s3dest/name`, `s3dest/namespace`, `s3dest/sync_mode`,
            `s3dest/json_schema` and `s3dest/settings` (see `StreamSettings`) describe the stream.
        output: Metadata of this output. Its `s3dest/sync_mode` replaces the stream's.
    """
    written = _unwrapped(definition.get(STREAM_KEY))
    stream = _stream_from_key(key, definition) if written is None else _stream_from_json(key, definition, written)
    if (mode := _unwrapped((output or {}).get(SYNC_MODE_KEY))) is not None:
        # A given mode decides instead of the generations of the catalog.
        stream = replace(stream, sync_mode=mode, generation=None)
    return stream


def stream_id_of(key: dg.AssetKey, definition: Mapping[str, Any]) -> StreamId:
    """The identity of an asset's stream. See `stream_of`, which also reads its schema and settings."""
    written = _unwrapped(definition.get(STREAM_KEY)) or {}
    name = written.get("name") or _unwrapped(definition.get(NAME_KEY)) or key.path[-1]
    return StreamId(landed_namespace(written.get("namespace"), key, definition), name)


def _stream_from_json(key: dg.AssetKey, definition: Mapping[str, Any], written: Mapping[str, Any]) -> Stream:
    """The stream that `stream_metadata` wrote, under the namespace in which it lands."""
    known = dict(written)
    settings, _ = stream_settings_from_json(known.pop("settings"))
    known["namespace"] = landed_namespace(known.get("namespace"), key, definition)
    if (generation := known.get("generation")) is not None:
        known["generation"] = Generation(**generation)
    if (mode := _unwrapped(definition.get(SYNC_MODE_KEY))) is not None:
        known["sync_mode"] = mode
    return Stream(**known, settings=settings)


def landed_namespace(own: str | None, key: dg.AssetKey, definition: Mapping[str, Any]) -> str | None:
    """The namespace in which an asset lands: the one in its metadata, else the stream's own, else the key's prefix."""
    if NAMESPACE_KEY in definition:
        return _unwrapped(definition[NAMESPACE_KEY]) or None
    return own or "/".join(key.path[:-1]) or None


def _stream_from_key(key: dg.AssetKey, definition: Mapping[str, Any]) -> Stream:
    given = {name: _unwrapped(value) for name, value in definition.items()}
    mode = given.get(SYNC_MODE_KEY)
    check_record_schema(given.get(JSON_SCHEMA_KEY), key.to_user_string())
    return Stream(
        name=given.get(NAME_KEY) or key.path[-1],
        namespace=given.get(NAMESPACE_KEY, "/".join(key.path[:-1])),
        json_schema=given.get(JSON_SCHEMA_KEY),
        settings=StreamSettings.of(given.get(SETTINGS_KEY), f"{SETTINGS_KEY} of {key.to_user_string()}"),
        **({} if mode is None else {"sync_mode": mode}),
    )


def op_stream(metadata: Mapping[str, Any] | None) -> Stream | None:
    """The stream that an op's output names: `s3dest/name` of the metadata of its `dg.Out`. None if it names none."""
    if not metadata or NAME_KEY not in metadata:
        return None
    # The key has no prefix, so that the namespace is the one in the metadata, or none.
    return stream_of(dg.AssetKey("op"), metadata)


def preview_rows_of(definition: Mapping[str, Any], default: int) -> int:
    """The number of records that the asset's preview shows: `s3dest/preview_rows` of its metadata, or the default.

    Raises SettingsError if it is not a valid number of rows.
    """
    rows = _unwrapped(definition.get(PREVIEW_ROWS_KEY, default))
    refuse_variables(PREVIEW_ROWS_KEY, rows)
    if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= MAX_ROWS:
        raise SettingsError(
            f"{rows!r} is no number of rows to show. Give 0, for no preview, to {MAX_ROWS}.",
            setting=PREVIEW_ROWS_KEY if PREVIEW_ROWS_KEY in definition else "preview_rows",
        )
    return rows


def _unwrapped(value: Any) -> Any:
    return value.value if isinstance(value, dg.MetadataValue) else value


# ---------------------------------------------------------------------- partitions


def scopes_of(context: dg.OutputContext | dg.InputContext, stream: StreamId) -> dict[str | None, Scope]:
    """The scopes that a step writes or reads, by partition key and in the order of the partitions.

    An unpartitioned asset has one scope, with the key None. An input may have no scopes.

    Raises SettingsError if the asset does not have the run's partitions.
    """
    if not context.has_asset_partitions:
        return {None: Scope(stream)}
    with _partition_errors_explained(stream):
        keys = context.asset_partition_keys
    if not keys and isinstance(context, dg.OutputContext):
        raise _no_such_partition(stream)
    return partition_scopes(stream, context.asset_partitions_def, keys)


def partitions_of_run(context: dg.AssetExecutionContext | dg.OpExecutionContext, stream: StreamId) -> Sequence[str]:
    """The partitions on which a step of this stream works. Raises SettingsError if the asset does not have them."""
    with _partition_errors_explained(stream):
        keys: Sequence[str] = context.partition_keys
    if not keys:
        raise _no_such_partition(stream)
    return keys


@contextmanager
def _partition_errors_explained(stream: StreamId) -> Iterator[None]:
    """Turns Dagster's errors for a partition that the asset does not have into one sentence."""
    try:
        yield
    except (CheckError, ValueError, dg.DagsterError) as error:
        reason = " ".join(str(error).split()).removeprefix("Invariant failed. Description: ")
        raise _no_such_partition(stream, f": {reason.rstrip('.')}") from error


def _no_such_partition(stream: StreamId, reason: str = "") -> SettingsError:
    return SettingsError(
        f"The run asks for partitions that {stream} does not have{reason}. Choose a partition or range of its "
        "partitions_def, the first one first; a partition exists once its time is over.",
        stream=str(stream),
        setting="partitions_def",
    )


def partition_scopes(
    stream: StreamId, partitions: dg.PartitionsDefinition[Any], keys: Sequence[str]
) -> dict[str | None, Scope]:
    """The scopes of these partitions of a stream, by partition key."""
    if not isinstance(partitions, dg.MultiPartitionsDefinition):
        return {key: Scope(stream, str(key)) for key in keys}
    # Dagster returns the keys of a range of multi-partitions in no particular order.
    return {
        key: Scope(stream, str(key), dict(partitions.get_partition_key_from_str(key).keys_by_dimension))
        for key in sorted(map(str, keys))
    }


def op_scope(context: dg.OutputContext | dg.InputContext, stream: StreamId) -> Scope:
    """What the output lands, and its input loads: the partition of the job's run, or the unpartitioned stream."""
    if not context.has_partition_key:
        return Scope(stream)
    key = context.partition_key
    dimensions = getattr(key, "keys_by_dimension", None)
    return Scope(stream, str(key)) if dimensions is None else Scope(stream, str(key), dict(dimensions))


def partition_values_of(partitions: dg.PartitionsDefinition[Any], key: str) -> dict[str, str | int]:
    """The values that a source's placeholders can use for a partition: its key, its dimensions, its time window.

    If several dimensions are time windows, each is available only under the name of its dimension, because none of them
    is the partition's window.
    """
    if not isinstance(partitions, dg.MultiPartitionsDefinition):
        start, end = _window(partitions, key) or (None, None)
        return partition_values(str(key), start=start, end=end)
    keys = dict(partitions.get_partition_key_from_str(key).keys_by_dimension)
    windows = {
        dimension.name: window
        for dimension in partitions.partitions_defs
        if (window := _window(dimension.partitions_def, keys[dimension.name])) is not None
    }
    start, end = next(iter(windows.values())) if len(windows) == 1 else (None, None)
    return partition_values(str(key), dimensions=keys, start=start, end=end, windows=windows)


def _window(partitions: dg.PartitionsDefinition[Any], key: str) -> Window | None:
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return None
    window = partitions.time_window_for_partition_key(key)
    return window.start, window.end


# ---------------------------------------------------------------------- the JSON schema that a user gives

_EXAMPLE = '{"type": "object", "properties": {"id": {"type": "integer"}}}'
# fmt: off
_KEYWORDS = frozenset({
    "type", "properties", "required", "additionalProperties", "patternProperties", "propertyNames",
    "unevaluatedProperties", "items", "anyOf", "allOf", "oneOf", "not", "if", "then", "else", "enum", "const",
    "definitions", "title", "description", "default", "examples", "dependentRequired", "dependentSchemas",
    "minProperties", "maxProperties", "readOnly", "writeOnly", "deprecated", "format",
})
# fmt: on
"""The keywords of JSON Schema that may appear in the schema of a record."""
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}


def check_record_schema(schema: Any, stream: str) -> None:
    """Raises SettingsError unless the schema is None or the JSON schema of an object.

    Any other schema would declare no field, and all values of a record would land in the overflow.

    The error shows the correct form. It is also raised for a `dg.EnvVar` in the schema.
    """
    if schema is None:
        return
    refuse_variables("json_schema", schema)
    try:
        _check_root(schema)
        for path, inner in _objects(schema):
            _check_properties(path, inner)
        json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise _wrong_schema(stream, f"it is no JSON: {error}") from None
    except _WrongSchemaError as error:
        raise _wrong_schema(stream, str(error)) from None


class _WrongSchemaError(Exception):
    """Why something is not the schema of a record."""


def _wrong_schema(stream: str, reason: str) -> SettingsError:
    return SettingsError(
        f"json_schema of {stream} is no JSON schema of a record: {reason}. It looks like {_EXAMPLE}.",
        stream=stream,
        setting="json_schema",
    )


def _check_root(schema: Any) -> None:
    if hasattr(schema, "model_json_schema"):
        raise _WrongSchemaError("it is a pydantic model; give its model_json_schema()")
    if type(schema).__module__.startswith("pyarrow"):
        raise _WrongSchemaError("it is Arrow's; leave json_schema out, and Arrow data brings its own schema")
    if not isinstance(schema, Mapping):
        raise _WrongSchemaError(f"it is a {schema.__name__ if isinstance(schema, type) else type(schema).__name__}")
    if not schema:
        raise _WrongSchemaError("it is empty; leave it out, and the first records tell their fields")
    if not any(name in _KEYWORDS or str(name).startswith(("$", "x-", "airbyte")) for name in schema):
        names = ", ".join(map(repr, list(schema)[:3]))
        raise _WrongSchemaError(f"it names {names} where JSON Schema has its keywords; fields belong in its properties")
    types = schema.get("type", "object")
    if "object" not in (types if isinstance(types, list | tuple) else [types]):
        raise _WrongSchemaError(f"its type is {types!r}, and a record is an object")


def _objects(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the schema, and the nested schemas that have properties, with their paths."""
    left: list[tuple[str, Any]] = [("", schema)]
    while left:
        path, inner = left.pop()
        if not isinstance(inner, Mapping):
            continue
        if "properties" in inner:
            yield path, inner
            fields = inner["properties"]
            left += [(f"{path}{name}.", field) for name, field in fields.items()] if isinstance(fields, Mapping) else []
        left += [(f"{path}items.", inner["items"])] if "items" in inner else []


def _check_properties(path: str, schema: Mapping[str, Any]) -> None:
    properties = schema["properties"]
    if not isinstance(properties, Mapping):
        raise _WrongSchemaError(f"{path}properties is a {type(properties).__name__}, and must map names to schemas")
    for name, field in properties.items():
        if isinstance(field, Mapping | bool):
            continue
        kind = _JSON_TYPES.get(field, "") if isinstance(field, type) else field if isinstance(field, str) else ""
        hint = f'; write {{"type": "{kind}"}}' if kind else ""
        shown = field.__name__ if isinstance(field, type) else repr(field)[:40]
        raise _WrongSchemaError(f"the field {path}{name} is {shown}, and must be a schema{hint}")
