"""The format's settings as Dagster's run config sees them: one config class per format, told apart by format_type.

In Python the frozen settings (`ParquetFormat(…)`) do as well. It must not know how formats are written.
"""

from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field

from s3dest_dagster.connector_config import parse_format
from s3dest_dagster.destination import (
    AvroCodecName,
    AvroFormat,
    CsvFormat,
    FormatSettings,
    GzipEffort,
    JsonlFormat,
    ParquetCodec,
    ParquetFormat,
)
from s3dest_dagster.errors import SettingsError

_Flattening = Literal["No flattening", "Root level flattening"]
_TextCompression = Literal["No Compression", "GZIP"]
_FLATTENING: Any = Field(
    default="No flattening", description="Whether the fields of a record become columns of their own."
)
_COMPRESSION: Any = Field(default="GZIP", description="Compression of the whole object.")
_EFFORT: Any = Field(default="balanced", description="How hard GZIP tries: fast, balanced, or small.")


class JsonlFormatConfig(dg.Config):
    """JSON Lines: one JSON object per line."""

    format_type: Literal["JSONL"] = "JSONL"
    flattening: _Flattening = _FLATTENING
    compression: _TextCompression = _COMPRESSION
    gzip_effort: GzipEffort = _EFFORT
    emitted_at: Literal["text", "number"] = Field(
        default="text", description="Emission time as the documented text, or as a number as the connector writes it."
    )


class CsvFormatConfig(dg.Config):
    """Comma-separated values."""

    format_type: Literal["CSV"] = "CSV"
    flattening: _Flattening = _FLATTENING
    compression: _TextCompression = _COMPRESSION
    gzip_effort: GzipEffort = _EFFORT
    additional_properties_column: bool = Field(
        default=False, description="Keep undeclared fields as JSON in a last column (with root level flattening)."
    )


class AvroFormatConfig(dg.Config):
    """Avro object container files."""

    format_type: Literal["Avro"] = "Avro"
    codec: AvroCodecName = Field(default="no compression", description="Compression of the blocks.")
    compression_level: int | None = Field(
        default=None, description="Deflate 0 to 9 (0), xz 0 to 9 (6), zstandard -5 to 22 (3)."
    )
    include_checksum: bool = Field(default=False, description="Add zstandard's checksum to each block.")


class ParquetFormatConfig(dg.Config):
    """Parquet."""

    format_type: Literal["Parquet"] = "Parquet"
    compression_codec: ParquetCodec = Field(default="UNCOMPRESSED", description="Compression of the pages.")
    block_size_mb: int = Field(default=128, description="Size of a row group.")
    max_padding_size_mb: int = Field(default=8, description="Accepted for parity; S3 has no blocks to pad to.")
    page_size_kb: int = Field(default=1024, description="Size of a page.")
    dictionary_page_size_kb: int = Field(default=1024, description="Size of a dictionary page.")
    dictionary_encoding: bool = Field(default=True, description="Whether values are encoded by dictionary.")
    union_layout: Literal["named", "member"] = Field(
        default="named", description="Members of union structs: named after their types, or as the connector does."
    )


FormatConfig = Annotated[
    AvroFormatConfig | CsvFormatConfig | JsonlFormatConfig | ParquetFormatConfig, Field(discriminator="format_type")
]

_SETTINGS: dict[type[dg.Config], type[FormatSettings]] = {
    AvroFormatConfig: AvroFormat,
    CsvFormatConfig: CsvFormat,
    JsonlFormatConfig: JsonlFormat,
    ParquetFormatConfig: ParquetFormat,
}
_CONFIGS: dict[type[FormatSettings], type[dg.Config]] = {made: config for config, made in _SETTINGS.items()}


def format_settings(config: dg.Config) -> FormatSettings:
    """The settings that a config stands for. Raises SettingsError for impossible combinations."""
    given = {name: getattr(config, name) for name in type(config).model_fields if name != "format_type"}
    return _SETTINGS[type(config)](**given)


def format_config(settings: FormatSettings) -> dg.Config:
    """The config that stands for the settings."""
    values = {name: value.value if isinstance(value, Enum) else value for name, value in asdict(settings).items()}
    return _CONFIGS[type(settings)](**values)


def as_format_config(value: Any) -> Any:
    """What a user gives for `format`, as a config: frozen settings, and the connector's own `format` object.

    Anything else is left to Dagster: a config, or the run config's `{"Parquet": {…}}`. Raises SettingsError for
    members of a `format` object that mean nothing.
    """
    if isinstance(value, FormatSettings):
        return format_config(value)
    if isinstance(value, Mapping) and "format_type" in value:
        return format_config(_parsed(value))
    return value


def _parsed(value: Mapping[str, Any]) -> FormatSettings:
    settings, ignored = parse_format(value)
    if ignored:
        raise SettingsError(f"{', '.join(ignored)} means nothing here. Remove it.", setting=ignored[0])
    return settings
