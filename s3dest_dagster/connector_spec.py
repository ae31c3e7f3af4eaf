"""The connector specification: every setting of a `config.json`, for forms and for programs that check one.

Defaults, choices and ranges come from the settings' own classes; only titles, words and orders stand here. It must not
know how settings are used.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from s3dest_dagster.connection import S3Connection
from s3dest_dagster.connector_config import OWN_SETTINGS_KEY
from s3dest_dagster.destination import (
    AVRO_LEVELS,
    AvroCodecName,
    AvroFormat,
    CsvFormat,
    Flattening,
    JsonlFormat,
    ParquetFormat,
    S3Destination,
    TextCompression,
)
from s3dest_dagster.keys import DEFAULT_PATH_FORMAT

REGIONS = (
    "af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
    "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ca-central-1", "ca-west-1", "cn-north-1",
    "cn-northwest-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1",
    "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "sa-east-1", "us-east-1", "us-east-2",
    "us-gov-east-1", "us-gov-west-1", "us-west-1", "us-west-2",
)  # fmt: skip
"""The regions that the form offers. A configuration may name any other: new regions need no new version."""

_CONNECTOR_KEYS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "access_key_id": (
        "S3 Key ID",
        "Access key id of an identity that may read and write the bucket. Leave it out to use the role, or the "
        "machine's own identity.",
        {"airbyte_secret": True, "always_show": True, "examples": ["A012345678910EXAMPLE"]},
    ),
    "secret_access_key": (
        "S3 Access Key",
        "The secret that belongs to the access key id.",
        {"airbyte_secret": True, "always_show": True, "examples": ["a012345678910ABCDEFGH/AbCdEfGhEXAMPLEKEY"]},
    ),
    "role_arn": (
        "Role ARN",
        "Role to assume. Access keys, when they are given, win over it.",
        {"examples": ["arn:aws:iam::123456789:role/ExternalIdIsYourWorkspaceId"]},
    ),
    "s3_bucket_name": ("S3 Bucket Name", "Bucket to land in; it must exist.", {"examples": ["airbyte_sync"]}),
    "s3_bucket_path": (
        "S3 Bucket Path",
        "Directory of the bucket under which everything stands; empty for the bucket itself.",
        {"examples": ["data_sync/test"]},
    ),
    "s3_bucket_region": ("S3 Bucket Region", "Region of the bucket.", {"default": "", "enum": ["", *REGIONS]}),
    "format": ("Output Format", "Format of the objects.", {"type": "object"}),
    "s3_endpoint": (
        "Endpoint",
        "URL of a server that speaks S3; empty for AWS.",
        {"default": S3Connection().endpoint, "examples": ["http://localhost:9000"]},
    ),
    "s3_path_format": (
        "S3 Path Format",
        "How keys are made under the bucket path; what each variable stands for is in the documentation.",
        {"examples": [DEFAULT_PATH_FORMAT]},
    ),
    "file_name_pattern": (
        "S3 Filename pattern",
        "How the names of objects end; empty for the part number and the format's extension.",
        {"examples": ["{date}", "{date:yyyy_MM}", "{timestamp}", "{part_number}", "{sync_id}"]},
    ),
}
_REQUIRED = ["s3_bucket_name", "s3_bucket_path", "s3_bucket_region", "format"]

_OWN_SETTINGS: dict[str, str] = {
    "stream_prefix": "Stands before the name of every stream.",
    "object_size_mb": "An object is closed once it has this many megabytes (10⁶ bytes, compressed).",
    "part_size_mb": "Size of the parts that are uploaded, in mebibytes (2²⁰ bytes); at least 5.",
    "upload_threads": "Threads that upload parts.",
    "encode_workers": "Threads that encode and compress, the one that reads among them.",
    "memory_mb": "Memory in MB (2^20) that all streams may hold together; beyond it row groups and objects end early.",
    "on_type_mismatch": "A value that does not fit its declared type goes to the overflow column, or fails the sync.",
    "on_unknown_type": "In Avro and Parquet a field whose declared type is not known fails the sync, or lands as text.",
    "on_bad_record": "A line that is no record fails the sync, or is kept with its reason beside the manifests.",
    "on_rematerialize": "Landing a partition of an append stream again replaces that partition, or adds to it.",
    "on_empty_refresh": "A full refresh without a record publishes the empty state, keeps the old one, or fails.",
    "on_template_change": "A stream that has landed under another template is refused, or goes on under this one.",
    "publish_order": "Replaced objects are deleted after the new ones are visible, or before.",
    "delete_grace_s": "Replaced objects stay this many seconds longer for their readers; not with purge_first.",
    "checkpoint_interval_s": "A long append is published with its state every so many seconds; 0: not by time.",
    "checkpoint_mb": "A long append is published with its state after so many megabytes of records; 0: not by size.",
    "abandoned_upload_age_s": "Unfinished uploads older than this many seconds are aborted.",
    "abort_grace_s": "Seconds that a sync which is given up waits at most for its uploads to be aborted.",
    "acl": "Canned ACL of the data objects; left out: what the bucket does.",
    "server_side_encryption": "Encryption of data and manifests; left out: what the bucket does.",
    "kms_key_id": "Key of AWS KMS that encrypts; left out: the account's own.",
    "storage_class": "Storage class of the data objects, as the server names it; left out: STANDARD.",
    "object_metadata": "User metadata of the data objects: names and texts in ASCII.",
    "session_token": "Session token of temporary access keys.",
    "profile_name": "Profile of the AWS configuration files that gives the identity.",
    "external_id": "External id for assuming the role; AWS_ASSUME_ROLE_EXTERNAL_ID when left out.",
    "role_session_name": "Name under which the assumed role appears in logs.",
    "role_duration_s": "Life of the role's credentials in seconds, 900 to 43200; they are renewed before they end.",
    "sts_endpoint": "URL of the security token service; empty for AWS.",
    "sts_region": "Region of the security token service; empty for the region of the bucket.",
    "allow_plain_http": "Allows http:// endpoints beyond this machine: data and signatures travel unencrypted.",
    "ca_bundle": "Path of the certificates of a private certificate authority.",
    "path_style": "Bucket name in the path instead of the host name; left out: for custom endpoints only.",
    "max_attempts": "Attempts of one request before it counts as failed.",
    "retry_deadline_s": "Seconds after which a request that failed is not tried again.",
    "connect_timeout_s": "Seconds to wait for a connection.",
    "read_timeout_s": "Seconds to wait for an answer.",
    "gzip_effort": "GZIP (CSV and JSON Lines): how hard it tries to make objects small.",
    "emitted_at": "JSON Lines: the emission time as text, or as the connector's number.",
    "additional_properties_column": "CSV, flattened: keeps undeclared fields as JSON in a last column.",
    "union_layout": "Parquet: members of fields of several types are named after their types, or member0, member1…",
}


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
    properties: dict[str, Any] = {}
    for order, (key, (title, description, more)) in enumerate(_CONNECTOR_KEYS.items()):
        properties[key] = {"title": title, "type": "string", "description": description, **more, "order": order}
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
    words = {
        "compression_codec": ("Compression Codec", "Compression of the pages."),
        "block_size_mb": ("Block Size (Row Group Size) (MB)", "Size of a row group; as much is held in memory."),
        "max_padding_size_mb": ("Max Padding Size (MB)", "Accepted, and without effect: S3 has no blocks to align to."),
        "page_size_kb": ("Page Size (KB)", "Size of a page, the smallest unit that a reader decompresses."),
        "dictionary_page_size_kb": ("Dictionary Page Size (KB)", "Size at which a column gives its dictionary up."),
        "dictionary_encoding": ("Dictionary Encoding", "Whether repeated values are written once."),
    }
    hints, defaults = get_type_hints(ParquetFormat), ParquetFormat()
    properties = {
        name: {"title": title, "description": text, **_typed(hints[name]), "default": getattr(defaults, name)}
        for name, (title, text) in words.items()
    }
    return _format("Parquet: Columnar Storage", "Parquet", properties)


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
        if each.name in _OWN_SETTINGS
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
        yield from ((cls, each) for each in fields(cls) if each.name in _OWN_SETTINGS)


def _own_setting(cls: type, each: Field[Any]) -> dict[str, Any]:
    setting = {
        "title": each.name.replace("_", " ").capitalize(),
        "description": _OWN_SETTINGS[each.name],
        **_typed(get_type_hints(cls)[each.name]),
    }
    if each.default is not None:
        setting["default"] = each.default
    # A field that its class keeps out of its repr is a secret.
    return setting if each.repr else {**setting, "airbyte_secret": True}


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
