"""The values in YAML: renders their templates, and adds their line to errors.

Must not know: what the values are for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import yaml
from dagster.components.resolved.errors import ResolutionException
from jinja2 import nodes
from pydantic import TypeAdapter, ValidationError, WithJsonSchema

from s3dest_dagster.dagster.lineage import code_reference
from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.sources import template_engine
from s3dest_dagster.sources.templating import PARTITION_VALUES, STREAM_VALUES, placeholder_names

_TEMPLATE_MARKS = ("{{", "{%", "{#")


# ---------------------------------------------------------------------- schemas


def as_given(kind: Any) -> Any:
    """The type of a field with the schema of `kind` that accepts any value; `SourcePosition.validated` checks it.

    pydantic's own errors within a union would lose the line.
    """
    schema = TypeAdapter(kind).json_schema()
    return Annotated[Any, WithJsonSchema(by_kind(_without_references(schema, schema.pop("$defs", {}))))]


def by_kind(schema: Any, tag: str = "type") -> Any:
    """The schema with its unions replaced by conditions on the value's type, and on the `tag` of an object.

    A validator then says what is wrong with the intended member. For a union, it would only say that no member matches.
    """
    if isinstance(schema, list):
        return [by_kind(inner, tag) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: by_kind(value, tag) for key, value in schema.items()}
    members = rest.pop("anyOf", None) or rest.pop("oneOf", None)
    if members is None:
        return rest
    if not all("type" in member for member in members):
        return {**rest, "anyOf": members}
    kinds: dict[str, list[Any]] = {}
    for member in members:
        for kind in [member["type"]] if isinstance(member["type"], str) else member["type"]:
            kinds.setdefault(kind, []).append(member)
    if len(kinds) == 1:
        (kind,) = kinds
        return {**rest, "type": kind, **_by_tag(members, tag)}
    cases = [{"if": {"type": kind}, "then": _by_tag(same, tag)} for kind, same in kinds.items()]
    return {**rest, "type": list(kinds), "allOf": cases}


def _by_tag(members: list[Any], tag: str) -> Any:
    """One schema for several members of a type: objects are selected by their tag, other values may match any
    member."""
    if len(members) == 1:
        return members[0]
    tags = [_tag_value(member, tag) for member in members]
    if None in tags:
        return {"anyOf": members}
    cases = [
        {"if": {"properties": {tag: {"const": name}}}, "then": member}
        for name, member in zip(tags, members, strict=True)
    ]
    return {"properties": {tag: {"enum": tags}}, "required": [tag], "allOf": cases}


def _tag_value(member: Any, tag: str) -> Any:
    """The value of the tag that identifies such an object."""
    schema = member.get("properties", {}).get(tag, {})
    return schema.get("const", next(iter(schema.get("enum", ())), None))


def _without_references(schema: Any, definitions: Mapping[str, Any], above: tuple[str, ...] = ()) -> Any:
    """The schema with each reference replaced by its target. A recursive reference becomes any object."""
    if isinstance(schema, list):
        return [_without_references(inner, definitions, above) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return (
            {"type": "object"} if name in above else _without_references(definitions[name], definitions, (*above, name))
        )
    # The mapping of a discriminator consists of references.
    kept = {key: value for key, value in schema.items() if key != "discriminator"}
    return {key: _without_references(value, definitions, above) for key, value in kept.items()}


# ---------------------------------------------------------------------- positions and errors


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """A position in a YAML file. A component that is created in Python has no context and no position."""

    context: dg.ResolutionContext | None = None

    @contextmanager
    def located(self, *path: str | int) -> Iterator[None]:
        """Adds to the library's errors the line of this position, or of the setting below it that they name."""
        try:
            yield
        except S3DestError as error:
            if self.context is None:
                raise
            below = [*path, *(error.setting.split(".") if error.setting else ())]
            raise ResolutionException(_describe(self.context, [(below, error.message)])) from error

    def validated(self, kind: TypeAdapter[Any], value: Any) -> Any:
        """Validates the value as this kind of model. Every error names its own line."""
        try:
            return kind.validate_python(value)
        except ValidationError as error:
            if self.context is None:
                raise
            raise ResolutionException(_describe(self.context, _paths_and_messages(error.errors()))) from None

    def check_keys(self) -> None:
        """Raises ResolutionException if a key is repeated in the YAML file. The last one would silently win."""
        tree = self.context.source_position_tree if self.context is not None else None
        if tree is None:
            return
        name = tree.position.filename
        for key, line, first in _repeated_keys(Path(name)):
            raise ResolutionException(
                f"{name}:{line}\nThe key {key!r} occurs twice, first in line {first}. Remove one of them."
            )

    def code_reference(self, label: str) -> dict[str, Any]:
        """The line of this position, as Dagster's standard metadata. Empty for a position in Python."""
        tree = self.context.source_position_tree if self.context is not None else None
        if self.context is None or tree is None:
            return {}
        position = tree.lookup(list(self.context.path)) or tree.position
        return code_reference(position.filename, position.start.line, label)

    def path_of(self, relative: str) -> str:
        """A path relative to the YAML file. An absolute path, an address, and a path from Python stay as they are."""
        if self.context is None or "://" in relative:
            return relative
        tree = self.context.source_position_tree
        directory = Path(tree.position.filename).parent if tree is not None else Path()
        return str(directory / relative)


