"""`S3DestinationTranslator`: maps a stream to an asset, with its key, kinds, description, columns and code version.

Must not know: how the asset is built or landed.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import dagster as dg

from s3dest_dagster.columns.field_rules import selected_stream
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schemas import paths
from s3dest_dagster.dagster.asset_metadata import TABLE_NAME_KEY, stream_metadata
from s3dest_dagster.dagster.metadata import STORAGE_KIND, column_schema, digest
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.printable import markdown
from s3dest_dagster.settings.formats import FormatSettings
from s3dest_dagster.stream import Stream

_ILLEGAL = re.compile(r"[^A-Za-z0-9_]")
_DAGSTERS = "arg_dict bool conf config context dict float input input_arg_dict int meta output output_arg_dict str type"
_RESERVED = frozenset({*_DAGSTERS.split(), *keyword.kwlist})
"""Names that Dagster refuses as a complete name."""


class S3DestinationTranslator:
    """Maps each stream to an asset spec. Override `get_asset_spec` to change keys, groups, tags and other attributes.

    Args:
        format: The format in which the streams land, which is shown as one of the asset's kinds. None if unknown.

    Example:
        from s3dest_dagster import S3DestinationTranslator, stream_asset

        class CrmTranslator(S3DestinationTranslator):
            def get_asset_spec(self, stream):
                return super().get_asset_spec(stream).replace_attributes(group_name="crm")

        @stream_asset(translator=CrmTranslator())
        def users():
            yield {"id": 1}
    """

    def __init__(self, format: FormatSettings | None = None) -> None:
        self.format = format

    def get_asset_spec(self, stream: Stream) -> dg.AssetSpec:
        """The spec of the stream's asset.

        Its key consists of the namespace and the name, as far as Dagster's rules for names allow. It has the
        description of the stream or of its schema, the columns if the schema declares them, and a code version (see
        `code_version`).

        Raises SchemaError if the schema cannot be understood.
        """
        columns = column_schema(selected_stream(stream))
        return dg.AssetSpec(
            key=asset_key(stream),
            description=_shown_description(stream),
            # Dagster has icons for Parquet, CSV and JSON.
            kinds={STORAGE_KIND} | ({self.format.kind} if self.format is not None else set()),
            code_version=code_version(stream, self.format),
            metadata={
                **stream_metadata(stream),
                "dagster/storage_kind": STORAGE_KIND,
                TABLE_NAME_KEY: str(stream.id),
                **({"dagster/column_schema": columns} if columns is not None else {}),
            },
        )


def asset_key(stream: Stream) -> dg.AssetKey:
    """The stream's namespace and name as an asset key."""
    parts = [asset_name(part) for part in (stream.namespace, stream.name) if part]
    return dg.AssetKey([f"{parts[0]}_"] if len(parts) == 1 and parts[0] in _RESERVED else parts)


def asset_name(text: str) -> str:
    """The text as (a part of) an asset's name: accents are dropped, and other illegal characters become underscores."""
    letters = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return _ILLEGAL.sub("_", letters)


def check_distinct(assets: Iterable[tuple[Stream, dg.AssetKey]]) -> None:
    """Raises SettingsError, with both names, if two streams map to the same asset."""
    streams: dict[str, Stream] = {}
    for stream, key in assets:
        other = streams.setdefault(key.to_python_identifier(), stream)
        if other is not stream:
            raise SettingsError(
                f"The streams {str(other.id)!r} and {str(stream.id)!r} would both be the asset "
                f"{key.to_user_string()!r}: Dagster's names have only letters, digits and underscores. Give one of "
                "them another key in a translator, or select only one.",
                stream=str(stream.id),
            )


def code_version(stream: Stream, format: FormatSettings | None) -> str:
    """A text that changes if the declaration changes in such a way that the same records would land as other bytes.

    It is derived from the stream's name, namespace, sync mode and settings, the names and types of its columns as the
    JSON schema declares them, and, if the format is known, its options that differ from the defaults. The code of a
    function is ignored.

    Raises SchemaError if the schema cannot be understood.
    """
    columns: list[Any] = []
    schema = selected_stream(stream).json_schema
    if schema is not None:
        columns = list(paths(record_type(schema, stream.name, stream.namespace)))
    options = [] if format is None else [type(format).__name__, _changed_options(format)]
    settings = stream.settings.of_content()
    own = [settings] if settings else []
    return digest(stream.namespace, stream.name, stream.sync_mode.value, columns, options, *own)


def _changed_options(format: FormatSettings) -> dict[str, str]:
    return {
        option.name: str(value)
        for option in fields(format)
        if (value := getattr(format, option.name)) != option.default
    }


def _shown_description(stream: Stream) -> str | None:
    """The stream's own description as Markdown. A description from its schema comes from a source, and is shown
    literally."""
    in_schema = _schema_description(stream)
    if stream.description and stream.description != in_schema:
        return stream.description
    return in_schema and markdown(in_schema)


def _schema_description(stream: Stream) -> str | None:
    text = (stream.json_schema or {}).get("description")
    return text if isinstance(text, str) else None
