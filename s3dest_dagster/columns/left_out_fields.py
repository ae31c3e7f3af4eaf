"""Which fields of a stream do not land: those that a catalog leaves out of a schema, and those that rules hide.

Must not know: records, how a rule is applied to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from s3dest_dagster.columns.field_rules import Action, branches_of, selected_stream
from s3dest_dagster.settings.field_paths import ITEMS, FieldPath
from s3dest_dagster.stream import Stream

_REPETITIONS = (8, 4, 2, 1)
"""How often a definition within itself is followed: the first number that gives not too many paths."""
_MOST_REPEATED = 500
"""The most paths for which definitions are followed within themselves."""


def left_out_paths(schema: Any, selected: Any) -> tuple[FieldPath, ...]:
    """The paths of properties that a schema has and another one, made from it, leaves out, at any depth, also behind
    references and in combinations.

    An object that the other one declares without properties, and a list without items, are selected as a whole. A
    definition that contains itself is followed a few times. If it leaves something out, the field that would repeat it
    once more is left out as a whole, so that nothing deeper lands.
    """
    if not isinstance(schema, Mapping) or not isinstance(selected, Mapping):
        return ()
    for repetitions in _REPETITIONS:
        found = tuple(islice(_LeftOut(schema, selected, repetitions).paths(), _MOST_REPEATED + 1))
        if len(found) <= _MOST_REPEATED:
            return found
    return tuple(_LeftOut(schema, selected, 0).paths())


class _LeftOut:
    """Compares a schema with another one, made from it.

    Args:
        schema: The schema.
        selected: The other one.
        repetitions: How often a definition within itself is followed.
    """

    def __init__(self, schema: Mapping[str, Any], selected: Mapping[str, Any], repetitions: int) -> None:
        self._schema = schema
        self._selected = selected
        self._repetitions = repetitions
        self._incomplete: dict[tuple[int, ...], bool] = {}

    def paths(self) -> Iterator[FieldPath]:
        """Yields all paths."""
        return self._below(FieldPath(()), [self._schema], [self._selected], ())

    def _below(
        self, path: FieldPath, known: Sequence[Any], left: Sequence[Any], enclosing: tuple[int, ...]
    ) -> Iterator[FieldPath]:
        """Yields the paths below one, which has these definitions in the two schemas."""
        known, left = branches_of(self._schema, known), branches_of(self._selected, left)
        repeated = max((enclosing.count(id(each)) for each in known), default=0)
        if repeated and not self._omits(known, left):
            return
        if repeated > self._repetitions:
            yield _named(path)
            return
        enclosing = (*enclosing, *map(id, known))
        kept = _properties(left)
        if kept is not None:
            for name, definitions in (_properties(known) or {}).items():
                if name in kept:
                    yield from self._below(path / name, definitions, kept[name], enclosing)
                else:
                    yield path / name
        items = _items(left)
        if path.steps and items:
            yield from self._below(path / ITEMS, _items(known), items, enclosing)

    def _omits(self, known: Sequence[Any], left: Sequence[Any]) -> bool:
        """Whether anything is left out of a definition that contains itself, found without following it again."""
        # Every reference is a definition of its own. Those with fields or items are the same.
        ids = tuple(id(each) for each in (*known, *left) if "properties" in each or "items" in each)
        if ids not in self._incomplete:
            once = _Once(self._schema, self._selected, 0)
            self._incomplete[ids] = any(True for _ in once._below(FieldPath(("",)), known, left, ()))
        return self._incomplete[ids]


class _Once(_LeftOut):
    """Does not follow a definition within itself."""

    def _omits(self, known: Sequence[Any], left: Sequence[Any]) -> bool:
        return False


def _named(path: FieldPath) -> FieldPath:
    """The path of the field that has these items, or the path itself."""
    steps = path.steps
    while steps[-1:] == (ITEMS,):
        steps = steps[:-1]
    return FieldPath(steps)


def _properties(branches: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]] | None:
    """The definitions of each property in any of these branches. None if none has properties."""
    found: dict[str, list[Any]] | None = None
    for branch in branches:
        if isinstance(properties := branch.get("properties"), Mapping):
            found = {} if found is None else found
            for name, definition in properties.items():
                found.setdefault(name, []).append(definition)
    return found


def _items(branches: Iterable[Mapping[str, Any]]) -> list[Any]:
    """The definitions of the items in any of these branches."""
    found: list[Any] = []
    for branch in branches:
        items = branch.get("items")
        found += items if isinstance(items, list | tuple) else [] if items is None else [items]
    return found


def hidden_fields(stream: Stream) -> dict[str, tuple[str, ...]]:
    """The paths of the fields that are excluded, hashed and masked, by `Action`. Fields that `include` leaves out are
    named as far as the schema declares them. Actions that no field has are left out."""
    rules = dict(stream.selection.rules())
    excluded = [*rules["exclude"], *left_out_paths(stream.json_schema, selected_stream(stream).json_schema)]
    by_action = {Action.EXCLUDE: excluded, Action.HASH: rules["hash"], Action.MASK: rules["mask"]}
    return {action.value: tuple(dict.fromkeys(map(str, paths))) for action, paths in by_action.items() if paths}
