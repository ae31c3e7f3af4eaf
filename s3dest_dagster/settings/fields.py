"""The fields of settings classes: what a setting may hold, and the one text that says its effect.

A setting is told of in one place, its field. Whoever shows or reads settings (the IO manager, the resource, the
connector specification, the documentation) takes name, type, default, bounds and text from there. Every refusal names
the setting and what it may be. It must not know any setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from s3dest_dagster.errors import SettingsError

_UNIONS = (Union, UnionType)
_INTEGER = re.compile("-?[0-9]{1,10}")
_LARGEST = 10**9
"""Of any number: in seconds 30 years, in MB a petabyte. Larger ones are mistakes, and beyond what clocks can count."""
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: f"a whole number of at most {_LARGEST:,}",
    float: f"a number of at most {_LARGEST:,}",
}
_SHOWN = 100
"""Characters of a wrong value that a message shows."""
_Settings = TypeVar("_Settings")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_ABOUT = "setting"
"""Where a field's metadata holds what `about` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a field says of its setting beyond name, type and default.

    text: its effect, in whole sentences of Markdown.
    at_least, above, at_most: the bounds of a number; None for none.
    connector: its name in a connector's `config.json`; empty for a setting of our own.
    resource: its name in Dagster's S3 resource, where that has another.
    secret: whether its value must not be shown.
    """

    text: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    connector: str = ""
    resource: str = ""
    secret: bool = False

    @property
    def plain(self) -> str:
        """The text for where the pages that it links to are not at hand."""
        return _LINK.sub(r"\1", self.text)


def setting(text: str, *, default: Any = MISSING, factory: Any = MISSING, hash: bool | None = None, **more: Any) -> Any:
    """A field of a settings class, required without `default` or `factory`; `more` is what `About` has beside `text`.

    Example:
        part_size_mb: float = setting("Size of the parts of an upload, in MB of 2²⁰ bytes.", default=8, at_least=5)
    """
    about = About(text=text, **more)
    given: dict[str, Any] = {"default_factory": factory} if factory is not MISSING else {"default": default}
    return field(**given, hash=hash, repr=not about.secret, metadata={_ABOUT: about})


def documented(settings: type[_Settings]) -> type[_Settings]:
    """The settings class, with each of its settings in its docstring."""
    lines = (f"    {each.name}: {about(each).plain}" for each in fields(settings))  # type: ignore[arg-type]
    settings.__doc__ = "\n".join((settings.__doc__ or "", "", "    Settings:", *lines))
    return settings


def about(each: Field[Any]) -> About:
    """What a field of a settings class says of its setting."""
    found = each.metadata[_ABOUT]
    assert isinstance(found, About)
    return found


def default_of(each: Field[Any]) -> Any:
    """The default of a field; MISSING where it must be given."""
    return each.default_factory() if each.default_factory is not MISSING else each.default


def choices(type_: Any) -> tuple[str, ...]:
    """The values that a setting of this type can have; empty if they are not listed."""
    if get_origin(type_) is Literal:
        return get_args(type_)
    return tuple(each.value for each in type_) if _is_enumeration(type_) else ()


def caseless(setting: str, value: Any, allowed: Any) -> str:
    """The allowed spelling of a value whose case does not matter; SettingsError when there is none."""
    for each in allowed:
        if isinstance(value, str) and value.lower() == str(each).lower():
            return str(each)
    raise SettingsError(f"{setting} is {_shown(value)}. Known are {', '.join(map(repr, allowed))}.", setting=setting)


def exact_integer(setting: str, value: Any) -> int:
    """The integer that a value of a connector's configuration is exactly: 9, "9" and 9.0 are 9. SettingsError for any
    other, such as 5.5 or true."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST and value % 1 == 0:
        return int(value)
    raise SettingsError(f"{setting} is {_shown(value)}. It must be a whole number, as 9.", setting=setting)


