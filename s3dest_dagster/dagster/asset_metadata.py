"""Which stream an asset is, and which of its scopes a step works on: read from what the asset declares.

A stream travels as an object in the asset's definition metadata, beside texts for people; an asset that carries none
is a stream named after its key. It must not know where streams come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dagster as dg
from dagster._check import CheckError
from dagster._core.definitions.metadata.metadata_value import ObjectMetadataValue

from s3dest_dagster.dagster.metadata import MOST_ROWS
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources.templating import Window, partition_values
from s3dest_dagster.stream import Scope, Stream, StreamId

_EXAMPLE = '{"type": "object", "properties": {"id": {"type": "integer"}}}'
_WORDS = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "unevaluatedProperties",
        "items",
        "anyOf",
        "allOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "enum",
        "const",
        "definitions",
        "title",
        "description",
        "default",
        "examples",
        "dependentRequired",
        "dependentSchemas",
        "minProperties",
        "maxProperties",
        "readOnly",
        "writeOnly",
        "deprecated",
        "format",
    }
)
"""Words of JSON Schema that may stand in the schema of a record."""
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}


def check_record_schema(schema: Any, stream: str) -> None:
    """Returns when the schema is one of an object, or None. Raises SettingsError, with the right form, otherwise: such
    a schema would declare no field, and all of a record's values would land in the overflow."""
    if schema is None:
        return
    try:
        _check_root(schema)
        for path, each in _objects(schema):
            _check_properties(path, each)
        json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise _wrong(stream, f"it is no JSON: {error}") from None
    except _WrongError as error:
        raise _wrong(stream, str(error)) from None


class _WrongError(Exception):
    """Why a schema is none of a record."""


def _wrong(stream: str, reason: str) -> SettingsError:
    return SettingsError(
        f"json_schema of {stream} is no JSON schema of a record: {reason}. It looks like {_EXAMPLE}.",
        stream=stream,
        setting="json_schema",
    )


def _check_root(schema: Any) -> None:
    if hasattr(schema, "model_json_schema"):
        raise _WrongError("it is a pydantic model; give its model_json_schema()")
    if type(schema).__module__.startswith("pyarrow"):
        raise _WrongError("it is Arrow's; leave json_schema out, and Arrow data brings its own schema")
    if not isinstance(schema, Mapping):
        raise _WrongError(f"it is a {schema.__name__ if isinstance(schema, type) else type(schema).__name__}")
    if not schema:
        raise _WrongError("it is empty; leave it out, and the first records tell their fields")
    if not any(name in _WORDS or str(name).startswith(("$", "x-", "airbyte")) for name in schema):
        names = ", ".join(map(repr, list(schema)[:3]))
        raise _WrongError(f"it names {names} where the words of JSON Schema stand; fields stand in its properties")
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list | tuple) else [kinds]):
        raise _WrongError(f"its type is {kinds!r}, and a record is an object")


