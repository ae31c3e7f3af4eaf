"""The rules of a `FieldSelection` as a tree, and the JSON schema of what is left of a record under them.

A tree has a `Level` for every value that has rules within it, a `Leaf` where a rule applies, and `KEEP` for what lands
as it is. Must not know: records, how a rule is applied to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeAlias

from s3dest_dagster.columns.json_schema import COMBINATIONS, resolve
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.field_paths import ITEMS, FieldPath, Step
from s3dest_dagster.settings.stream_settings import FieldSelection
from s3dest_dagster.stream import Stream

KEEP: Final = None
"""The rule of a value that lands as it is."""
OTHERS = "*"
"""Stands for the fields that `include` does not name, in counts."""
HIDDEN_TYPE: Mapping[str, Any] = {"type": ["null", "string"]}
"""The JSON schema of a hashed or masked field."""
_EXAMPLES = ("default", "examples", "example", "const", "enum")
"""Keywords of a schema that hold values. A level may have values in them that do not land."""
_MAX_REFERENCES = 50


class Action(StrEnum):
    """What happens to a value. The text is the name of the count in a tally."""

    EXCLUDE = "excluded"
    HASH = "hashed"
    MASK = "masked"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that does not land as it is, with everything within it."""

    action: Action
    path: str
    """The path that the counts name."""


@dataclass(frozen=True, slots=True)
class Level:
    """A value with rules within it. If it is neither null nor of the kind that the rules expect, it does not land."""

    path: str
    """The path of the value; empty for the record."""
    keeps_others: bool
    """Whether what has no rule of its own lands."""
    names: dict[str, Node] = field(default_factory=dict)
    """The rules of an object's members."""
    steps_into_items: bool = False
    """Whether the value can be a list."""
    items: Node = KEEP
    """The rule of a list's items, if `steps_into_items`."""
    others: Node = field(init=False)
    """The rule of a member without a rule of its own."""

    def __post_init__(self) -> None:
        others = KEEP if self.keeps_others else Leaf(Action.EXCLUDE, f"{self.path}.{OTHERS}".removeprefix("."))
        object.__setattr__(self, "others", others)

    def member(self, name: str) -> Node:
        """The rule of a member of the object."""
        return self.names.get(name, self.others)


Node: TypeAlias = Leaf | Level | None
_ACTIONS = {"exclude": Action.EXCLUDE, "hash": Action.HASH, "mask": Action.MASK}


@lru_cache(64)
def rules_of(selection: FieldSelection) -> Level:
    """The tree of a selection's rules."""
    root = _Growing(FieldPath(()), selection.include is None)
    for path in sorted(selection.include or (), key=lambda each: len(each.steps)):
        root.include(path)
    for name, paths in selection.rules():
        for path in sorted(paths, key=lambda each: len(each.steps)):
            root.apply(path, _ACTIONS[name])
    level = root.finished()
    assert isinstance(level, Level)
    return level


class _Growing:
    """A value of the tree while it grows."""

    def __init__(self, path: FieldPath, keeps_others: bool) -> None:
        self._path = path
        self._keeps_others = keeps_others
        self._below: dict[Step, _Growing] = {}
        self._action: Action | None = None

    def include(self, path: FieldPath) -> None:
        node = self
        for step in path.steps:
            if node._keeps_others and node is not self:
                return
            node = node._child(step, keeps_others=False)
        node._keeps_others = True

    def apply(self, path: FieldPath, action: Action) -> None:
        node = self
        for step in path.steps:
            # What is not included has no rule that could land it.
            if node._action is not None or (step not in node._below and not node._keeps_others):
                return
            node = node._child(step, keeps_others=node._keeps_others)
        node._action = action

    def _child(self, step: Step, *, keeps_others: bool) -> _Growing:
        return self._below.setdefault(step, _Growing(self._path / step, keeps_others))

    def finished(self) -> Node:
        path = str(self._path)
        if self._action is not None:
            return Leaf(self._action, path)
        if not self._below and self._keeps_others and self._path.steps:
            return KEEP
        below = {step: child.finished() for step, child in self._below.items()}
        names = {step: node for step, node in below.items() if step is not ITEMS}
        return Level(path, self._keeps_others, names, ITEMS in below, below.get(ITEMS))


# ---------------------------------------------------------------------- the schema


def selected_stream(stream: Stream) -> Stream:
    """The stream as it lands: its JSON schema lacks the fields that do not land, and hashed or masked fields are texts.

    Raises:
        SettingsError: A path leads into a field that the schema declares as something else than an object or a list.
    """
    if not stream.selection or stream.json_schema is None:
        return stream
    undeclared_paths(stream)
    pruned = _Pruning(stream.json_schema).of(stream.json_schema, rules_of(stream.selection))
    return replace(stream, json_schema=pruned)


