"""A connector's config that says which partition is read: placeholders, and the values that stand in for them.

It knows JSON values and instants; it must not know connectors, Dagster's partitions or secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.stream import Stream

if TYPE_CHECKING:
    from s3dest_dagster.sources.template_engine import Template

_MARKS = ("{{", "{%")
_LEFT_ALONE = "__injected"
"""Low-code connectors get their manifest, which has templates of its own, in keys that begin so."""


Values = Mapping[str, str | int]
"""What placeholders can name: texts and numbers."""

Window = tuple[datetime, datetime]
"""Start and end, the end not included."""


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


STREAM_VALUES = ("stream_name", "stream_namespace")
"""The names of `stream_values`."""


def stream_values(stream: Stream) -> dict[str, str | int]:
    """The values that placeholders can name for a stream."""
    return {"stream_name": stream.name, "stream_namespace": stream.namespace or ""}


class Verbatim(str):
    """A text that is no template, whatever it holds: one that was looked up, as a secret."""

    __slots__ = ()


def is_template(text: str) -> bool:
    """Whether a text is rendered: it has `{{` or `{%`."""
    return not isinstance(text, Verbatim) and any(mark in text for mark in _MARKS)


def render_config(config: Mapping[str, Any], values: Values | None) -> dict[str, Any]:
    """A copy of the config with the templates among its texts rendered: `{{ name }}` becomes the value of that name.

    Templates are those of `template_engine`, so that `{{ name | replace("-", "/") }}` and `{% if name == "x" %}` do,
    too. A text that is nothing but one expression becomes its value, a number included; any other text stays a text.
    Keys, numbers, `Verbatim` texts and whatever stands under a key that begins with `__injected` stay as they are.
    Raises SettingsError for a name that is not among `values`, with those that are, and for what cannot be rendered.
    """
    return {key: _rendered(value, str(key), values or {}) for key, value in config.items()}


def _rendered(value: Any, path: str, values: Values) -> Any:
    if path.rpartition(".")[2].startswith(_LEFT_ALONE):
        return value
    if isinstance(value, str):
        if not is_template(value):
            return value
        with _at(path):
            return _template(value, path, values).value(values)
    if isinstance(value, Mapping):
        return {key: _rendered(inner, f"{path}.{key}", values) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rendered(inner, f"{path}[{index}]", values) for index, inner in enumerate(value)]
    return value


def render_text(text: str, path: str, values: Values | None, *, escape: Callable[[str], str]) -> str:
    """The text with its templates rendered; `escape` is applied to whatever they put into it. `path` is where it
    stands, for errors, which are those of `render_config`."""
    if not is_template(text):
        return text
    with _at(path):
        return _template(text, path, values or {}).text(values or {}, escape=escape)


def names_in(text: str) -> tuple[str, ...]:
    """The values that the templates of a text ask for, dotted names as one; none where it is no template."""
    return _engine().template(text).names if is_template(text) else ()


def _template(text: str, path: str, values: Values) -> Template:
    found: Template = _engine().template(text)
    for name in found.names:
        if name not in values:
            raise _unknown(name, path, values)
    return found


@contextmanager
def _at(path: str) -> Iterator[None]:
    """Errors of a template leave with where it stands; never with the text, which may be a secret."""
    try:
        yield
    except SettingsError as error:
        if error.setting is not None:
            raise
        raise SettingsError(f"{path}: {error.message}", setting=path) from None


def _engine() -> Any:
    """Imported where there is a template, since Jinja takes its time."""
    from s3dest_dagster.sources import template_engine

    return template_engine


def _unknown(name: str, path: str, values: Values) -> SettingsError:
    known = f"Known here: {', '.join(sorted(values))}." if values else "None is known: the stream has no partitions."
    return SettingsError(
        f"The source's config has the placeholder {{{{ {name} }}}} at {path}, which is not known. {known}", setting=path
    )


def partition_values(
    key: str,
    *,
    dimensions: Mapping[str, str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    windows: Mapping[str, Window] | None = None,
) -> dict[str, str | int]:
    """The values that a config's placeholders can name for one partition.

    `partition_key`, and for a multi-dimensional partition `partition_key.<dimension>`. With a time window (aware, its
    end not included) also `partition_start` and `partition_end` as instants in UTC (`2024-01-31T00:00:00Z`),
    `partition_start_epoch` and `partition_end_epoch` as numbers of seconds since 1970, and as dates in the window's
    own time zone `partition_start_date`, `partition_end_date` (the day on which it ends, not included when it ends at
    midnight) and `partition_last_date` (the last day that has a part in it), for connectors that include their end
    date. `windows` are those of dimensions, which have the same names with the dimension's behind:
    `partition_start.<dimension>`.
    """
    values: dict[str, str | int] = {"partition_key": key}
    values |= {f"partition_key.{name}": part for name, part in (dimensions or {}).items()}
    if start is not None:
        values |= _start_values(start)
    if end is not None:
        values |= _end_values(end)
    for dimension, (its_start, its_end) in (windows or {}).items():
        its_values = _start_values(its_start) | _end_values(its_end)
        values |= {f"{name}.{dimension}": value for name, value in its_values.items()}
    return values


def _start_values(start: datetime) -> dict[str, str | int]:
    return {
        "partition_start": _instant(start),
        "partition_start_epoch": int(start.timestamp()),
        "partition_start_date": start.date().isoformat(),
    }


def _end_values(end: datetime) -> dict[str, str | int]:
    return {
        "partition_end": _instant(end),
        "partition_end_epoch": int(end.timestamp()),
        "partition_end_date": end.date().isoformat(),
        "partition_last_date": (end - timedelta(microseconds=1)).date().isoformat(),
    }


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
