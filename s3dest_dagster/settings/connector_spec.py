"""The connector specification: every setting of a `config.json`, for forms and for programs that check such a file.

Texts, defaults, choices and ranges come from the settings' own fields. Only the connector's titles, examples and order
are here. Must not know: how settings are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from enum import StrEnum
from typing import Any, get_args, get_origin

from s3dest_dagster.keys import DEFAULT_PATH_FORMAT
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import DEDUP_KEY, OWN_SETTINGS_KEY, REQUIRED_KEYS, STREAMS_KEY, Dedup
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about, choices, default_of, types_of
from s3dest_dagster.settings.formats import FORMATS, FormatSettings
from s3dest_dagster.settings.stream_settings import FieldSelection, OnDeselected, StreamSettings

REGIONS = (
    "af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
    "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ca-central-1", "ca-west-1", "cn-north-1",
    "cn-northwest-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1",
    "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "sa-east-1", "us-east-1", "us-east-2",
    "us-gov-east-1", "us-gov-west-1", "us-west-1", "us-west-2",
)  # fmt: skip
"""The regions that the form offers. A configuration may name any other region, so new ones need no new version."""

_CONNECTOR_KEYS: dict[str, tuple[str, dict[str, Any]]] = {
    "access_key_id": ("S3 Key ID", {"always_show": True, "examples": ["A012345678910EXAMPLE"]}),
    "secret_access_key": (
        "S3 Access Key",
        {"always_show": True, "examples": ["a012345678910ABCDEFGH/AbCdEfGhEXAMPLEKEY"]},
    ),
    "role_arn": ("Role ARN", {"examples": ["arn:aws:iam::123456789:role/ExternalIdIsYourWorkspaceId"]}),
    "s3_bucket_name": ("S3 Bucket Name", {"examples": ["airbyte_sync"]}),
    "s3_bucket_path": ("S3 Bucket Path", {"examples": ["data_sync/test"]}),
    "s3_bucket_region": ("S3 Bucket Region", {"default": "", "enum": ["", *REGIONS]}),
    "format": ("Output Format", {"type": "object"}),
    "s3_endpoint": ("Endpoint", {"default": "", "examples": ["http://localhost:9000"]}),
    "s3_path_format": ("S3 Path Format", {"examples": [DEFAULT_PATH_FORMAT]}),
    "file_name_pattern": (
        "S3 Filename pattern",
        {"examples": ["{date}", "{date:yyyy_MM}", "{timestamp}", "{part_number}", "{sync_id}"]},
    ),
}
"""The connector's keys in its order, with its titles and examples."""
_CONNECTOR_SECRETS = frozenset({"access_key_id", "secret_access_key"})
"""The keys that the connector hides in a form."""


def connector_spec() -> dict[str, Any]:
    """The specification in the form of the Airbyte protocol (the `spec` of a SPEC message)."""
    return {
        "documentationUrl": "https://docs.airbyte.com/integrations/destinations/s3",
        "supportsIncremental": True,
        "supportsNormalization": False,
        "supportsDBT": False,
        "supported_destination_sync_modes": ["overwrite", "append"],
        "connectionSpecification": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "S3 Destination Spec",
            "type": "object",
            "required": [*REQUIRED_KEYS],
            "properties": {**_connector_properties(), OWN_SETTINGS_KEY: _own_settings()},
        },
    }


def _connector_properties() -> dict[str, Any]:
    """The ten keys of the connector, in its order."""
    known = {about(each).connector: about(each) for cls in (S3Destination, S3Connection) for each in fields(cls)}
    properties: dict[str, Any] = {}
    for order, (key, (title, more)) in enumerate(_CONNECTOR_KEYS.items()):
        secret = {"airbyte_secret": True} if key in _CONNECTOR_SECRETS else {}
        described = {"title": title, "type": "string", "description": known[key].description}
        properties[key] = {**described, **secret, **more, "order": order}
    properties["format"]["oneOf"] = [_format(each) for each in FORMATS]
    return properties


# ---------------------------------------------------------------------- formats


_TITLES = {"block_size_mb": "Block Size (Row Group Size) (MB)"}
"""The connector's titles that do not follow from a setting's name."""
_IN_ORDER = frozenset({"Avro"})
"""The formats whose options the connector numbers."""
_WITH_EXAMPLES = frozenset({"block_size_mb", "max_padding_size_mb", "page_size_kb", "dictionary_page_size_kb"})
"""The options whose default the connector gives as an example, too."""


def _format(settings: type[FormatSettings]) -> dict[str, Any]:
    """One format of the form: its name, and the options that the connector has for it."""
    properties: dict[str, Any] = {"format_type": {"title": "Format Type", **_constant(settings.format_type)}}
    for each in fields(settings):
        name, _, inner = about(each).connector.partition(".")
        if name and name not in properties:
            properties[name] = (
                _alternatives(settings, each, name, inner) if inner else _setting(settings, each, _title(each.name))
            )
    for order, (name, option) in enumerate(properties.items()):
        option |= {"order": order} if settings.format_type in _IN_ORDER else {}
        option |= {"examples": [option["default"]]} if name in _WITH_EXAMPLES else {}
    required = ["format_type", *settings.required_in_config]
    return {"title": settings.title, "required": required, "properties": properties}