NOWHERE = SourcePosition()
"""The position of values that are created in Python."""


def _repeated_keys(file: Path) -> Iterator[tuple[str, int, int]]:
    """Yields the keys that are repeated in a mapping of the file, with both lines."""
    left: list[Any] = list(yaml.compose_all(file.read_text("utf-8"), Loader=yaml.SafeLoader))
    seen: set[int] = set()  # an alias gives the same node again
    while left:
        node = left.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            left.append(value)
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines and key.tag != "tag:yaml.org,2002:merge":
                yield key.value, line, lines[key.value]
            lines[key.value if isinstance(key, yaml.ScalarNode) else str(line)] = line


def _describe(context: dg.ResolutionContext, errors: Sequence[tuple[Sequence[str | int], str]]) -> str:
    """The messages with their lines in the file.

    Parts of a path that are not in the file are skipped: pydantic inserts the names of types.
    """
    tree, parts = context.source_position_tree, []
    for below, message in errors:
        path = list(context.path)
        if tree is None:
            parts.append(f"{'.'.join(map(str, [*path, *below]))}: {message}")
            continue
        for part in below:
            path = [*path, part] if tree.lookup([*path, part]) else path
        line = tree.source_error(yaml_path=path, inline_error_message=message, value_error=True)
        parts.append(f"{line.file_name}:{line.start_line_no} - {line.location}\n{line.snippet}\n{message}")
    return "\n".join(parts)


_TYPE_ERRORS = {
    "dict_type": "an object",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a text",
    "list_type": "a list",
    "is_instance_of": "a list",
}
"""The expected type of a value in words, by pydantic's names of type errors."""


def _paths_and_messages(errors: Sequence[Any]) -> list[tuple[list[str | int], str]]:
    """Each error's path and message. Type errors for several members of a union are merged into one error."""
    messages: list[tuple[list[str | int], str]] = []
    by_value: dict[int, list[Any]] = {}
    for error in errors:
        if error["type"] in _TYPE_ERRORS:
            by_value.setdefault(id(error["input"]), []).append(error)
        else:
            messages.append(_path_and_message(error))
    for same in by_value.values():
        kinds = list(dict.fromkeys(_TYPE_ERRORS[error["type"]] for error in same))
        messages.append((list(same[0]["loc"]), f"{_brief(same[0]['input'])} is not {' or '.join(kinds)}."))
    return messages


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _path_and_message(error: Any) -> tuple[list[str | int], str]:
    path, message = list(error["loc"]), error["msg"]
    if error["type"] == "missing":
        return path, f"{path[-1]} is missing."
    if error["type"] == "union_tag_not_found":
        return path, "type is missing, which says what it is."
    if error["type"] == "union_tag_invalid":
        context = error["ctx"]
        return [*path, "type"], f"There is no type {context['tag']!r}. There are {context['expected_tags']}."
    return path, message


