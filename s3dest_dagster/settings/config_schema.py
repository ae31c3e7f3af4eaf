"""The JSON schema of a configuration for editors, which mark a wrong key or value while it is written.

It is stricter than the specification that Airbyte gets: keys that the connector would ignore are wrong. Must not know:
what the settings do.
"""

from __future__ import annotations

from typing import Any

from s3dest_dagster.settings.connector_spec import connector_spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""The version of JSON Schema that all of our schemas have."""
PASTED_KEYS = frozenset({"destinationType", "destination_type"})
"""Keys that Airbyte's API adds to a configuration, and that mean nothing here."""
_REQUIRED = ["s3_bucket_name", "s3_bucket_path", "s3_bucket_region", "format"]


def config_schema() -> dict[str, Any]:
    """The schema of a `config.json`, in draft 2020-12.

    Example:
        jsonschema.validate(config, config_schema())
    """
    specified = connector_spec()["connectionSpecification"]
    schema = closed(specified)
    assert isinstance(schema, dict)
    return {
        **schema,
        "$schema": DIALECT,
        "title": "A configuration of s3dest_dagster",
        "required": _REQUIRED,
        "properties": {**schema["properties"], **{name: {} for name in sorted(PASTED_KEYS)}},
    }


def closed(schema: Any) -> Any:
    """The schema, in which no object has a key that the schema does not name.

    An object that already says something about further keys is left as it is: its keys are names that users choose.

    Args:
        schema: A schema, or any part of one.

    Example:
        closed({"properties": {"id": {}}})  # {"properties": {"id": {}}, "additionalProperties": False}
    """
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    names_keys = isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema
    return {**inner, "additionalProperties": False} if names_keys else inner
