"""A connector's config that says which partition is read: placeholders, and the values that stand in for them.

It knows JSON values and instants; it must not know connectors, Dagster's partitions or secrets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from s3dest_dagster.errors import SettingsError

_PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_ALONE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_LEFT_ALONE = "__injected"
"""Low-code connectors get their manifest, which has templates of its own, in keys that begin so."""


Values = Mapping[str, str | int]
"""What placeholders can name: texts and numbers."""


PARTITION_VALUES = (
    "partition_key",
    "partition_start",
    "partition_start_epoch",
    "partition_start_date",
    "partition_end",
    "partition_end_epoch",
    "partition_end_date",
    "partition_last_date",
)
"""The names that `partition_values` gives for a partition with a time window."""


def render_config(config: Mapping[str, Any], values: Values | None) -> dict[str, Any]:
    """A copy of the config with `{{ name }}` in its texts replaced by the value of that name.

    A text that is nothing but one placeholder becomes the value, a number included; any other text stays a text. Keys,
    numbers and whatever stands under a key that begins with `__injected` stay as they are. Raises SettingsError for a
    name that is not among `values`, with those that are.
    """
    return {key: _rendered(value, str(key), values or {}) for key, value in config.items()}


def _rendered(value: Any, path: str, values: Values) -> Any:
    if path.rpartition(".")[2].startswith(_LEFT_ALONE):
        return value
    if isinstance(value, str):
        alone = _ALONE.fullmatch(value)
        if alone:
            return _value_of(alone[1], path, values)
        return _PLACEHOLDER.sub(lambda found: str(_value_of(found[1], path, values)), value)
    if isinstance(value, Mapping):
        return {key: _rendered(inner, f"{path}.{key}", values) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rendered(inner, f"{path}[{index}]", values) for index, inner in enumerate(value)]
    return value


def _value_of(name: str, path: str, values: Values) -> str | int:
    if name in values:
        return values[name]
    known = f"Known here: {', '.join(sorted(values))}." if values else "None is known: the stream has no partitions."
    raise SettingsError(
        f"The source's config has the placeholder {{{{ {name} }}}} at {path}, which is not known. {known}", setting=path
    )


def partition_values(
    key: str,
    *,
    dimensions: Mapping[str, str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> dict[str, str | int]:
    """The values that a config's placeholders can name for one partition.

    `partition_key`, and for a multi-dimensional partition `partition_key.<dimension>`. With a time window (aware, its
    end not included) also `partition_start` and `partition_end` as instants in UTC (`2024-01-31T00:00:00Z`),
    `partition_start_epoch` and `partition_end_epoch` as numbers of seconds since 1970, and as dates in the window's
    own time zone `partition_start_date`, `partition_end_date` (the day on which it ends, not included when it ends at
    midnight) and `partition_last_date` (the last day that has a part in it), for connectors that include their end
    date.
    """
    values: dict[str, str | int] = {"partition_key": key}
    values |= {f"partition_key.{name}": part for name, part in (dimensions or {}).items()}
    if start is not None:
        values |= {
            "partition_start": _instant(start),
            "partition_start_epoch": int(start.timestamp()),
            "partition_start_date": start.date().isoformat(),
        }
    if end is not None:
        values |= {
            "partition_end": _instant(end),
            "partition_end_epoch": int(end.timestamp()),
            "partition_end_date": end.date().isoformat(),
            "partition_last_date": (end - timedelta(microseconds=1)).date().isoformat(),
        }
    return values


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
