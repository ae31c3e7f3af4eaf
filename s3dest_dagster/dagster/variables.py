"""Environment variables that are looked up when a run starts: where they stand, whether they may, and their values.

It knows Dagster's two kinds of them; it must not know what the settings are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import dagster as dg
from pydantic.fields import FieldInfo

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import is_variable
from s3dest_dagster.sources.templating import Verbatim

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
