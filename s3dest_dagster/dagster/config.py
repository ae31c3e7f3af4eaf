"""Converts settings classes to Dagster's config, with the names, types, defaults and texts of the settings.

Also finds, checks and looks up environment variables in settings. Must not know: any single setting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, asdict, fields
from enum import Enum, StrEnum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import dagster as dg
import pydantic
from pydantic import create_model
from pydantic.fields import FieldInfo

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connector_config import parse_format
from s3dest_dagster.settings.fields import about, default_of, is_variable, refuse_variables
from s3dest_dagster.settings.formats import FORMATS, FormatSettings, format_class
from s3dest_dagster.sources.templating import Verbatim


def config_fields(
    settings: type,
    *,
    without: Collection[str] = (),
    name: Callable[[Field[Any]], str] = lambda field: field.name,
) -> dict[str, Any]:
    """The fields of a settings class for pydantic's `create_model`: name → (type, field), in the order of the class.

    Args:
        name: Returns a field's name in the config.
        without: Names, in the config, of fields to leave out.
    """
    hints = get_type_hints(settings)
    named = {name(field): field for field in fields(settings)}
    return {
        config_name: (_config_type(hints[field.name]), _config_field(field))
        for config_name, field in named.items()
        if config_name not in without
    }


def _config_field(field: Field[Any]) -> Any:
    default = default_of(field)
    options: dict[str, Any] = {"description": about(field).description}
    if default is not MISSING:
        options["default"] = default.value if isinstance(default, StrEnum) else default
    if about(field).secret:
        # Dagster's web interface shows asterisks in place of such a value.
        options |= {"repr": False, "json_schema_extra": {"dagster__is_secret": True}}
    return pydantic.Field(**options)


def _config_type(hint: Any) -> Any:
    """The type that Dagster's config has for a setting of this type."""
    if get_origin(hint) in (Union, UnionType):
        (given,) = (member for member in get_args(hint) if member is not type(None))
        # Dagster has no optional choice: any text is accepted, and the settings check it.
        return (str if get_origin(given) is Literal else _config_type(given)) | None
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Literal[tuple(member.value for member in hint)]
    if get_origin(hint) is Mapping:
        return dict[get_args(hint)]  # type: ignore[misc]
    return hint


# ---------------------------------------------------------------------- formats


def _format_config_class(settings: type[FormatSettings]) -> Any:
    """The config class of a format: its `format_type`, and the format's own settings."""
    tag: Any = (Literal[settings.format_type], settings.format_type)
    return create_model(
        f"{settings.__name__}Config",
        __base__=dg.Config,
        __module__=__name__,
        __doc__=settings.title,
        format_type=tag,
        **config_fields(settings),
    )


FORMAT_CONFIGS: Mapping[type[FormatSettings], Any] = {settings: _format_config_class(settings) for settings in FORMATS}
"""The config class of every format."""
FormatConfig: Any = Annotated[Union[tuple(FORMAT_CONFIGS.values())], pydantic.Field(discriminator="format_type")]  # noqa: UP007


def format_settings(config: dg.Config) -> FormatSettings:
    """The settings of a config. Raises SettingsError if they contradict each other."""
    given = {name: getattr(config, name) for name in type(config).model_fields}
    return format_class(given.pop("format_type"))(**given)


def format_config(settings: FormatSettings) -> dg.Config:
    """The config for the settings."""
    values = {name: value.value if isinstance(value, Enum) else value for name, value in asdict(settings).items()}
    config: dg.Config = FORMAT_CONFIGS[type(settings)](**values)
    return config


def as_format_config(value: Any) -> Any:
    """Converts a user's value for `format` to a config.

    Args:
        value: Frozen settings, the connector's `format` object, or a format's name, which means its defaults. Other
            values, such as a config or the run config's `{"Parquet": {…}}`, are left to Dagster.

    Raises:
        SettingsError: If a `format` object has unknown members, or a variable.
    """
    if isinstance(value, FormatSettings):
        return format_config(value)
    if isinstance(value, str) or (isinstance(value, Mapping) and "format_type" in value):
        refuse_variables("format", value)
        settings, ignored = parse_format(value)
        if ignored:
            raise SettingsError(f"{', '.join(ignored)} means nothing here. Remove it.", setting=ignored[0])
        return format_config(settings)
    return value


# ---------------------------------------------------------------------- environment variables

_IntEnvVar: Any = type(dg.EnvVar.int("NAME"))


def holds_variable(value: Any) -> bool:
    """Whether the value contains a variable (`dg.EnvVar`), at any depth."""
    if is_variable(value):
        return True
    if isinstance(value, dg.Config):
        return any(holds_variable(getattr(value, name)) for name in type(value).model_fields)
    if isinstance(value, Mapping):
        return any(map(holds_variable, (*value, *value.values())))
    return isinstance(value, list | tuple) and any(map(holds_variable, value))


def check_variables(owner: str, given: Mapping[str, Any], settings: Mapping[str, FieldInfo]) -> None:
    """Raises SettingsError if Dagster cannot look up a variable in the settings. It can for texts and whole numbers.

    Dagster itself would raise a less helpful error, or no error.
    """
    for name, value in given.items():
        if name not in settings or not is_variable(value):
            continue
        types = get_args(settings[name].annotation) or (settings[name].annotation,)
        is_int = isinstance(value, _IntEnvVar)
        if (int if is_int else str) in types:
            continue
        advice = "dg.EnvVar.int(…)" if int in types else "dg.EnvVar(…)" if str in types else "the value itself"
        raise SettingsError(
            f"{owner} cannot look up {name} as dg.EnvVar{'.int' if is_int else ''} when a run starts. Give {advice}.",
            setting=name,
        )


def look_up(value: Any, path: str = "config") -> Any:
    """A source's setting with each variable replaced by its value. Such a text is not a template, whatever it contains.

    Args:
        path: The setting's name, for errors.

    Raises:
        SettingsError: If a variable is not set, or is not the whole number that it must be. The value is not shown.
    """
    if is_variable(value):
        return _value_of(value, path)
    if isinstance(value, Mapping):
        named = ((_value_of(name, path) if is_variable(name) else name, inner) for name, inner in value.items())
        return {name: look_up(inner, f"{path}.{name}") for name, inner in named}
    if isinstance(value, list | tuple):
        return [look_up(inner, f"{path}[{number}]") for number, inner in enumerate(value)]
    return value


def _value_of(variable: Any, path: str) -> Any:
    name = variable.name if isinstance(variable, _IntEnvVar) else variable.env_var_name
    try:
        value = variable.get_value()
    except ValueError:
        raise SettingsError(
            f"The environment variable {name} is no whole number, and the source's {path} asks for one.", setting=name
        ) from None
    if value is None:
        raise SettingsError(
            f"The environment variable {name} is not set, and the source's {path} names it.", setting=name
        )
    return Verbatim(value) if isinstance(value, str) else value
