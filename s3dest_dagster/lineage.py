"""How states of all streams of a source descend from one another, so that no clock is needed to order them.

Such a state (GLOBAL, LEGACY) is a position in the whole source. A read that begins at one and ends at another gives
every record between them; so a stream that has reached a state has every record up to each state that it descends from.
Values only; it must not know where states are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

_KEPT_APART = 16
"""States before the newest that are all remembered; of those further back, every second, fourth, eighth …"""


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
"""A state, last, and before it those that it descends from, oldest first. Empty: the beginning of the source."""


def state_id(text: str) -> str:
    """What tells one state from another: part of the SHA-256 of its JSON without blanks, or of the text."""
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
    """Where the state stands that a read from `origin` reached; None: nobody knows where the read began.

    A source that is back at a state that it comes from stands where it stood. Remembered are the oldest, at which all
    streams were or that was set by hand, the youngest, and between them fewer the further back, by their numbers: so
    two states that descend from one remember the same of what was before it, and of a thousand reads less than a
    hundred.
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
    """One of how many states is remembered that lie so many reads back."""
    return int(1 << ((reads - 1) // _KEPT_APART).bit_length())


def common_ancestors(lineages: Sequence[Lineage]) -> Iterator[KnownState]:
    """The states that all of these are or descend from, youngest first, each as often as a lineage tells where its text
    is."""
    shared = frozenset.intersection(*(frozenset(each.id for each in lineage) for lineage in lineages))
    for candidate in reversed(lineages[0]):
        if candidate.id in shared:
            yield from dict.fromkeys(each for lineage in lineages for each in lineage if each.id == candidate.id)


def up_to(state: KnownState, lineages: Iterable[Lineage]) -> Lineage:
    """The lineage of a state that one of these holds."""
    within = next(each for each in lineages if state in each)
    return within[: within.index(state) + 1]
