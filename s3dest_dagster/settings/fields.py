"""The fields of settings classes, which define the name, type, default, bounds and effect of every setting only once.

The IO manager, the resource, the component's YAML, the connector's specification and the documentation use these
definitions. Every error names the setting and its allowed values. Must not know: any setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from s3dest_dagster.errors import SettingsError, did_you_mean

_UNIONS = (Union, UnionType)
_INTEGER = re.compile("-?[0-9]{1,10}")
_LARGEST = 10**9
"""The largest number in any setting: 30 years of seconds, a petabyte in MB. A larger one is a mistake, and exceeds what
clocks can count."""
_EXPECTED: dict[Any, str] = {
    bool: "true or false",
    int: f"a whole number of at most {_LARGEST:,}",
    float: f"a number of at most {_LARGEST:,}",
}
_LONGEST_SHOWN = 100
"""The most characters of a wrong value in a message."""
_Class = TypeVar("_Class")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_METADATA_KEY = "setting"


# ---------------------------------------------------------------------- fields


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The description of a setting in its field, apart from name, type and default."""

    text: str
    """The effect of the setting, in whole sentences of Markdown."""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    connector: str = ""
    """Its name in a connector's `config.json`; empty for one of our own settings."""
    connector_default: Any = None
    """Its default in a connector's `config.json`, if that differs because the connector does the same; else None."""
    resource: str = ""
    """Its name in Dagster's S3 resource, if that is different."""
    secret: bool = False
    """Whether its value must not be shown."""
    needs: str = ""
    """The setting without which this one has no effect; empty if there is none."""

    @property
    def description(self) -> str:
        """The text without links, for places without the documentation pages."""
        return _LINK.sub(r"\1", self.text)


def setting(text: str, *, default: Any = MISSING, factory: Any = MISSING, hash: bool | None = None, **more: Any) -> Any:
    """A field of a settings class.

    Args:
        text: The effect of the setting, in whole sentences of Markdown.
        default: The default. A setting with neither a default nor a factory is required.
        factory: Makes the default.
        hash: The same as in `dataclasses.field`.
        more: The other fields of `About`.

    Example:
        part_size_mb: float = setting("Size of the parts of an upload, in MB of 2²⁰ bytes.", default=8, at_least=5)
    """
    about = About(text=text, **more)
    given: dict[str, Any] = {"default_factory": factory} if factory is not MISSING else {"default": default}
    return field(**given, hash=hash, repr=not about.secret, metadata={_METADATA_KEY: about})


def about(field: Field[Any]) -> About:
    """The description of a setting in its field."""
    found = field.metadata[_METADATA_KEY]
    assert isinstance(found, About)
    return found


def default_of(field: Field[Any]) -> Any:
    """The default of a field; MISSING if it is required."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def choices(type_: Any) -> tuple[str, ...]:
    """The values that a setting of this type can have; empty if they are not listed."""
    if get_origin(type_) is Literal:
        return get_args(type_)
    return tuple(member.value for member in type_) if isinstance(type_, type) and issubclass(type_, StrEnum) else ()


def types_of(settings: type) -> Mapping[str, tuple[Any, ...]]:
    """The types of every setting, from its annotation. The first type is the setting's own; None may be another."""
    return _types_of(settings)


@cache
def _types_of(settings: type) -> Mapping[str, tuple[Any, ...]]:
    all_hints = get_type_hints(settings)
    hints = {each.name: all_hints[each.name] for each in fields(settings)}
    return {name: get_args(hint) if get_origin(hint) in _UNIONS else (hint,) for name, hint in hints.items()}


def documented(settings: type[_Class]) -> type[_Class]:
    """Adds every setting to the docstring of a settings class."""
    lines = (f"    {each.name}: {about(each).description}" for each in fields(settings))  # type: ignore[arg-type]
    settings.__doc__ = "\n".join((settings.__doc__ or "", "", "    Settings:", *lines))
    return settings


class Settings:
    """The base of settings classes that are groups or consist of groups.

    A group checks its own settings in `__post_init__`, after `super().__post_init__()`, which checks types and bounds.
    """

    def __post_init__(self) -> None:
        check_settings(self)


def groups_of(settings: type) -> list[type]:
    """The groups of a settings class, in the order of its fields; the class itself if it has none."""
    bases = [each for each in reversed(settings.__mro__) if issubclass(each, Settings) and each is not Settings]
    return bases[:-1] or [settings]


# ---------------------------------------------------------------------- checking values


def check_settings(settings: Any) -> None:
    """Checks that every field has the type of its annotation and is within its bounds.

    The text of an enumeration's member is replaced by the member, and the empty text of an optional setting by None.

    Raises:
        SettingsError: A value has another type (a "false" in quotes would count as true), or is outside its bounds.
    """
    for name, types in types_of(settings.__class__).items():
        value = getattr(settings, name)
        refuse_variables(name, value)
        if isinstance(types[0], type) and issubclass(types[0], StrEnum):
            member = types[0](allowed_spelling(name, value, choices(types[0])))
            object.__setattr__(settings, name, member)
        elif not any(_is_of(type_, value) for type_ in types):
            raise SettingsError(_wrong_type(name, value, types), setting=name)
        elif value == "" and types == (str, type(None)):
            object.__setattr__(settings, name, None)
    for each in fields(settings):
        _check_bounds(each.name, getattr(settings, each.name), about(each))


