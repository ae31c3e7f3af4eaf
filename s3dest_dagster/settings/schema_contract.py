"""The schema contract: what a stream does when its source brings another schema than the stream remembers.

Must not know: schemas, records, where a contract is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from s3dest_dagster.errors import SettingsError, did_you_mean


class Verdict(StrEnum):
    """What happens at a difference."""

    EVOLVE = "evolve"
    """The stream follows its source."""
    FREEZE = "freeze"
    """The sync fails before anything with the difference is published."""
    DISCARD = "discard"
    """The columns stay as they are. Values that have no column are kept in the overflow column or dropped, and
    counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaContract:
    """The verdict for each kind of difference. Raises SettingsError for a verdict that is not known or has no meaning.

    Example:
        SchemaContract(new_column="freeze", new_type="freeze")
    """

    new_column: Verdict = Verdict.EVOLVE
    """A property that the stream never had. `discard`: its values count as those of an undeclared field, which never
    fail the sync."""
    new_type: Verdict = Verdict.EVOLVE
    """A column whose type would change. `discard`: its type stays, and values that do not fit go to the overflow
    column."""
    missing_column: Verdict = Verdict.EVOLVE
    """A property that a declared schema no longer has. `evolve`: new objects lack its column. `discard`: they have it,
    and it is null."""
    new_stream: Verdict = Verdict.EVOLVE
    """A stream that has never landed. `discard`: its records are counted, and neither they nor its states land."""
    undeclared_field: Verdict = Verdict.EVOLVE
    """A field of a record that a declared schema does not have. `evolve`: it is kept in the overflow column.
    `discard`: it is counted and dropped."""

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, _verdict(each.name, getattr(self, each.name)))

    @classmethod
    def of(cls, given: SchemaContract | str | Mapping[str, str] | None) -> SchemaContract:
        """The contract that a setting gives: one word for all differences, or a mapping.

        The word `discard` leaves `new_stream` at `evolve`, since nothing would ever land otherwise, and so is every
        difference that a mapping does not name.

        Raises:
            SettingsError: It is neither, or a word is not known.
        """
        if isinstance(given, SchemaContract):
            return given
        if isinstance(given, str):
            return cls.all(given)
        if not isinstance(given, Mapping | None):
            raise _error(f"is {given!r}. Give one of {_WORDS}, or a mapping of {_NAMES} to them.")
        for name in given or ():
            if name not in _FIELDS:
                raise _error(f"has no {name!r}. {did_you_mean(str(name), _FIELDS)}")
        return cls(**dict(given or {}))  # type: ignore[arg-type]  # checked when it is made

    @classmethod
    def all(cls, word: str) -> SchemaContract:
        """The contract with the same verdict for all differences, except that `discard` lets new streams land."""
        verdict = _verdict("", word)
        verdicts = dict.fromkeys(_FIELDS, verdict)
        if verdict is Verdict.DISCARD:
            verdicts["new_stream"] = Verdict.EVOLVE
        return cls(**verdicts)

    def to_mapping(self) -> dict[str, str]:
        """The contract as a mapping, for display."""
        return {name: str(getattr(self, name)) for name in _FIELDS}


_FIELDS = tuple(each.name for each in fields(SchemaContract))
_NAMES = ", ".join(_FIELDS)
_WORDS = ", ".join(repr(str(each)) for each in Verdict)


def _verdict(name: str, given: Any) -> Verdict:
    word = given.lower() if isinstance(given, str) else given
    if word not in tuple(Verdict):
        raise _error(f"{name + ' ' if name else ''}is {given!r}. Known are {_WORDS}.".lstrip())
    return Verdict(word)


def _error(problem: str) -> SettingsError:
    return SettingsError(f"schema_contract {problem}", setting="schema_contract")