def imported(path: str) -> Any:
    """The object at a path of imports, package.module.name. Raises SettingsError if there is none."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{path} cannot be imported: {error}. Write package.module.name.") from None


# ---------------------------------------------------------------------- templates

_AT_RUN = frozenset({*PARTITION_VALUES, *STREAM_VALUES})
_VARIABLE = "env_var"


def render(context: dg.ResolutionContext, value: Any, *, at_run: Collection[str] = ()) -> Any:
    """The value with its templates rendered, and `env_var('NAME')` as a `dg.EnvVar`.

    Names of the partition and the stream are known only when a run starts. A text that uses such a name stays a
    template, in which everything else is rendered. A text without a template stays a text, even if it consists of
    digits. Errors name their line.

    Args:
        at_run: The names known at the start of a run that the value may use. All others are refused.
    """
    if isinstance(value, Mapping):
        return {key: render(context.at_path(key), inner, at_run=at_run) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [render(context.at_path(number), inner, at_run=at_run) for number, inner in enumerate(value)]
    if not isinstance(value, str) or not any(mark in value for mark in _TEMPLATE_MARKS):
        return value
    with SourcePosition(context).located():
        return _render_text(context, value, frozenset(at_run))


def _render_text(context: dg.ResolutionContext, text: str, at_run: frozenset[str]) -> Any:
    names = _names_used(text)
    if _VARIABLE in names:
        return _variable(text)
    if not names & _AT_RUN:
        return _render_now(context, text)
    if refused := sorted(names & _AT_RUN - at_run):
        raise SettingsError(
            f"{{{{ {refused[0]} }}}} is known when a run starts, and cannot be used here. It can be used in a "
            "connector's config and in the path of files; in s3_path_format the partition is ${PARTITION}."
        )
    template = _render_partly(context, text, names)
    placeholder_names(template)
    return template


def _render_partly(context: dg.ResolutionContext, text: str, names: frozenset[str]) -> str:
    """The template with everything rendered that is known now."""
    if names <= _AT_RUN:
        return text
    segments = template_engine.split_expressions(text)
    if segments is None:
        raise _mixed_expression(names)
    rendered = []
    for segment in segments:
        used = _names_used(segment)
        if used & _AT_RUN and not used <= _AT_RUN:
            raise _mixed_expression(used)
        is_kept = not used or used & _AT_RUN
        rendered.append(segment if is_kept else template_engine.escape_template(str(_render_now(context, segment))))
    return "".join(rendered)


def _mixed_expression(names: Collection[str]) -> SettingsError:
    now, later = (sorted(group) for group in (set(names) - _AT_RUN, set(names) & _AT_RUN))
    return SettingsError(
        f"{', '.join(later)} is known when a run starts, and {', '.join(now)} when the definitions are loaded: they "
        "cannot be in one expression or block. Give each its own braces."
    )


def _render_now(context: dg.ResolutionContext, text: str) -> Any:
    for name in sorted(_names_used(text) - context.scope.keys()):
        # Within a text, an unknown name would become empty. Alone, it raises Dagster's error, with its line.
        context.resolve_value(f"{{{{ {name} }}}}")
    return context.resolve_value(text)


_VARIABLE_ALONE = re.compile(
    r"\{\{-?\s*env_var\(\s*(?P<mark>['\"])(?P<name>\w+)(?P=mark)\s*\)\s*(?P<int>\|\s*int\s*)?-?\}\}"
)


def _variable(text: str) -> Any:
    """The variable of a text that is `{{ env_var('NAME') }}` or `{{ env_var('NAME') | int }}`."""
    match = _VARIABLE_ALONE.fullmatch(text.strip())
    if match is None:
        raise SettingsError(
            "env_var('NAME') is looked up when a run starts, so it cannot be a part of a text or expression. Let it be "
            "the whole of the text, alone or as {{ env_var('NAME') | int }}, or write env.NAME, which is looked up now."
        )
    return dg.EnvVar.int(match["name"]) if match["int"] else dg.EnvVar(match["name"])


def _names_used(text: str) -> frozenset[str]:
    """The names that a template uses but does not set. Raises SettingsError if the text is not a template."""
    tree = template_engine.parse(text)
    try:
        names = [(node.name, node.ctx) for node in tree.find_all(nodes.Name)]
    except RecursionError:
        raise SettingsError("The template nests too deeply.") from None
    return frozenset(name for name, _ in names) - {name for name, use in names if use != "load"}
