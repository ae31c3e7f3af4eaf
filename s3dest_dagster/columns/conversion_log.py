"""A log of the conversion of values, and the `Tally` of its entries. Must not know: kinds, Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from s3dest_dagster.batch import Tally


class Outcome(IntEnum):
    """The outcomes that a `Tally` counts."""

    COERCED = 0
    OVERFLOWED = 1
    UNDECLARED = 2


Entry = tuple[Outcome, str]
"""The outcome for one value, and the dotted original name of its field."""


class Misfit(NamedTuple):
    """A value that did not land in its field."""

    path: str
    """The field's dotted original name."""
    text: str
    is_repeated: bool = False
    """Whether it is an earlier value of a name that the record repeats. Only the last value counts."""


class ConversionLog:
    """The log of values that are converted one by one."""

    __slots__ = ("entries", "is_inexact", "misfits")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.misfits: list[Misfit] = []
        self.is_inexact = False
        """Whether the conversion replaced a number by the nearest value that its kind can hold."""

    def mark(self) -> tuple[int, int, bool]:
        """The state of the log, for `undo_since`."""
        return len(self.entries), len(self.misfits), self.is_inexact

    def undo_since(self, mark: tuple[int, int, bool]) -> None:
        """Removes everything logged since the mark, after the value turned out not to fit."""
        del self.entries[mark[0] :]
        del self.misfits[mark[1] :]
        self.is_inexact = mark[2]


def tally_of(counts: Mapping[Entry, int]) -> Tally:
    """The tally of these counts, independent of their order. Names beyond the tally's limit are summed, with the counts
    that are under `Tally.OTHERS` already."""
    by_outcome = [_limited({name: count for (o, name), count in counts.items() if o is outcome}) for outcome in Outcome]
    return Tally(*by_outcome)


def _limited(counts: dict[str, int]) -> dict[str, int]:
    names = sorted(counts.keys() - {Tally.OTHERS})
    kept = {name: counts[name] for name in names[: Tally.MAX_NAMES]}
    others = counts.get(Tally.OTHERS, 0) + sum(counts[name] for name in names[Tally.MAX_NAMES :])
    return {**kept, Tally.OTHERS: others} if others else kept
