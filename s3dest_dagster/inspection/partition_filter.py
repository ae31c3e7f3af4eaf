"""Selects objects by the values of their directories, as the manifest lists them: no object is read for that.

Must not know: keys, records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, TypeVar

from s3dest_dagster.commit.landed_objects import LandedObject
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.keys.directories import NULL_DIRECTORY

_SETTING = "where"

Listed = TypeVar("Listed")


@dataclass(frozen=True, slots=True)
class PartitionFilter:
    """The values that the directories of an object may have, by the directories' names. None stands for null.

    An object must have one of the values of every name. Without names, every object is selected.
    """

    values: Mapping[str, frozenset[str | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Any) -> PartitionFilter:
        """The filter of a mapping of names to a value or a list of values; None or an empty text stands for null.

        Raises:
            SettingsError: It is not such a mapping.
        """
        if given is None or isinstance(given, PartitionFilter):
            return given or cls()
        if not isinstance(given, Mapping):
            raise _error(f"is {given!r}. It must map names of directories to values, as {{'dt': '2026-01-05'}}")
        return cls({str(name): frozenset(_values(str(name), value)) for name, value in given.items()})

    @classmethod
    def of_texts(cls, given: Iterable[str]) -> PartitionFilter:
        """The filter of texts like `dt=2026-01-05`. Several texts of one name select each of their values.

        Raises:
            SettingsError: A text has no "=".
        """
        values: dict[str, list[str]] = {}
        for text in given:
            name, separator, value = text.partition("=")
            if not separator or not name:
                raise _error(f"{text!r} lacks a name or an '='. Write it as dt=2026-01-05")
            values.setdefault(name, []).append(value)
        return cls.of(values)

    def selects(self, item: LandedObject) -> bool:
        """Whether the object has the values. False for an object that lacks one of the directories."""
        own = item.partition_values or {}
        return all(name in own and own[name] in values for name, values in self.values.items())

    def selected(
        self, objects: Iterable[Listed], item_of: Callable[[Listed], LandedObject], *, unless: Sized = ()
    ) -> Iterator[Listed]:
        """Yields the objects with these values, which may be of many streams.

        Args:
            objects: The objects, with what belongs to them.
            item_of: What the manifest says of one.
            unless: Problems with which the objects may not be all. With one, no name is refused.

        Raises:
            SettingsError: After the last object, if none of them has a directory that the filter names.
        """
        names: set[str] = set()
        has_objects = False
        for each in objects:
            has_objects = True
            names.update(item_of(each).partition_values or ())
            if self.selects(item_of(each)):
                yield each
        if has_objects and not unless:
            self._check_names(names, "the listed streams")

    def check(self, items: Iterable[LandedObject], owner: str) -> None:
        """Checks that every object has the directories that the filter names. `owner` has the objects, for errors.

        Raises:
            SettingsError: An object lacks such a directory.
        """
        known = [item.partition_values or {} for item in items]
        if known:
            self._check_names({name for each in known for name in each}, owner)
        for name in self.values:
            lacking = sum(name not in each for each in known)
            if lacking:
                raise _error(
                    f"names {name!r}, and {lacking:,} of {len(known):,} objects of {owner} were landed without such a "
                    "directory, so that nobody knows which of their records are meant. Land them anew by a full refresh"
                )

    def _check_names(self, known: Collection[str], owner: str) -> None:
        for name in self.values:
            if name not in known:
                hint = did_you_mean(name, known).rstrip(".") if known else "Nothing landed there by `partition_by`"
                raise _error(f"names {name!r}, which is no directory of {owner}. {hint}")


def _values(name: str, given: Any) -> Iterator[str | None]:
    for each in given if isinstance(given, list | tuple | set | frozenset) else [given]:
        if not isinstance(each, str | None):
            raise _error(f"gives {name!r} the value {each!r}. Write it as a text, as the field has it")
        yield None if each in (None, "", NULL_DIRECTORY) else each


def _error(problem: str) -> SettingsError:
    end = "" if problem.endswith("?") else "."
    return SettingsError(f"{_SETTING} {problem}{end}", setting=_SETTING)