def exact_boolean(setting: str, value: Any) -> bool:
    """A truth as it is. SettingsError for any other value: a "false" in quotes is none, and 1 is none."""
    if isinstance(value, bool):
        return value
    raise SettingsError(f"{setting} is {_shown(value)}. It must be true or false.", setting=setting)


def meant(name: str, known: Iterable[str]) -> str:
    """The known name that a wrong one is probably a typing error of; empty when there is none like it."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.75)), "")


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises SettingsError for a name among `given` that `owner` has no setting of."""
    names = sorted(known)
    for name in given:
        if name not in names:
            likely = meant(name, names)
            raise SettingsError(
                f"{owner} has no setting {name!r}.{f' Is {likely} meant?' if likely else ''} It has: "
                f"{', '.join(names)}.",
                setting=name,
            )


def is_variable(value: Any) -> bool:
    """Whether a value is one of Dagster's variables (`dg.EnvVar`, `dg.EnvVar.int`): until a run starts, that looks like
    the variable's name, or like 0."""
    if type(value) in (str, int):
        return False
    return isinstance(value, str | int) and hasattr(value, "env_var_name") and hasattr(value, "get_value")


def refuse_variables(setting: str, value: Any) -> None:
    """Raises SettingsError for a variable of Dagster's at any depth of a setting that is used as it is."""
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
                todo.append((part, f"[{name}]" if isinstance(name, int) else f".{name}", inner))


_Part: TypeAlias = "tuple[_Part | None, str, Any]"
"""A value within a setting: what it stands in, and its name there."""


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


@cache
def _types(settings: type) -> Mapping[str, tuple[Any, ...]]:
    """The types that each field may have, as its annotation says."""
    hints = {each.name: get_type_hints(settings)[each.name] for each in fields(settings)}
    return {name: get_args(hint) if get_origin(hint) in _UNIONS else (hint,) for name, hint in hints.items()}


def check_settings(settings: Any) -> None:
    """Returns when every field has the type of its annotation, within its bounds; a text has become the enumeration's
    member.

    Raises SettingsError for any other: a "false" where a truth is asked for would count as true.
    """
    _check_types(settings)
    for each in fields(settings):
        _check_bounds(each.name, getattr(settings, each.name), about(each))


def _check_types(settings: Any) -> None:
    for name, types in _types(settings.__class__).items():
        value = getattr(settings, name)
        refuse_variables(name, value)
        if _is_enumeration(types[0]):
            object.__setattr__(settings, name, types[0](caseless(name, value, [each.value for each in types[0]])))
        elif not any(_is_of(type_, value) for type_ in types):
            raise SettingsError(_wrong_type(name, value, types), setting=name)


def _is_enumeration(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, StrEnum)


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
    """What a field must be. A wrong text is not repeated, since it may be a secret."""
    if get_origin(types[0]) is Literal:
        return f"{setting} is {_shown(value)}. Known are {', '.join(map(repr, get_args(types[0])))}."
    if get_origin(types[0]) is Mapping:
        return f"{setting} is no mapping of names to texts."
    if types[0] is str:
        return f"{setting} is not a text."
    wanted = _WORDS.get(types[0]) or " or ".join(each.__name__ for each in types)
    return f"{setting} is {_shown(value)}. It must be {wanted}."


def _shown(value: Any) -> str:
    """A wrong value for a message: its beginning, where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits than Python writes, or too many levels
        return "a value that is too large to be shown"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _check_bounds(name: str, value: Any, of: About) -> None:
    if of.at_least is not None and value < of.at_least:
        raise SettingsError(f"{name} is {value!r}. It must be at least {of.at_least}.", setting=name)
    if of.above is not None and value <= of.above:
        raise SettingsError(f"{name} is {value!r}. It must be above {of.above}.", setting=name)
    if of.at_most is not None and value > of.at_most:
        raise SettingsError(f"{name} is {value!r}. It must be at most {of.at_most:,}.", setting=name)
