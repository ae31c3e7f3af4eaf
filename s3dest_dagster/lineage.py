"""How states of all streams of a source (GLOBAL, LEGACY) descend from one another: their order without a clock.

Such a state is a position in the whole source. A read that begins at one state and ends at another gives every record
between them. So a stream that has reached a state has every record up to each state that it descends from. Must not
know: where states are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

_KEPT_APART = 16
"""So many states before the newest are all remembered; of earlier ones, every second, fourth, eighth …"""


@dataclass(frozen=True, slots=True)
class KnownState:
    """A state of all streams that a segment holds."""

    id: str
    """First 16 digits of the SHA-256 of the state's JSON without blanks: the same text has the same id."""
    read_count: int
    """How many reads led to it. 0: it was set by hand, or its read did not say where it began."""
    segment_key: str
    """Key of a segment that holds its text."""


Lineage = tuple[KnownState, ...]
"""A state and before it those that it descends from, oldest first. Empty: the beginning of the source."""


def state_id(text: str) -> str:
    """Identifies a state: part of the SHA-256 of its JSON without blanks, or of the text if that is not JSON."""
    with suppress(msgspec.DecodeError):
        text = msgspec.json.format(text, indent=-1)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Descent:
    """Where a state stands among others."""

    read_count: int = 0
    """How many reads led to it; 0 if that is not known."""
    ancestors: Lineage = ()
    """States that it descends from, oldest first; not all of them."""


def descent(text: str, origin: Lineage | None) -> Descent:
    """The descent of a state that a read has reached.

    A source that returns to one of its earlier states has that state's descent again. A state remembers its oldest
    ancestor, which all streams had reached or which was set by hand, and its youngest; of those between, the fewer the
    further back. Which ones depends on their read counts alone. So two states that descend from a third remember the
    same of its ancestors, and a thousand reads leave fewer than a hundred.

    Args:
        text: The state.
        origin: The lineage that the read began at; None if nobody knows.
    """
    if not origin:
        return Descent(0 if origin is None else 1)
    ids = [each.id for each in origin]
    if (known := state_id(text)) in ids:
        at = ids.index(known)
        return Descent(origin[at].read_count, origin[:at])
    read_count = origin[-1].read_count + 1
    youngest = (each for each in origin[1:] if each.read_count % _spacing(read_count - each.read_count) == 0)
    return Descent(read_count, (origin[0], *youngest))


def _spacing(reads: int) -> int:
    """One state in how many is remembered, so many reads back."""
    return int(1 << ((reads - 1) // _KEPT_APART).bit_length())


def common_ancestors(lineages: Sequence[Lineage]) -> Iterator[KnownState]:
    """The states that all lineages have in common, youngest first; once for each segment that holds the text."""
    shared = frozenset.intersection(*(frozenset(each.id for each in lineage) for lineage in lineages))
    for candidate in reversed(lineages[0]):
        if candidate.id in shared:
            yield from dict.fromkeys(each for lineage in lineages for each in lineage if each.id == candidate.id)


def up_to(state: KnownState, lineages: Iterable[Lineage]) -> Lineage:
    """The lineage of a state that is in one of these."""
    within = next(each for each in lineages if state in each)
    return within[: within.index(state) + 1]
