"""What stands in YAML as values: templates rendered where there are any, and errors told at their line.

It knows Dagster's resolution of YAML; it must not know what the values are for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import yaml
from dagster.components.resolved.errors import ResolutionException
from jinja2 import nodes
from pydantic import TypeAdapter, ValidationError, WithJsonSchema

from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.sources import template_engine
from s3dest_dagster.sources.templating import PARTITION_VALUES, names_in

_TEMPLATE_MARKS = ("{{", "{%", "{#")


def as_said(kind: Any) -> Any:
    """The type of a field whose schema is that of `kind`, and whose value is left for `Place.validated`: pydantic's own
    errors within a union lose the line."""
    schema = TypeAdapter(kind).json_schema()
    return Annotated[Any, WithJsonSchema(by_kind(_without_references(schema, schema.pop("$defs", {}))))]


def by_kind(schema: Any, tag: str = "type") -> Any:
    """The schema with alternatives by what the value is, so that a validator tells what is wrong with the one that is
    meant: of a union it says only that none fits. Objects are told apart by `tag`."""
    if isinstance(schema, list):
        return [by_kind(each, tag) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: by_kind(value, tag) for key, value in schema.items()}
    members = plain.pop("anyOf", None) or plain.pop("oneOf", None)
    if members is None:
        return plain
    if not all("type" in each for each in members):
        return {**plain, "anyOf": members}
    kinds: dict[str, list[Any]] = {}
    for each in members:
        for kind in [each["type"]] if isinstance(each["type"], str) else each["type"]:
            kinds.setdefault(kind, []).append(each)
    if len(kinds) == 1:
        (kind,) = kinds
        return {**plain, "type": kind, **_one_of(members, tag)}
    cases = [{"if": {"type": kind}, "then": _one_of(same, tag)} for kind, same in kinds.items()]
    return {**plain, "type": list(kinds), "allOf": cases}


def _one_of(members: list[Any], tag: str) -> Any:
    """One schema of several of a kind: objects by the value of their tag, texts and others as any of them."""
    if len(members) == 1:
        return members[0]
    tags = [_tag(each, tag) for each in members]
    if None in tags:
        return {"anyOf": members}
    cases = [
        {"if": {"properties": {tag: {"const": name}}}, "then": each} for name, each in zip(tags, members, strict=True)
    ]
    return {"properties": {tag: {"enum": tags}}, "required": [tag], "allOf": cases}


def _tag(member: Any, tag: str) -> Any:
    """What the tag of such an object is."""
    said = member.get("properties", {}).get(tag, {})
    return said.get("const", next(iter(said.get("enum", ())), None))


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
            raise ResolutionException(_told(self.context, _paths_and_messages(error.errors()))) from None

    def check_keys(self) -> None:
        """Returns when no key stands twice in the YAML file: the last one would win without a word."""
        tree = self.context.source_position_tree if self.context is not None else None
        if tree is None:
            return
        name = tree.position.filename
        for key, line, first in _repeated(Path(name)):
            raise ResolutionException(
                f"{name}:{line}\nThe key {key!r} stands twice, first in line {first}. Remove one of them."
            )

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


def _repeated(file: Path) -> Iterator[tuple[str, int, int]]:
    """The keys that stand twice in a mapping of the file, with their lines."""
    left: list[Any] = list(yaml.compose_all(file.read_text("utf-8"), Loader=yaml.SafeLoader))
    seen: set[int] = set()  # what an alias names is there several times
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


_KINDS = {
    "dict_type": "an object",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a text",
    "list_type": "a list",
    "is_instance_of": "a list",
}
"""What a value may be, by pydantic's errors of types."""


def _paths_and_messages(errors: Sequence[Any]) -> list[tuple[list[str | int], str]]:
    """Each error with its place. Of a value that may be of several kinds, and is of none, one sentence tells all."""
    told: list[tuple[list[str | int], str]] = []
    by_value: dict[int, list[Any]] = {}
    for each in errors:
        if each["type"] in _KINDS:
            by_value.setdefault(id(each["input"]), []).append(each)
        else:
            told.append(_path_and_message(each))
    for same in by_value.values():
        kinds = list(dict.fromkeys(_KINDS[each["type"]] for each in same))
        told.append((list(same[0]["loc"]), f"{_brief(same[0]['input'])} is not {' or '.join(kinds)}."))
    return told


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _path_and_message(error: Any) -> tuple[list[str | int], str]:
    """Where pydantic found an error, and what it was."""
    path, message = list(error["loc"]), error["msg"]
    if error["type"] == "missing":
        return path, f"{path[-1]} is missing."
    if error["type"] == "union_tag_not_found":
        return path, "type is missing, which says what it is."
    if error["type"] == "union_tag_invalid":
        context = error["ctx"]
        return [*path, "type"], f"There is no type {context['tag']!r}. There are {context['expected_tags']}."
    return path, message


