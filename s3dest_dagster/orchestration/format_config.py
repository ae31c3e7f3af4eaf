"""The format's settings as Dagster's run config sees them: one config class per format, told apart by format_type.

In Python the frozen settings (`ParquetFormat(…)`) do as well. It must not know how formats are written.
"""

from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field, create_model

from s3dest_dagster.connector_config import parse_format
from s3dest_dagster.destination import (
    AvroFormat,
    CsvFormat,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
)
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.orchestration.config_fields import config_fields
from s3dest_dagster.setting_types import refuse_variables


def _config_class(kind: str, settings: type[FormatSettings], text: str) -> Any:
    """The config class of a format: its `format_type`, and the format's own settings."""
    told_apart: Any = (Literal[kind], kind)
    name = f"{settings.__name__}Config"
    return create_model(
        name, __base__=dg.Config, __module__=__name__, __doc__=text, format_type=told_apart, **config_fields(settings)
    )


JsonlFormatConfig: Any = _config_class("JSONL", JsonlFormat, "JSON Lines: one JSON object per line.")
CsvFormatConfig: Any = _config_class("CSV", CsvFormat, "Comma-separated values.")
AvroFormatConfig: Any = _config_class("Avro", AvroFormat, "Avro object container files.")
ParquetFormatConfig: Any = _config_class("Parquet", ParquetFormat, "Parquet.")

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
    """What a user gives for `format`, as a config: frozen settings, the connector's own `format` object, and a name,
    which is the format with its defaults.

    Anything else is left to Dagster: a config, or the run config's `{"Parquet": {…}}`. Raises SettingsError for
    members of a `format` object that mean nothing.
    """
    if isinstance(value, FormatSettings):
        return format_config(value)
    refuse_variables("format", value if isinstance(value, str) else None)
    if isinstance(value, str):
        return format_config(_parsed({"format_type": value}))
    if isinstance(value, Mapping) and "format_type" in value:
        refuse_variables("format", value)
        return format_config(_parsed(value))
    return value


def _parsed(value: Mapping[str, Any]) -> FormatSettings:
    settings, ignored = parse_format(value)
    if ignored:
        raise SettingsError(f"{', '.join(ignored)} means nothing here. Remove it.", setting=ignored[0])
    return settings
