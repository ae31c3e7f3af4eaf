"""The connector specification: every setting of a `config.json`, for forms and for programs that check one.

Texts, defaults, choices and ranges come from the settings' own fields; only the connector's titles, examples and order
stand here. It must not know how settings are used.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from s3dest_dagster.keys import DEFAULT_PATH_FORMAT
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import OWN_SETTINGS_KEY
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about, choices
from s3dest_dagster.settings.formats import FORMATS, FormatSettings

REGIONS = (
    "af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
    "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ca-central-1", "ca-west-1", "cn-north-1",
    "cn-northwest-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1",
    "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "sa-east-1", "us-east-1", "us-east-2",
    "us-gov-east-1", "us-gov-west-1", "us-west-1", "us-west-2",
)  # fmt: skip
"""The regions that the form offers. A configuration may name any other: new regions need no new version."""

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
_REQUIRED = ["s3_bucket_name", "s3_bucket_path", "s3_bucket_region", "format"]


def connector_spec() -> dict[str, Any]:
    """The specification as the Airbyte protocol has it (the `spec` of a SPEC message)."""
    return {
        "supportsIncremental": True,
        "supportsNormalization": False,
        "supportsDBT": False,
        "supported_destination_sync_modes": ["overwrite", "append"],
        "connectionSpecification": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "S3 Destination Spec",
            "type": "object",
            "required": _REQUIRED,
            "properties": {**_connector_properties(), OWN_SETTINGS_KEY: _own_settings()},
        },
    }


def _connector_properties() -> dict[str, Any]:
    """The ten keys of the connector, in its order."""
    known = {about(each).connector: about(each) for cls in (S3Destination, S3Connection) for each in fields(cls)}
    properties: dict[str, Any] = {}
    for order, (key, (title, more)) in enumerate(_CONNECTOR_KEYS.items()):
        secret = {"airbyte_secret": True} if key in _CONNECTOR_SECRETS else {}
        described = {"title": title, "type": "string", "description": known[key].plain}
        properties[key] = {**described, **secret, **more, "order": order}
    properties["format"]["oneOf"] = [_format(each) for each in FORMATS]
    return properties


# ---------------------------------------------------------------------- formats


_TITLES = {"block_size_mb": "Block Size (Row Group Size) (MB)"}
"""Titles of the connector that do not follow from a setting's name."""


def _format(settings: type[FormatSettings]) -> dict[str, Any]:
    """One format of the form: its name, and the options that the connector has for it."""
    properties: dict[str, Any] = {"format_type": {"title": "Format Type", **_constant(settings.format_type)}}
    for each in fields(settings):
        name, _, inner = about(each).connector.partition(".")
        if name and name not in properties:
            properties[name] = _alternatives(settings, each, name, inner) if inner else _option(settings, each)
    required = ["format_type", *settings.required_in_config]
    return {"title": settings.title, "required": required, "properties": properties}


def _option(settings: type[FormatSettings], each: Field[Any]) -> dict[str, Any]:
    typed = _typed(get_type_hints(settings)[each.name])
    return {"title": _title(each.name), "description": about(each).plain, **typed, "default": each.default}


def _alternatives(settings: type[FormatSettings], lead: Field[Any], name: str, key: str) -> dict[str, Any]:
    """An object of options: one alternative for each choice of its first one."""
    found = choices(get_type_hints(settings)[lead.name])
    return {
        "title": _title(name),
        "description": about(lead).plain,
        "type": "object",
        "oneOf": [_alternative(settings, key, choice) for choice in found],
    }


def _alternative(settings: type[FormatSettings], key: str, choice: str) -> dict[str, Any]:
    """One choice, and the options that belong to it. Those whose default depends on it must be given."""
    by_name, beside = {each.name: each for each in fields(settings)}, settings.options_beside(choice)
    options = {name: _option(settings, by_name[name]) | {**more} for name, more in beside.items()}
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
    """What stands under "s3dest": every setting that the connector does not have."""
    properties = {
        each.name: _own_setting(cls, each)
        for cls in (S3Destination, S3Connection)
        for each in fields(cls)
        if not about(each).connector
    }
    format_properties = {each.name: _own_setting(cls, each) for cls, each in _own_format_settings()}
    properties["format"] = {
        "title": "Format",
        "type": "object",
        "description": "Settings of the chosen format.",
        "additionalProperties": False,
        "properties": format_properties,
    }
    return {
        "title": "More settings",
        "type": "object",
        "description": "Settings beyond the connector's.",
        "additionalProperties": False,
        "properties": properties,
        "order": len(_CONNECTOR_KEYS),
    }


def _own_format_settings() -> Iterator[tuple[type, Field[Any]]]:
    for cls in FORMATS:
        yield from ((cls, each) for each in fields(cls) if not about(each).connector)


def _own_setting(cls: type, each: Field[Any]) -> dict[str, Any]:
    known = about(each)
    setting = {
        "title": each.name.replace("_", " ").capitalize(),
        "description": known.plain,
        **_typed(get_type_hints(cls)[each.name]),
    }
    bounds = {"minimum": known.at_least, "exclusiveMinimum": known.above, "maximum": known.at_most}
    setting |= {word: bound for word, bound in bounds.items() if bound is not None}
    if each.default is not None:
        setting["default"] = each.default
    return {**setting, "airbyte_secret": True} if known.secret else setting


def _typed(hint: Any) -> dict[str, Any]:
    """JSON schema of a setting's type."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    if found := choices(hint):
        return {"type": "string", "enum": list(found)}
    if get_origin(hint) is Mapping:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    return {"type": {bool: "boolean", int: "integer", float: "number", str: "string"}[hint]}
