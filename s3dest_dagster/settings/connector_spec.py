"""The connector specification: every setting of a `config.json`, for forms and for programs that check one.

Texts, defaults, choices and ranges come from the settings' own fields; only the connector's titles, examples and order
stand here. It must not know how settings are used.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from s3dest_dagster.keys import DEFAULT_PATH_FORMAT
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import OWN_SETTINGS_KEY
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about
from s3dest_dagster.settings.formats import (
    AVRO_LEVELS,
    AvroCodecName,
    AvroFormat,
    CsvFormat,
    Flattening,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)

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
    properties["format"]["oneOf"] = [_csv(), _jsonl(), _avro(), _parquet()]
    return properties


# ---------------------------------------------------------------------- formats


def _csv() -> dict[str, Any]:
    return _format("CSV: Comma-Separated Values", "CSV", _text_options(".csv"), required=["flattening"])


def _jsonl() -> dict[str, Any]:
    return _format("JSON Lines: Newline-delimited JSON", "JSONL", _text_options(".jsonl"))


def _avro() -> dict[str, Any]:
    codec = {
        "title": "Compression Codec",
        "description": "Compression of the blocks of records.",
        "type": "object",
        "oneOf": [_avro_codec(name) for name in get_args(AvroCodecName)],
    }
    return _format("Avro: Apache Avro", "Avro", {"compression_codec": codec}, required=["compression_codec"])


def _parquet() -> dict[str, Any]:
    hints, known = get_type_hints(ParquetFormat), {each.name: each for each in fields(ParquetFormat)}
    properties = {
        name: {
            "title": title,
            "description": about(known[name]).plain,
            **_typed(hints[name]),
            "default": known[name].default,
        }
        for name, title in _PARQUET_TITLES.items()
    }
    return _format("Parquet: Columnar Storage", "Parquet", properties)


_PARQUET_TITLES = {
    "compression_codec": "Compression Codec",
    "block_size_mb": "Block Size (Row Group Size) (MB)",
    "max_padding_size_mb": "Max Padding Size (MB)",
    "page_size_kb": "Page Size (KB)",
    "dictionary_page_size_kb": "Dictionary Page Size (KB)",
    "dictionary_encoding": "Dictionary Encoding",
}


def _format(title: str, kind: str, options: dict[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    discriminator = {"title": "Format Type", **_constant(kind)}
    return {
        "title": title,
        "required": ["format_type", *(required or [])],
        "properties": {"format_type": discriminator, **options},
    }


def _text_options(extension: str) -> dict[str, Any]:
    compressions = [
        {"title": title, "required": ["compression_type"], "properties": {"compression_type": _constant(each.value)}}
        for title, each in (("No Compression", TextCompression.NONE), ("GZIP", TextCompression.GZIP))
    ]
    return {
        "flattening": {
            "title": "Flattening",
            "description": "Whether the fields of a record become columns of their own.",
            **_typed(Flattening),
            "default": CsvFormat().flattening.value,
        },
        "compression": {
            "title": "Compression",
            "description": f"Compression of the objects; GZIP when left out (then keys end with {extension}.gz).",
            "type": "object",
            "oneOf": compressions,
        },
    }


def _avro_codec(name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"codec": _constant(name)}
    if name in AVRO_LEVELS:
        lowest, highest, default = AVRO_LEVELS[name]
        properties["compression_level"] = {
            "title": "Deflate Level" if name == "Deflate" else "Compression Level",
            "description": f"{lowest} is the fastest, {highest} makes the smallest objects.",
            "type": "integer",
            "default": default,
            "minimum": lowest,
            "maximum": highest,
        }
    required = list(properties)
    if name == "zstandard":
        properties["include_checksum"] = {
            "title": "Include Checksum",
            "description": "Adds a checksum of its content to each block.",
            "type": "boolean",
            "default": AvroFormat().include_checksum,
        }
    title = "No Compression" if name == "no compression" else name
    return {"title": title, "required": required, "properties": properties}


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
    for cls in (CsvFormat, JsonlFormat, ParquetFormat):
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
    if get_origin(hint) is Literal:
        return {"type": "string", "enum": list(get_args(hint))}
    if get_origin(hint) is Mapping:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"type": "string", "enum": [each.value for each in hint]}
    return {"type": {bool: "boolean", int: "integer", float: "number", str: "string"}[hint]}
