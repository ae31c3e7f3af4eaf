"""Placeholders in a connector's config or in the path of files, and the values with which a run replaces them.

`template_engine` renders them. Must not know: connectors, Dagster's partitions, secrets.
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
_UNRENDERED_PREFIX = "__injected"
"""Prefix of the keys that hold the manifest of a low-code connector. The manifest has templates of its own."""

Values = Mapping[str, str | int]
"""The values of placeholders, by their names."""

Window = tuple[datetime, datetime]
"""Start and end. The end is exclusive."""

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
"""The names that `partition_values` returns for a partition with a time window."""


STREAM_VALUES = ("stream_name", "stream_namespace")
"""The names of `stream_values`."""


def stream_values(stream: Stream) -> dict[str, str | int]:
    """The values that placeholders can use for a stream."""
    return {"stream_name": stream.name, "stream_namespace": stream.namespace or ""}


class Verbatim(str):
    """A text that is never a template, whatever it contains, because it was looked up, for example as a secret."""

    __slots__ = ()


def is_template(text: str) -> bool:
    """Whether a text is a template: it contains `{{` or `{%`."""
    return not isinstance(text, Verbatim) and any(mark in text for mark in _MARKS)


def render_config(config: Mapping[str, Any], values: Values | None) -> dict[str, Any]:
    """Returns a copy of the config with its templates rendered: `{{ name }}` becomes the value of that name.

        render_config({"since": "{{ partition_start }}"}, {"partition_start": "2024-01-31T00:00:00Z"})

    Filters, methods and `{% if %}` work too (see `template_engine`). A text that is a single expression becomes the
    value of the expression, which may be a number. Any other text stays a text. Keys, numbers, `Verbatim` texts, and
    everything under a key that begins with `__injected` stay as they are. Raises SettingsError for an unknown name (the
    error lists the known names), and for a template that cannot be rendered.
    """
    return {key: _render_value(value, str(key), values or {}) for key, value in config.items()}


def _render_value(value: Any, path: str, values: Values) -> Any:
    if path.rpartition(".")[2].startswith(_UNRENDERED_PREFIX):
        return value
    if isinstance(value, str):
        if not is_template(value):
            return value
        with _errors_at(path):
            return _template(value, path, values).value(values)
    if isinstance(value, Mapping):
        return {key: _render_value(inner, f"{path}.{key}", values) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_render_value(inner, f"{path}[{index}]", values) for index, inner in enumerate(value)]
    return value


def render_text(text: str, path: str, values: Values | None, *, escape: Callable[[str], str]) -> str:
    """Returns the text with its templates rendered, and `escape` applied to every value in it.

    Raises SettingsError as `render_config` does. `path` says where the text is, for errors.
    """
    if not is_template(text):
        return text
    with _errors_at(path):
        return _template(text, path, values or {}).text(values or {}, escape=escape)


def with_stream(text: str, path: str, stream: Stream, *, escape: Callable[[str], str]) -> str:
    """The template with the values of the stream. The other placeholders stay, and so does a template with blocks."""
    parts = list(_engine().split_expressions(text) or [text])
    for number, part in enumerate(parts):
        if {*placeholder_names(part)} & {*STREAM_VALUES}:
            rendered = render_text(part, path, stream_values(stream), escape=escape)
            parts[number] = _engine().escape_template(rendered)
    return "".join(parts)


def placeholder_names(text: str) -> tuple[str, ...]:
    """The names of the placeholders in a text. A dotted name counts as one. Empty if the text is not a template."""
    return _engine().template(text).names if is_template(text) else ()


def _template(text: str, path: str, values: Values) -> Template:
    template: Template = _engine().template(text)
    for name in template.names:
        if name not in values:
            known = (
                f"Known here: {', '.join(sorted(values))}."
                if values
                else ("None is known: the stream has no partitions.")
            )
            raise SettingsError(
                f"The source's config has the placeholder {{{{ {name} }}}} at {path}, which is not known. {known}",
                setting=path,
            )
    return template


@contextmanager
def _errors_at(path: str) -> Iterator[None]:
    """Adds the path to the errors of a template, but never its text, which may be a secret."""
    try:
        yield
    except SettingsError as error:
        if error.setting is not None:
            raise
        raise SettingsError(f"{path}: {error.message}", setting=path) from None


def _engine() -> Any:
    """Returns the engine. It is imported only if there is a template, because importing Jinja takes time."""
    from s3dest_dagster.sources import template_engine

    return template_engine


def partition_values(
    key: str,
    *,
    dimensions: Mapping[str, str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    windows: Mapping[str, Window] | None = None,
) -> dict[str, str | int]:
    """Returns the values that placeholders can use for one partition.

    - `partition_key`, and `partition_key.<dimension>` for each dimension.
    - `partition_start` and `partition_end`: the window's instants in UTC (`2024-01-31T00:00:00Z`).
    - `partition_start_epoch` and `partition_end_epoch`: the same instants in seconds since 1970, as numbers.
    - `partition_start_date`, `partition_end_date`: the days on which the window begins and ends, in its own time zone.
      A window that ends at midnight does not include its last date.
    - `partition_last_date`: the last day that the window overlaps, for connectors that include their end date.
    - All of these except the key also exist for the window of a dimension: `partition_start.<dimension>`.

    Args:
        key: The partition's key.
        dimensions: The key of each dimension of a multi-dimensional partition.
        start: The start of the time window, with a time zone. None: the partition has no window.
        end: The end of the time window (exclusive).
        windows: The windows of the dimensions that have one.
    """
    values: dict[str, str | int] = {"partition_key": key}
    values |= {f"partition_key.{name}": part for name, part in (dimensions or {}).items()}
    if start is not None:
        values |= _start_values(start)
    if end is not None:
        values |= _end_values(end)
    for dimension, (window_start, window_end) in (windows or {}).items():
        window_values = _start_values(window_start) | _end_values(window_end)
        values |= {f"{name}.{dimension}": value for name, value in window_values.items()}
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