class _Pruning:
    """Removes from a schema what does not land."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def of(self, definition: Any, node: Node, references: int = 0) -> Any:
        if not isinstance(definition, Mapping) or node is KEEP:
            return definition
        if isinstance(node, Leaf):
            texts = {word: definition[word] for word in ("title", "description") if word in definition}
            return {**texts, **HIDDEN_TYPE}
        target = _target(self._root, definition)
        if target is not None and references < _MAX_REFERENCES:
            return self.of(target, node, references + 1)
        return self._level(definition, node)

    def _level(self, definition: Mapping[str, Any], level: Level) -> dict[str, Any]:
        pruned = {word: value for word, value in definition.items() if word not in _EXAMPLES}
        if isinstance(properties := pruned.get("properties"), Mapping):
            nodes = {name: level.member(name) for name in properties}
            pruned["properties"] = {
                name: self.of(properties[name], node) for name, node in nodes.items() if _lands(node)
            }
        if isinstance(required := pruned.get("required"), list | tuple):
            pruned["required"] = [name for name in required if _lands(level.member(name))]
        if isinstance(items := pruned.get("items"), Mapping):
            pruned["items"] = self.of(items, level.items if level.steps_into_items else level.others)
        for word in COMBINATIONS:
            if isinstance(branches := pruned.get(word), list | tuple):
                pruned[word] = [self.of(each, level) for each in branches]
        return pruned


def _lands(node: Node) -> bool:
    return not (isinstance(node, Leaf) and node.action is Action.EXCLUDE)


def _target(root: Mapping[str, Any], definition: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The definition that a local reference leads to; None if this is not one."""
    reference = definition.get("$ref")
    found = resolve(root, reference) if isinstance(reference, str) and reference.startswith("#") else None
    return found if isinstance(found, Mapping) else None


# ---------------------------------------------------------------------- paths that the schema does not have


def undeclared_paths(stream: Stream) -> tuple[FieldPath, ...]:
    """The paths of the stream's rules that name no field of its JSON schema. Their fields may still come undeclared.

    Raises:
        SettingsError: A path leads into a field that is declared as something else than an object or a list.
    """
    selection, schema = stream.selection, stream.json_schema
    if schema is None:
        return ()
    named = [("include", selection.include or ()), *selection.rules()]
    return tuple(path for rule, paths in named for path in paths if not _is_declared(stream, schema, rule, path))


def undeclared_renames(stream: Stream) -> tuple[FieldPath, ...]:
    """The paths of `rename` that name no field of the stream's JSON schema. None of them is an error: a field that has
    a name may come back."""
    schema = stream.json_schema
    if schema is None:
        return ()

    def is_declared(path: FieldPath) -> bool:
        try:
            return _is_declared(stream, schema, "rename", path)
        except SettingsError:
            return False

    return tuple(path for path in stream.settings.rename if not is_declared(path))


def _is_declared(stream: Stream, root: Mapping[str, Any], rule: str, path: FieldPath) -> bool:
    definitions: list[Any] = [root]
    for position, step in enumerate(path.steps):
        branches = branches_of(root, definitions)
        kinds = _kinds(branches)
        if kinds and ("array" if step is ITEMS else "object") not in kinds:
            raise _unreachable(stream, rule, path, FieldPath(path.steps[:position]), kinds)
        word = "items" if step is ITEMS else "properties"
        inner = [branch[word] for branch in branches if word in branch]
        if step is not ITEMS:
            inner = [each[step] for each in inner if isinstance(each, Mapping) and step in each]
        if not inner:
            return False
        definitions = inner
    return True


def branches_of(root: Mapping[str, Any], definitions: Iterable[Any]) -> list[Mapping[str, Any]]:
    """These definitions, with references followed and combinations taken apart."""
    found: list[Mapping[str, Any]] = []
    left = list(definitions)
    while left and len(found) < 10 * _MAX_REFERENCES:
        definition = left.pop(0)
        if isinstance(definition, Mapping) and not any(definition is each for each in found):
            found.append(definition)
            left += [each for word in COMBINATIONS for each in definition.get(word) or ()]
            left += [] if (target := _target(root, definition)) is None else [target]
    return found


def _kinds(branches: Iterable[Mapping[str, Any]]) -> set[str]:
    """The types that a value can have under these definitions, without null. Empty if they are not declared."""
    kinds: set[str] = set()
    for branch in branches:
        named = branch.get("type")
        if any(word in branch for word in COMBINATIONS) or str(branch.get("$ref", "")).startswith("#"):
            continue
        if named is None:
            named = "object" if "properties" in branch else "array" if "items" in branch else None
        if named is None:
            return set()
        kinds |= {str(each) for each in (named if isinstance(named, list | tuple) else [named])}
    return kinds - {"null"}


def _unreachable(stream: Stream, rule: str, path: FieldPath, outer: FieldPath, kinds: set[str]) -> SettingsError:
    what = " or ".join(sorted(kinds))
    advice = (
        f"The items of a list are written {outer}[]."
        if kinds == {"array"}
        else f"Name {outer} as a whole, or correct the path."
    )
    return SettingsError(
        f"Stream {str(stream.id)!r}: fields.{rule} names {path}, and the schema declares {outer} as {what}. {advice}",
        stream=str(stream.id),
        setting=f"fields.{rule}",
    )
