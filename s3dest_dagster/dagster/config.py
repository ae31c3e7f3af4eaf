"""A settings class as fields of Dagster's config: names, types, defaults and texts as the settings themselves say.

It must not know any setting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, asdict, fields
from enum import Enum, StrEnum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connector_config import parse_format
from s3dest_dagster.settings.fields import about, default_of, is_variable, refuse_variables
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, FormatSettings, JsonlFormat, ParquetFormat
from s3dest_dagster.sources.templating import Verbatim


def config_fields(
    settings: type,
    *,
    without: Collection[str] = (),
    name: Callable[[Any], str] = lambda each: str(each.name),
) -> dict[str, Any]:
    """Name → (type, field) for pydantic's `create_model`, in the order of the class. `name` gives what a field is
    called in the config, `without` what is left out, by that name."""
    hints = get_type_hints(settings)
    names = {each.name: name(each) for each in fields(settings)}
    return {
        names[each.name]: (config_type(hints[each.name]), config_field(each))
        for each in fields(settings)
        if names[each.name] not in without
    }


def config_field(each: Any) -> Any:
    """The field of one setting: its default and its text, and whether it is a secret."""
    default = default_of(each)
    given: dict[str, Any] = {"description": about(each).description}
    if default is not MISSING:
        given["default"] = default.value if isinstance(default, StrEnum) else default
    if about(each).secret:
        given |= {"repr": False, "json_schema_extra": {"dagster__is_secret": True}}
    return Field(**given)


def config_type(hint: Any) -> Any:
    """The type that Dagster's config has for a setting of this type. It knows no choice that may be left out: there a
    text stands, and the settings know which."""
    if get_origin(hint) in (Union, UnionType):
        (given,) = (each for each in get_args(hint) if each is not type(None))
        return (str if get_origin(given) is Literal else config_type(given)) | None
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Literal[tuple(each.value for each in hint)]
    if get_origin(hint) is Mapping:
        return dict[get_args(hint)]  # type: ignore[misc]
    return hint


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


_IntEnvVar: Any = type(dg.EnvVar.int("NAME"))


def holds_variable(value: Any) -> bool:
    """Whether a variable stands in the value, at any depth."""
    if is_variable(value):
        return True
    if isinstance(value, dg.Config):
        return any(holds_variable(getattr(value, name)) for name in type(value).model_fields)
    if isinstance(value, Mapping):
        return any(map(holds_variable, (*value, *value.values())))
    return isinstance(value, list | tuple) and any(map(holds_variable, value))


def check_variables(owner: str, given: Mapping[str, Any], settings: Mapping[str, FieldInfo]) -> None:
    """Returns when Dagster can look up each variable that a setting is given: texts, and whole numbers.

    Raises SettingsError otherwise, which Dagster would tell in its own words or not at all.
    """
    for name, value in given.items():
        if name not in settings or not is_variable(value):
            continue
        kinds = get_args(settings[name].annotation) or (settings[name].annotation,)
        is_int = isinstance(value, _IntEnvVar)
        if (int if is_int else str) in kinds:
            continue
        way = "dg.EnvVar.int(…)" if int in kinds else "dg.EnvVar(…)" if str in kinds else "the value itself"
        raise SettingsError(
            f"{owner} cannot look up {name} as dg.EnvVar{'.int' if is_int else ''} when a run starts. Give {way}.",
            setting=name,
        )


def looked_up(value: Any, path: str = "config") -> Any:
    """A config with the value of each variable in its place; such a text is no template, whatever it holds.

    Raises SettingsError for one that is not set, and for a whole number that is none; never with the value.
    """
    if is_variable(value):
        return _value(value, path)
    if isinstance(value, Mapping):
        named = ((_value(name, path) if is_variable(name) else name, inner) for name, inner in value.items())
        return {name: looked_up(inner, f"{path}.{name}") for name, inner in named}
    if isinstance(value, list | tuple):
        return [looked_up(inner, f"{path}[{number}]") for number, inner in enumerate(value)]
    return value


def _value(variable: Any, path: str) -> Any:
    name = variable.name if isinstance(variable, _IntEnvVar) else variable.env_var_name
    try:
        found = variable.get_value()
    except ValueError:
        raise SettingsError(
            f"The environment variable {name} is no whole number, and the source's {path} asks for one.", setting=name
        ) from None
    if found is None:
        raise SettingsError(
            f"The environment variable {name} is not set, and the source's {path} names it.", setting=name
        )
    return Verbatim(found) if isinstance(found, str) else found