def _objects(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The schema and those within it that have properties, by their paths."""
    left: list[tuple[str, Any]] = [("", schema)]
    while left:
        path, each = left.pop()
        if not isinstance(each, Mapping):
            continue
        if "properties" in each:
            yield path, each
            found = each["properties"]
            left += [(f"{path}{name}.", inner) for name, inner in found.items()] if isinstance(found, Mapping) else []
        left += [(f"{path}items.", each["items"])] if "items" in each else []


def _check_properties(path: str, schema: Mapping[str, Any]) -> None:
    properties = schema["properties"]
    if not isinstance(properties, Mapping):
        raise _WrongError(f"{path}properties is a {type(properties).__name__}, and must map names to schemas")
    for name, each in properties.items():
        if isinstance(each, Mapping | bool):
            continue
        kind = _JSON_TYPES.get(each, "") if isinstance(each, type) else each if isinstance(each, str) else ""
        hint = f'; write {{"type": "{kind}"}}' if kind else ""
        what = each.__name__ if isinstance(each, type) else repr(each)[:40]
        raise _WrongError(f"the field {path}{name} is {what}, and must be a schema{hint}")


STREAM_KEY = "s3dest/stream"
NAME_KEY = "s3dest/name"
NAMESPACE_KEY = "s3dest/namespace"
SYNC_MODE_KEY = "s3dest/sync_mode"
JSON_SCHEMA_KEY = "s3dest/json_schema"
PREVIEW_ROWS_KEY = "s3dest/preview_rows"


def stream_metadata(stream: Stream) -> dict[str, Any]:
    """The definition metadata of an asset that is this stream."""
    # The web interface lists every entry, and of this one shows the text.
    carried = ObjectMetadataValue(str(stream.id), instance=stream)
    return {STREAM_KEY: carried, SYNC_MODE_KEY: stream.sync_mode.value}


def stream_of(key: dg.AssetKey, definition: Mapping[str, Any], output: Mapping[str, Any] | None = None) -> Stream:
    """The stream that an asset is.

    An asset without one in its definition metadata is the stream of the last part of its key, in the namespace of the
    parts before; `s3dest/name`, `s3dest/namespace`, `s3dest/sync_mode` and `s3dest/json_schema` in its metadata say
    otherwise. `s3dest/sync_mode` in the output's metadata holds for this one time.
    """
    carried = definition.get(STREAM_KEY)
    stream = carried.instance if isinstance(carried, ObjectMetadataValue) else None
    if not isinstance(stream, Stream):
        stream = _named_after(key, definition)
    if (mode := _plain((output or {}).get(SYNC_MODE_KEY))) is not None:
        stream = replace(stream, sync_mode=mode)
    return stream


def preview_rows_of(definition: Mapping[str, Any], otherwise: int) -> int:
    """How many records an asset's preview shows: what `s3dest/preview_rows` of its definition says, if it does.

    Raises SettingsError for what is no number of rows.
    """
    rows = _plain(definition.get(PREVIEW_ROWS_KEY, otherwise))
    refuse_variables(PREVIEW_ROWS_KEY, rows)
    if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= MOST_ROWS:
        raise SettingsError(
            f"{rows!r} is no number of rows to show. Give 0, for no preview, to {MOST_ROWS}.",
            setting=PREVIEW_ROWS_KEY if PREVIEW_ROWS_KEY in definition else "preview_rows",
        )
    return rows


def _named_after(key: dg.AssetKey, definition: Mapping[str, Any]) -> Stream:
    given = {name: _plain(value) for name, value in definition.items()}
    mode = given.get(SYNC_MODE_KEY)
    check_record_schema(given.get(JSON_SCHEMA_KEY), key.to_user_string())
    return Stream(
        name=given.get(NAME_KEY) or key.path[-1],
        namespace=given.get(NAMESPACE_KEY, "/".join(key.path[:-1])),
        json_schema=given.get(JSON_SCHEMA_KEY),
        **({} if mode is None else {"sync_mode": mode}),
    )


def _plain(value: Any) -> Any:
    """A metadata value as it was given."""
    return value.value if isinstance(value, dg.MetadataValue) else value


def scopes_of(context: dg.OutputContext | dg.InputContext, stream: StreamId) -> dict[str | None, Scope]:
    """The scopes that a step writes or reads, by partition key, in the order of the partitions.

    An unpartitioned asset has one, under None. Raises SettingsError where the run's partitions are not among those of
    the asset; an input may have none.
    """
    if not context.has_asset_partitions:
        return {None: Scope(stream)}
    with _among_those_of(stream):
        keys = context.asset_partition_keys
    if not keys and isinstance(context, dg.OutputContext):
        raise _no_partition(stream)
    return partition_scopes(stream, context.asset_partitions_def, keys)


def partitions_of_run(context: dg.AssetExecutionContext, stream: StreamId) -> Sequence[str]:
    """The partitions that a step of this stream works on. SettingsError where they are not among the asset's."""
    with _among_those_of(stream):
        keys: Sequence[str] = context.partition_keys
    if not keys:
        raise _no_partition(stream)
    return keys


@contextmanager
def _among_those_of(stream: StreamId) -> Iterator[None]:
    """What Dagster raises for a partition that the asset does not have, in one sentence."""
    try:
        yield
    except (CheckError, ValueError, dg.DagsterError) as error:
        reason = " ".join(str(error).split()).removeprefix("Invariant failed. Description: ")
        raise _no_partition(stream, f": {reason.rstrip('.')}") from error


def _no_partition(stream: StreamId, reason: str = "") -> SettingsError:
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
    # Dagster gives the keys of a range of these in the order of a set.
    return {
        key: Scope(stream, str(key), dict(partitions.get_partition_key_from_str(key).keys_by_dimension))
        for key in sorted(map(str, keys))
    }


def values_of(partitions: dg.PartitionsDefinition[Any], key: str) -> dict[str, str | int]:
    """What a connector's config can name of this partition: its key, its dimensions, its time window. With several
    dimensions of time the windows are named after them only, since none is the partition's."""
    if not isinstance(partitions, dg.MultiPartitionsDefinition):
        start, end = _window(partitions, key) or (None, None)
        return partition_values(str(key), start=start, end=end)
    parts = dict(partitions.get_partition_key_from_str(key).keys_by_dimension)
    windows = {
        each.name: window
        for each in partitions.partitions_defs
        if (window := _window(each.partitions_def, parts[each.name])) is not None
    }
    start, end = next(iter(windows.values())) if len(windows) == 1 else (None, None)
    return partition_values(str(key), dimensions=parts, start=start, end=end, windows=windows)


def _window(partitions: dg.PartitionsDefinition[Any], key: str) -> Window | None:
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return None
    window = partitions.time_window_for_partition_key(key)
    return window.start, window.end
