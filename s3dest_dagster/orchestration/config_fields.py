"""A settings class as fields of Dagster's config: names, types, defaults and texts as the settings themselves say.

It must not know any setting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field

from s3dest_dagster.setting_types import about, default_of


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
    given: dict[str, Any] = {"description": about(each).plain}
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
