"""Partitions by field: the rule by which a stream's records get directories, and the destination's settings for it.

A rule is a tuple of `PartitionField`: which fields, in which order, by which names. It is part of the key template.
Must not know: schemas, records, keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.field_paths import ITEMS, FieldPath
from s3dest_dagster.settings.fields import Settings, documented, refuse_unknown, refuse_variables, setting

_SETTING = "partition_by"
DateUnit = Literal["year", "month", "day", "hour"]
FieldsStyle = Literal["hive", "plain"]
_UNITS = get_args(DateUnit)
_KEYS = ("field", "as", "name", "tz")
_UTC = "UTC"
_EXAMPLE = '[{"field": "created_at", "as": "day", "name": "dt"}, "region"]'


@dataclass(frozen=True, slots=True)
class PartitionField:
    """One field whose values become directories. Raises SettingsError if its parts contradict each other."""

    field: FieldPath
    """The path to the field, in the source's names."""
    name: str
    """The name before the "=" of a Hive directory."""
    unit: DateUnit | None = None
    """The part of a date or a timestamp that becomes the directory. None: the value itself."""
    tz: str = _UTC
    """The time zone in which a timestamp's year, month, day and hour are taken."""

    def __post_init__(self) -> None:
        if ITEMS in self.field.steps:
            raise _error(f"names {self.field}, and a list has many items. Name a field that has one value")
        if self.unit is not None and self.unit not in _UNITS:
            raise _error(f"takes {self.field} as {self.unit!r}. Known are {', '.join(map(repr, _UNITS))}")
        if self.unit is None and self.tz != _UTC:
            raise _error(f"gives {self.field} a time zone, which needs `as`: {', '.join(_UNITS)}")
        if not isinstance(self.name, str) or not self.name or not self.name.isprintable() or self.name[0] == ".":
            raise _error(f"gives {self.field} the name {self.name!r}. It must be a text that does not begin with a dot")
        _check_zone(self.field, self.tz)

    def to_mapping(self) -> dict[str, str]:
        """The field as a setting gives it, with every part that is not the default of all fields."""
        as_unit = {"as": self.unit} if self.unit is not None else {}
        zone = {"tz": self.tz} if self.tz != _UTC else {}
        return {"field": str(self.field), **as_unit, "name": self.name, **zone}

    def __str__(self) -> str:
        return f"{self.field} as {self.unit}" if self.unit else str(self.field)


PartitionRule: TypeAlias = tuple[PartitionField, ...]
FieldValues: TypeAlias = tuple[str | None, ...]
"""The values of an object's directories, as texts, in the order of the rule. None stands for null."""


def partition_rule(given: Any, renames: Mapping[FieldPath, str] | None = None) -> PartitionRule:
    """The rule that a setting gives: a list of paths, and of mappings with `field`, `as`, `name` and `tz`.

    Args:
        given: The list, or the fields themselves.
        renames: The names that columns have instead of the source's. They become the default names of directories.

    Raises:
        SettingsError: It is not a rule, or two directories would have the same name.
    """
    refuse_variables(_SETTING, given)
    if isinstance(given, str | Mapping | FieldPath) or not isinstance(given, Iterable):
        raise SettingsError(f"{_SETTING} is {given!r}. It must be a list, such as {_EXAMPLE}.", setting=_SETTING)
    rule = tuple(_field(each, renames or {}) for each in given)
    seen: dict[str, PartitionField] = {}
    for each in rule:
        # Hive, Athena and DuckDB compare the names of columns without their case.
        first = seen.setdefault(each.name.casefold(), each)
        if first is not each:
            if first.field == each.field and first.unit == each.unit:
                raise _error(f"names {each} twice. Once is enough")
            raise _error(
                f"gives {first} and {each} names that readers take for the same, {first.name!r} and {each.name!r}. "
                "Choose another `name` for one of them"
            )
    return rule


def rule_text(rule: PartitionRule) -> str:
    """The rule as JSON text, for manifests. Empty for an empty rule."""
    return json.dumps([each.to_mapping() for each in rule], ensure_ascii=False) if rule else ""


def rule_of_text(text: str) -> PartitionRule:
    """The rule that `rule_text` has written. Raises SettingsError if it is none."""
    try:
        return partition_rule(json.loads(text)) if text else ()
    except ValueError:
        raise SettingsError(f"{_SETTING} {text!r} is not JSON.", setting=_SETTING) from None


def _field(given: Any, renames: Mapping[FieldPath, str]) -> PartitionField:
    if isinstance(given, PartitionField):
        return given
    parts: Mapping[str, Any] = given if isinstance(given, Mapping) else {"field": given}
    refuse_unknown(f"A field of {_SETTING}", parts, _KEYS)
    if "field" not in parts:
        raise _error(f"has {dict(parts)!r}, which lacks `field`. Write it as in {_EXAMPLE}")
    path = FieldPath.parse(parts["field"], _SETTING)
    unit, name = parts.get("as"), parts.get("name")
    if name is None:
        own = renames.get(path, str(path.steps[-1]))
        # With the name of its column, a directory would hide the column from readers, which take the path's value.
        name = f"{own}_{unit}" if unit else own
    return PartitionField(path, name, unit, parts.get("tz") or _UTC)


def _check_zone(field: FieldPath, zone: Any) -> None:
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, TypeError, LookupError):
        raise _error(f"gives {field} the time zone {zone!r}, which is not known. Write it as 'Europe/Berlin'") from None


def _error(problem: str) -> SettingsError:
    return SettingsError(f"{_SETTING} {problem}.", setting=_SETTING)


@documented
@dataclass(frozen=True, kw_only=True)
class FieldPartitionSettings(Settings):
    """Partitions by field: what happens to records without a value, and how many values a field may have."""

    on_null: Literal["default", "fail"] = setting(
        "A record of a stream with `partition_by` whose field has no value, or none that can be a directory, lands "
        'under `__HIVE_DEFAULT_PARTITION__`, which readers take for null; `"fail"` fails the sync.',
        default="default",
    )
    max_partition_values: int = setting(
        "A sync in which a field of `partition_by` has more different values than this fails before anything is "
        "published: every value costs an object.",
        default=1_000,
        at_least=1,
    )