def _is_of(type_: Any, value: Any) -> bool:
    if get_origin(type_) is Literal:
        return value in get_args(type_)
    if get_origin(type_) is Mapping:
        return isinstance(value, Mapping) and all(isinstance(each, str) for pair in value.items() for each in pair)
    if isinstance(value, bool):
        return type_ is bool
    if type_ in (int, float):
        return isinstance(value, int if type_ is int else int | float) and -_LARGEST <= value <= _LARGEST
    return isinstance(value, type_)


def _wrong_type(setting: str, value: Any, types: tuple[Any, ...]) -> str:
    """The message for a wrong type. It does not show a wrong text, which may be a secret."""
    if get_origin(types[0]) is Literal:
        return f"{setting} is {_shortened(value)}. Known are {', '.join(map(repr, get_args(types[0])))}."
    if get_origin(types[0]) is Mapping:
        return f"{setting} is not a mapping of names to texts."
    if types[0] is str:
        return f"{setting} is not a text."
    expected = _EXPECTED.get(types[0]) or " or ".join(each.__name__ for each in types)
    return f"{setting} is {_shortened(value)}. It must be {expected}."


def _shortened(value: Any) -> str:
    """A wrong value for a message. A long value is cut."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # it has more digits than Python writes, or too many levels
        return "a value that is too large to be shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _check_bounds(name: str, value: Any, of: About) -> None:
    if of.at_least is not None and value < of.at_least:
        raise SettingsError(f"{name} is {value!r}. It must be at least {of.at_least}.", setting=name)
    if of.above is not None and value <= of.above:
        raise SettingsError(f"{name} is {value!r}. It must be above {of.above}.", setting=name)
    if of.at_most is not None and value > of.at_most:
        raise SettingsError(f"{name} is {value!r}. It must be at most {of.at_most:,}.", setting=name)


def allowed_spelling(setting: str, value: Any, allowed: Any) -> str:
    """The allowed spelling of a value, which is case-insensitive. Raises SettingsError if there is none."""
    for spelling in allowed:
        if isinstance(value, str) and value.lower() == str(spelling).lower():
            return str(spelling)
    raise SettingsError(
        f"{setting} is {_shortened(value)}. Known are {', '.join(map(repr, allowed))}.", setting=setting
    )


def exact_integer(setting: str, value: Any) -> int:
    """The integer that exactly equals a value of a connector's configuration: 9, "9" and 9.0 are 9.

    Raises SettingsError for any other value, such as 5.5 or true.
    """
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST and value % 1 == 0:
        return int(value)
    raise SettingsError(f"{setting} is {_shortened(value)}. It must be a whole number, as 9.", setting=setting)


def exact_boolean(setting: str, value: Any) -> bool:
    """The boolean itself. Raises SettingsError for any other value, such as 1 or a "false" in quotes."""
    if isinstance(value, bool):
        return value
    raise SettingsError(f"{setting} is {_shortened(value)}. It must be true or false.", setting=setting)


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises SettingsError if `owner` has no setting for one of the `given` names."""
    names = set(known)
    for name in given:
        if name not in names:
            raise SettingsError(f"{owner} has no setting {name!r}. {did_you_mean(name, names)}", setting=name)


# ---------------------------------------------------------------------- Dagster's variables


def is_variable(value: Any) -> bool:
    """Whether a value is one of Dagster's variables (`dg.EnvVar`, `dg.EnvVar.int`).

    Until a run starts, such a value looks like the variable's name, or like 0.
    """
    if type(value) in (str, int):
        return False
    return isinstance(value, str | int) and hasattr(value, "env_var_name") and hasattr(value, "get_value")


def refuse_variables(setting: str, value: Any) -> None:
    """Raises SettingsError for one of Dagster's variables, at any depth of a setting that is not resolved."""
    todo: list[_Part] = [(None, setting, value)]
    seen: set[int] = set()
    while todo:
        part = todo.pop()
        value = part[2]
        if is_variable(value):
            _refuse_variable(_path(part), value)
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            members = value.items() if isinstance(value, Mapping) else enumerate(value)
            for name, inner in members:
                if is_variable(name):
                    _refuse_variable(f"a key of {_path(part)}", name)
                if type(inner) not in _PLAIN_TYPES:
                    todo.append((part, f"[{name}]" if isinstance(name, int) else f".{name}", inner))


_PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
"""Types whose values are no variables and have no parts."""
_Part: TypeAlias = "tuple[_Part | None, str, Any]"
"""A value within a setting: the part that contains it, its name there, and the value."""


def _path(part: _Part | None) -> str:
    names = []
    while part is not None:
        names.append(part[1])
        part = part[0]
    return "".join(reversed(names))


def _refuse_variable(setting: str, value: Any) -> NoReturn:
    raise SettingsError(
        f"{setting} is the variable dg.EnvVar({value.env_var_name!r}), which is looked up when a run starts, and "
        "this setting is used as it is. Give the value, as os.environ[…] or .get_value(), or set it on a resource, "
        "an IO manager or in a connector's config, which look variables up.",
        setting=setting,
    )
