"""Whether what a user gives as `json_schema` is the JSON schema of a record, told before anything is landed by it.

It must not know how columns are made of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from s3dest_dagster.errors import SettingsError

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
