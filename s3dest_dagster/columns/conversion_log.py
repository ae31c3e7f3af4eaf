"""What happened to values while they were converted, and the `Tally` of it. Must not know: kinds, Arrow."""

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


Entry = tuple[Outcome, str]
"""What happened to one value, and the dotted original name of its field."""


class Misfit(NamedTuple):
    """A value that did not land in its field."""

    path: str
    """The field's dotted original name."""
    text: str
    is_repeated: bool = False
    """Whether the record repeats the name; the last value counts."""


class ConversionLog:
    """What happened while values were converted one by one."""

    __slots__ = ("entries", "is_inexact", "misfits")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.misfits: list[Misfit] = []
        self.is_inexact = False
        """Whether the value being converted holds the nearest value to a number instead of the number."""

    def mark(self) -> tuple[int, int, bool]:
        """The state of the log, for `undo_since`."""
        return len(self.entries), len(self.misfits), self.is_inexact

    def undo_since(self, mark: tuple[int, int, bool]) -> None:
        """Removes what was logged since the mark, because the value turned out not to fit."""
        del self.entries[mark[0] :]
        del self.misfits[mark[1] :]
        self.is_inexact = mark[2]


def tally_of(counts: Mapping[Entry, int]) -> Tally:
    """The tally of these counts, whatever their order. Names beyond the tally's limit are summed."""
    by_outcome = [_limited({name: count for (o, name), count in counts.items() if o is outcome}) for outcome in Outcome]
    return Tally(*by_outcome)


def _limited(counts: dict[str, int]) -> dict[str, int]:
    names = sorted(counts)
    kept = {name: counts[name] for name in names[: Tally.MAX_NAMES]}
    if len(names) > Tally.MAX_NAMES:
        others = sum(counts[name] for name in names[Tally.MAX_NAMES :])
        kept[Tally.OTHERS] = kept.get(Tally.OTHERS, 0) + others
    return kept
