"""What happened to values, on its way to a `Tally`: by value as events, by column as notes with row numbers.

It must not know kinds, rules or Arrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from s3dest_dagster.batch import Tally


class Outcome(IntEnum):
    """What a `Tally` counts."""

    COERCED = 0
    OVERFLOWED = 1
    UNDECLARED = 2


Event = tuple[Outcome, str]
"""One value's outcome, and the dotted original name of its field."""


class Misfit(NamedTuple):
    """A value that did not land in its field: the field's dotted original name, the value's text, and whether its name
    stands again in the record, with the value that counts."""

    path: str
    text: str
    is_repeated: bool = False


class ConversionLog:
    """What happened while a value was converted: events by dotted name, misfits, and whether a number in it is not
    exact."""

    __slots__ = ("events", "inexact", "misfits")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.misfits: list[Misfit] = []
        self.inexact = False

    def mark(self) -> tuple[int, int, bool]:
        """Where the trail stands, to come back to when a branch turns out not to fit."""
        return len(self.events), len(self.misfits), self.inexact

    def back(self, mark: tuple[int, int, bool]) -> None:
        """Forgets what happened since the mark."""
        del self.events[mark[0] :]
        del self.misfits[mark[1] :]
        self.inexact = mark[2]


def tally_of(counts: Mapping[Event, int]) -> Tally:
    """The tally of these counts, independent of their order; names beyond the tally's limit are summed."""
    by_outcome = [_bounded({name: count for (o, name), count in counts.items() if o is outcome}) for outcome in Outcome]
    return Tally(*by_outcome)


def _bounded(counts: dict[str, int]) -> dict[str, int]:
    names = sorted(counts)
    kept = {name: counts[name] for name in names[: Tally.MAX_NAMES]}
    if len(names) > Tally.MAX_NAMES:
        others = sum(counts[name] for name in names[Tally.MAX_NAMES :])
        kept[Tally.OTHERS] = kept.get(Tally.OTHERS, 0) + others
    return kept
