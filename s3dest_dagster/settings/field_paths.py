"""Paths of fields in a record: the one grammar in which settings, plans, counts and messages name a field.

- `mail` is a field of the record, `person.mail` a field of the object `person`.
- `tags[]` is each item of the list `tags`, `items[].mail` the field `mail` of each item of `items`.
- A name that has a dot, or that could be mistaken for an item, is written as a list of names: `["a.b", "mail"]`. Each
  element of the list is one name as it is; only the element `"[]"` means the items. The list may also be JSON text.

Must not know: schemas, records, what a path is for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from s3dest_dagster.errors import SettingsError

ITEMS = None
"""The step of a path from a list to each of its items. All other steps are names."""
Step = str | None
_ITEMS_MARK = "[]"
_HINT = (
    'Write a name ("mail"), names with dots between them ("person.mail"), "[]" for the items of a list '
    '("items[].mail"), or a list of names if a name has a dot itself (["a.b", "mail"]).'
)


@dataclass(frozen=True, slots=True)
class FieldPath:
    """The path from a record to one of its fields, in the source's names."""

    steps: tuple[Step, ...]
    """At least one. The first is a name."""

    @classmethod
    def parse(cls, given: Any, setting: str = "") -> FieldPath:
        """The path that a setting gives, as a text or as a list of names.

        Args:
            given: The text, the list, or a path.
            setting: The setting that has it, for errors.

        Raises:
            SettingsError: It is not a path.
        """
        if isinstance(given, FieldPath):
            return given
        if isinstance(given, str) and (names := _json_list(given)) is not None:
            given = names
        if isinstance(given, str):
            return cls(_steps_of_text(given, setting))
        if isinstance(given, Sequence) and not isinstance(given, bytes):
            return cls(_steps_of_names(given, setting))
        raise _wrong_path(setting, given, "is neither a text nor a list of names")

    def starts_with(self, other: FieldPath) -> bool:
        """Whether this is the other path, or a path to something within its field."""
        return self.steps[: len(other.steps)] == other.steps

    def __truediv__(self, step: Step) -> FieldPath:
        return FieldPath((*self.steps, step))

    def __str__(self) -> str:
        """The path as `parse` reads it: dotted if that is unambiguous, else the list of names as JSON."""
        if any(not _is_plain(step) for step in self.steps):
            return json.dumps([_ITEMS_MARK if step is ITEMS else step for step in self.steps], ensure_ascii=False)
        dotted = "".join(_ITEMS_MARK if step is ITEMS else f".{step}" for step in self.steps)
        return dotted.removeprefix(".")


def join_paths(paths: Iterable[FieldPath]) -> str:
    """The paths for a message, sorted, with commas between them."""
    return ", ".join(sorted(map(str, paths)))


def _is_plain(step: Step) -> bool:
    """Whether a name can be part of a dotted path."""
    return step is ITEMS or (bool(step) and "." not in step and not step.endswith(_ITEMS_MARK) and step[0] != "[")


def _json_list(text: str) -> list[Any] | None:
    """The list of names that a text is as JSON; None for any other text."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _steps_of_text(text: str, setting: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    for part in text.split("."):
        name, depth = part, 0
        while name.endswith(_ITEMS_MARK):
            name, depth = name.removesuffix(_ITEMS_MARK), depth + 1
        if not name or name[0] == "[":
            raise _wrong_path(setting, text, "has an empty name" if not name else "has a bracket where a name begins")
        steps += [name, *[ITEMS] * depth]
    return tuple(steps)


def _steps_of_names(names: Sequence[Any], setting: str) -> tuple[Step, ...]:
    if not names:
        raise _wrong_path(setting, list(names), "has no name")
    if not all(isinstance(name, str) for name in names):
        raise _wrong_path(setting, list(names), "has an element that is not a text")
    if names[0] == _ITEMS_MARK:
        raise _wrong_path(setting, list(names), "begins with items, and a record is not a list")
    return tuple(ITEMS if name == _ITEMS_MARK else name for name in names)


def _wrong_path(setting: str, given: Any, problem: str) -> SettingsError:
    where = f"{setting}: " if setting else ""
    return SettingsError(f"{where}the path {given!r} {problem}. {_HINT}", setting=setting or None)
