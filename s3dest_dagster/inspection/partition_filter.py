"""Selects objects by the values of their directories, as the manifest lists them: no object is read for that.

Must not know: keys, records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from s3dest_dagster.commit.segment import LandedObject
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.keys.directories import NULL_DIRECTORY

_SETTING = "where"


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
                raise _error(f"{text!r} has no name or no '='. Write it as dt=2026-01-05")
            values.setdefault(name, []).append(value)
        return cls.of(values)

    def selects(self, item: LandedObject) -> bool:
        """Whether the object has the values. False for an object that lacks one of the directories."""
        own = item.partition_values or {}
        return all(name in own and own[name] in values for name, values in self.values.items())

    def check(self, items: Iterable[LandedObject], owner: str, *, all_items: bool) -> None:
        """Checks that the filter can be applied to these objects.

        Args:
            items: The objects.
            owner: What holds them, for errors.
            all_items: Whether every object must have the directories. Otherwise one is enough.

        Raises:
            SettingsError: An object, or every object, lacks a directory that the filter names.
        """
        known = [item.partition_values or {} for item in items]
        for name in self.values:
            having = sum(name in each for each in known)
            if known and having == 0:
                names = sorted({other for each in known for other in each})
                raise _error(f"names {name!r}, and {owner} has no such directories. {did_you_mean(name, names)}")
            if all_items and having < len(known):
                raise _error(
                    f"names {name!r}, and {len(known) - having:,} of {len(known):,} objects of {owner} were landed "
                    "without such a directory, so that nobody knows which of their records are meant. Land them anew "
                    "by a full refresh"
                )


def _values(name: str, given: Any) -> Iterator[str | None]:
    for each in given if isinstance(given, list | tuple | set | frozenset) else [given]:
        if not isinstance(each, str | None):
            raise _error(f"gives {name!r} the value {each!r}. Write it as a text, as the directory has it")
        yield None if each in (None, "", NULL_DIRECTORY) else each


def _error(problem: str) -> SettingsError:
    return SettingsError(f"{_SETTING} {problem}.", setting=_SETTING)