PARTITION = PARTITION_VALUES
"""What names the partition of a run, for `rendered`."""
STREAM = ("stream_name", "stream_namespace")
"""What names the stream, for `rendered`."""
_AT_RUN = frozenset({*PARTITION, *STREAM})
_VARIABLE = "env_var"


def rendered(context: dg.ResolutionContext, value: Any, *, at_run: Collection[str] = ()) -> Any:
    """The value with its templates rendered: those of Dagster now, and `env_var('NAME')` as a `dg.EnvVar`.

    What names the partition or the stream is known when a run starts: a text that asks for it stays a template, in
    which all else is rendered, where the name is among `at_run`, and is refused elsewhere. A text without a template
    stays a text, also one of digits. Errors are told at their line.
    """
    if isinstance(value, Mapping):
        return {key: rendered(context.at_path(key), each, at_run=at_run) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rendered(context.at_path(number), each, at_run=at_run) for number, each in enumerate(value)]
    if not isinstance(value, str) or not any(mark in value for mark in _TEMPLATE_MARKS):
        return value
    with Place(context).told():
        return _text(context, value, frozenset(at_run))


def _text(context: dg.ResolutionContext, text: str, at_run: frozenset[str]) -> Any:
    asked = _undeclared(text)
    if _VARIABLE in asked:
        return _variable(text)
    if not asked & _AT_RUN:
        return _now(context, text)
    if elsewhere := sorted(asked & _AT_RUN - at_run):
        raise SettingsError(
            f"{{{{ {elsewhere[0]} }}}} is known when a run starts, and cannot stand here. It can in a connector's "
            "config and in the path of files; in s3_path_format the partition is ${PARTITION}."
        )
    made = _left_for_the_run(context, text, asked)
    names_in(made)
    return made


def _left_for_the_run(context: dg.ResolutionContext, text: str, asked: frozenset[str]) -> str:
    """The template with what is known now in place."""
    if asked <= _AT_RUN:
        return text
    parts = template_engine.segments(text)
    if parts is None:
        raise _of_both(asked)
    made = []
    for part in parts:
        its = _undeclared(part)
        if its & _AT_RUN and not its <= _AT_RUN:
            raise _of_both(its)
        made.append(part if not its or its & _AT_RUN else template_engine.literal(str(_now(context, part))))
    return "".join(made)


def _of_both(asked: Collection[str]) -> SettingsError:
    now, later = (sorted(each) for each in (set(asked) - _AT_RUN, set(asked) & _AT_RUN))
    return SettingsError(
        f"{', '.join(later)} is known when a run starts, and {', '.join(now)} when the definitions are loaded: they "
        "cannot stand in one expression or block. Let each have braces of its own."
    )


def _now(context: dg.ResolutionContext, text: str) -> Any:
    """A template of Dagster's, rendered."""
    for name in sorted(_undeclared(text) - context.scope.keys()):
        # Within a text it would become nothing; alone it is Dagster's error, with its line.
        context.resolve_value(f"{{{{ {name} }}}}")
    return context.resolve_value(text)


def _variable(text: str) -> Any:
    """The variable of a text that is `{{ env_var('NAME') }}` or `{{ env_var('NAME') | int }}`."""
    found = _VARIABLE_ALONE.fullmatch(text.strip())
    if found is None:
        raise SettingsError(
            "env_var('NAME') is looked up when a run starts, so it cannot be a part of a text or expression. Let it be "
            "the whole of the text, alone or as {{ env_var('NAME') | int }}, or write env.NAME, which is looked up now."
        )
    return dg.EnvVar.int(found["name"]) if found["int"] else dg.EnvVar(found["name"])


_VARIABLE_ALONE = re.compile(
    r"\{\{-?\s*env_var\(\s*(?P<mark>['\"])(?P<name>\w+)(?P=mark)\s*\)\s*(?P<int>\|\s*int\s*)?-?\}\}"
)


def _undeclared(text: str) -> frozenset[str]:
    """The names that a template asks for. SettingsError for what is no template."""
    tree = template_engine.parsed(text)
    try:
        names = [(each.name, each.ctx) for each in tree.find_all(nodes.Name)]
    except RecursionError:
        raise SettingsError("The template nests too deeply.") from None
    return frozenset(name for name, _ in names) - {name for name, how in names if how != "load"}
