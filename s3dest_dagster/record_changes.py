"""What was changed in records on their way, in the words of the Airbyte protocol (`meta.changes` of a record).

Sources say so of their records, and the library of values that it could not land in their columns. Values only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

NULLED, TRUNCATED = "NULLED", "TRUNCATED"
"""What happened to the field's value: it is null, or a part of it is gone."""
SIZE_LIMITATION = "DESTINATION_FIELD_SIZE_LIMITATION"
"""The reason for a value of the declared type that is too large or too precise for its column."""
SERIALIZATION_ERROR = "DESTINATION_SERIALIZATION_ERROR"
"""The reason for any other value that its column cannot hold."""


class Change(NamedTuple):
    """One change of a record.

    Example:
        Change("born", NULLED, SERIALIZATION_ERROR)
    """

    field: str
    """The dotted name of the field."""
    change: str
    """What happened, such as `NULLED`."""
    reason: str
    """Why, such as `SERIALIZATION_ERROR`."""


Changes = Mapping[int, tuple[Change, ...]]
"""The changes of a batch's records by their rows. Rows without changes are left out."""


def selected_changes(changes: Changes, rows: Sequence[int]) -> Changes:
    """The changes of these rows, numbered by their new order."""
    return {new: changes[old] for new, old in enumerate(rows) if old in changes} if changes else changes


def joined_changes(first: Changes, second: Changes) -> Changes:
    """The changes of both, row by row. A change that both have comes once."""
    if not (first and second):
        return first or second
    rows = {*first, *second}
    return {row: tuple(dict.fromkeys((*first.get(row, ()), *second.get(row, ())))) for row in rows}


def nulled(fields: Iterable[str]) -> tuple[Change, ...]:
    """The changes of a record in which these fields had values that cannot land."""
    return tuple(Change(field, NULLED, SERIALIZATION_ERROR) for field in dict.fromkeys(fields))
