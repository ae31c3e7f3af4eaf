"""What stands in YAML as values: templates rendered where there are any, and errors told at their line.

It knows Dagster's resolution of YAML; it must not know what the values are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from dagster.components.resolved.errors import ResolutionException
from jinja2 import Environment, meta
from pydantic import TypeAdapter, ValidationError, WithJsonSchema

from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.sources.templating import PARTITION_VALUES

_TEMPLATE_MARKS = ("{{", "{%", "{#")
_templates = Environment()


def as_said(kind: Any) -> Any:
    """The type of a field whose schema is that of `kind`, and whose value is left for `Place.validated`: pydantic's own
    errors within a union lose the line."""
    schema = TypeAdapter(kind).json_schema()
    return Annotated[Any, WithJsonSchema(_without_references(schema, schema.pop("$defs", {})))]


def _without_references(schema: Any, definitions: Mapping[str, Any], above: tuple[str, ...] = ()) -> Any:
    """The schema with what it refers to in its place; what holds itself is any object."""
    if isinstance(schema, list):
        return [_without_references(each, definitions, above) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return (
            {"type": "object"} if name in above else _without_references(definitions[name], definitions, (*above, name))
        )
    # A discriminator's mapping is of references.
    kept = {key: value for key, value in schema.items() if key != "discriminator"}
    return {key: _without_references(value, definitions, above) for key, value in kept.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a YAML file; without a context it is nowhere, as for what is made in Python."""

    context: dg.ResolutionContext | None = None

    def at(self, *path: str | int) -> Place:
        """A place below this one."""
        context = self.context
        for part in path if context is not None else ():
            context = context.at_path(part)  # type: ignore[union-attr]
        return Place(context)

    @contextmanager
    def told(self, *path: str | int) -> Iterator[None]:
        """Errors of the library leave with the line of this place, or of the setting below it that they name."""
        try:
            yield
        except S3DestError as error:
            if self.context is None:
                raise
            below = [*path, *(error.setting.split(".") if error.setting else ())]
            raise ResolutionException(_told(self.context, [(below, error.message)])) from error

    def validated(self, kind: TypeAdapter[Any], value: Any) -> Any:
        """The value as this kind of model; every error is told at its own line."""
        try:
            return kind.validate_python(value)
        except ValidationError as error:
            if self.context is None:
                raise
            raise ResolutionException(
                _told(self.context, [_path_and_message(each) for each in error.errors()])
            ) from None

    def path_of(self, relative: str) -> str:
        """A path beside the YAML file; an absolute one, an address, and one from Python stay as they are."""
        if self.context is None or "://" in relative:
            return relative
        return str(self.directory / relative)

    @property
    def directory(self) -> Path:
        """The directory of the YAML file, or the working directory."""
        tree = self.context.source_position_tree if self.context is not None else None
        return Path(tree.position.filename).parent if tree is not None else Path()


NOWHERE = Place()
"""The place of what is made in Python."""


def _told(context: dg.ResolutionContext, errors: Sequence[tuple[Sequence[str | int], str]]) -> str:
    """The messages with their lines in the file. Of their paths counts what is in the file: pydantic puts the names of
    types in between."""
    tree, parts = context.source_position_tree, []
    for below, message in errors:
        path = list(context.path)
        if tree is None:
            parts.append(f"{'.'.join(map(str, [*path, *below]))}: {message}")
            continue
        for part in below:
            path = [*path, part] if tree.lookup([*path, part]) else path
        found = tree.source_error(yaml_path=path, inline_error_message=message, value_error=True)
        parts.append(f"{found.file_name}:{found.start_line_no} - {found.location}\n{found.snippet}\n{message}")
    return "\n".join(parts)


def _path_and_message(error: Any) -> tuple[list[str | int], str]:
    """Where pydantic found an error, and what it was."""
    path, message = list(error["loc"]), error["msg"]
    if error["type"] == "missing":
        return path, f"{path[-1]} is missing."
    if error["type"].startswith("union_tag"):
        return [*path, "type"], message
    return path, message


class _Placeholder:
    """What a template says of the partition and its stream, which is known when a run starts: again a template."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, dimension: str) -> _Placeholder:
        if dimension.startswith(("_", "jinja")):
            raise AttributeError(dimension)
        return _Placeholder(f"{self._name}.{dimension}")

    def __str__(self) -> str:
        return f"{{{{ {self._name} }}}}"


class _Variable:
    """An environment variable that is looked up when a run starts."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        raise SettingsError(
            f"env_var('{self.name}') is looked up when a run starts, so it cannot be a part of a text. Let it be the "
            f"whole of it, or write env.{self.name}, which is looked up now."
        )


_NAMES = (*PARTITION_VALUES, "stream_name", "stream_namespace")
_SCOPE: Mapping[str, Any] = {"env_var": _Variable, **{name: _Placeholder(name) for name in _NAMES}}


def rendered(context: dg.ResolutionContext, value: Any) -> Any:
    """The value with its templates rendered: those of Dagster, `env_var('NAME')`, and what names the partition or the
    stream.

    A text without a template stays a text, also one of digits.
    """
    return _rendered(context.with_scope(**_SCOPE), value)


def _rendered(context: dg.ResolutionContext, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rendered(context.at_path(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rendered(context.at_path(number), each) for number, each in enumerate(value)]
    if not isinstance(value, str) or not any(mark in value for mark in _TEMPLATE_MARKS):
        return value
    for name in sorted(meta.find_undeclared_variables(_templates.parse(value)) - context.scope.keys()):
        # Within a text it would become nothing; alone it is Dagster's error, with its line.
        context.resolve_value(f"{{{{ {name} }}}}")
    found = context.resolve_value(value)
    if isinstance(found, _Variable):
        return dg.EnvVar(found.name)
    return str(found) if isinstance(found, _Placeholder) else found