def _setting(settings: type, each: Field[Any], title: str) -> dict[str, Any]:
    """The JSON schema of a setting, made from its field."""
    known = about(each)
    default = default_of(each) if known.connector_default is None else known.connector_default
    schema = {"title": title, "description": known.description, **_type(types_of(settings)[each.name][0])}
    bounds = {"minimum": known.at_least, "exclusiveMinimum": known.above, "maximum": known.at_most}
    schema |= {word: bound for word, bound in bounds.items() if bound is not None}
    if default is not None and default is not MISSING:
        schema["default"] = default.value if isinstance(default, StrEnum) else default
    return {**schema, "airbyte_secret": True} if known.secret else schema


def _type(hint: Any) -> dict[str, Any]:
    if found := choices(hint):
        return {"type": "string", "enum": list(found)}
    if get_origin(hint) is Mapping:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    return {"type": {bool: "boolean", int: "integer", float: "number", str: "string"}[hint]}


def _alternatives(settings: type[FormatSettings], lead: Field[Any], name: str, key: str) -> dict[str, Any]:
    """An object of options, with one alternative per choice of its first option."""
    found = choices(types_of(settings)[lead.name][0])
    return {
        "title": _title(name),
        "description": about(lead).description,
        "type": "object",
        "oneOf": [_alternative(settings, key, choice) for choice in found],
    }


def _alternative(settings: type[FormatSettings], key: str, choice: str) -> dict[str, Any]:
    """One choice, and the options that belong to it. Options whose default depends on the choice are required."""
    by_name, beside = {each.name: each for each in fields(settings)}, settings.options_beside(choice)
    options = {name: _setting(settings, by_name[name], _title(name)) | {**more} for name, more in beside.items()}
    return {
        "title": choice.title() if choice.lower() == "no compression" else choice,
        "required": [key, *(name for name in options if by_name[name].default is None)],
        "properties": {key: _constant(choice), **options},
    }


def _title(name: str) -> str:
    words = [f"({word.upper()})" if word in ("mb", "kb") else word.capitalize() for word in name.split("_")]
    return _TITLES.get(name, " ".join(words))


def _constant(value: str) -> dict[str, Any]:
    return {"type": "string", "enum": [value], "default": value}


# ---------------------------------------------------------------------- our own settings


def _own_settings() -> dict[str, Any]:
    """The settings under "s3dest": all settings that the connector does not have."""
    format_settings = {
        "title": "Format",
        "type": "object",
        "description": "Settings of the chosen format.",
        "additionalProperties": False,
        "properties": _own(*FORMATS),
    }
    return {
        "title": "More settings",
        "type": "object",
        "description": "Settings beyond the connector's.",
        "additionalProperties": False,
        "properties": {
            **_own(S3Destination, S3Connection),
            "format": format_settings,
            STREAMS_KEY: _settings_of_streams(),
            DEDUP_KEY: _DEDUP,
        },
        "order": len(_CONNECTOR_KEYS),
    }


_DEDUP = {
    "title": "Dedup",
    "type": "string",
    "description": "What is done with streams that a configured catalog wants deduplicated, which files cannot be: "
    "they are refused, or land with all their records, with a warning.",
    "enum": [*get_args(Dedup)],
    "default": "refuse",
}
_PATHS = {"type": "array", "items": {"type": ["string", "array"], "items": {"type": "string"}}}
_FIELDS_FORM = {"include": _PATHS, "exclude": _PATHS, "hash": _PATHS, "mask": _PATHS}
STREAM_FORM: dict[str, dict[str, Any]] = {
    "owner": {"type": "string"},
    "rename": {"type": "object", "additionalProperties": {"type": "string"}},
    "fields": {"type": "object", "additionalProperties": False},
    "deselected_fields": {"type": "string", "enum": list(get_args(OnDeselected))},
    "schema_contract": {"type": ["string", "object"], "additionalProperties": {"type": "string"}},
    "partition_by": {"type": "array", "items": {"type": ["string", "array", "object"]}},
    "expire_partitions_after": {"type": "integer", "minimum": 0},
}
"""The JSON schema of every setting of a stream, without its text."""


def _settings_of_streams() -> dict[str, Any]:
    """The settings of single streams, by the streams' names."""
    form = _described(StreamSettings, STREAM_FORM)
    form["fields"]["properties"] = _described(FieldSelection, _FIELDS_FORM)
    return {
        "title": "Streams",
        "type": "object",
        "description": 'Settings of single streams, by the names of the streams, as "orders" or "shop.orders".',
        "additionalProperties": {"type": "object", "additionalProperties": False, "properties": form},
    }


def _described(settings: type, form: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The JSON schemas of settings, with their titles and texts."""
    known = {each.name: about(each).description for each in fields(settings)}
    return {
        name: {"title": name.replace("_", " ").capitalize(), "description": known[name], **schema}
        for name, schema in form.items()
    }


def _own(*classes: Any) -> dict[str, Any]:
    return {
        each.name: _setting(cls, each, each.name.replace("_", " ").capitalize())
        for cls in classes
        for each in fields(cls)
        if not about(each).connector
    }
