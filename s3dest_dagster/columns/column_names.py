"""Allocates the names of columns: by a style, without duplicates, and the same whatever order the source's names have.

A name never depends on how many others there are: if it is not free, it gets `_` and hexadecimal digits of the SHA-256
of the source's name. Must not know: kinds, schemas, what a stream remembers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from unicodedata import normalize

from s3dest_dagster.columns.names import standard_name
from s3dest_dagster.settings.destination import NameStyle
from s3dest_dagster.settings.stream_settings import CONTROL_CHARACTERS, LONGEST_NAME

_LONGEST_STYLED = LONGEST_NAME - 32
"""The longest name of a style. There is room for the word of a type and for digits."""
_FIRST_DIGITS = 6
"""The digits of a suffix. It gets longer until the name is free."""
_BETWEEN_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SUFFIXES = re.compile(
    r"(?:_(?:array|boolean|bytes|date|decimal|float|integer|json|local_timestamp|mixed|null|number|object|string|text"
    r"|time|timestamp))?(?:_[0-9a-f]{6,64})?"
)
"""The word of a type, and the digits."""
_LETTER = re.compile(r"[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class NameRequest:
    """A column that needs a name."""

    source: str
    """The source's name."""
    base: str = ""
    """The name to begin with; empty for the source's name in the style."""
    type_word: str = ""
    """The word of its type, which follows the base, if it is next to a column of the same source; else empty."""

    def preferred(self, style: NameStyle) -> str:
        """The name if it is free."""
        base = self.base or styled_name(self.source, style)
        return f"{base}_{self.type_word}" if self.type_word else base

    @property
    def is_given(self) -> bool:
        """Whether the user has given the name."""
        return bool(self.base) and not self.type_word

    @property
    def digits(self) -> str:
        """The digits of the suffix."""
        return _digits("\0".join(filter(None, (self.source, self.type_word))))


def styled_name(source: str, style: NameStyle) -> str:
    """A name in a style, regardless of others.

    - `connector`: letters, digits and `_`; case is kept.
    - `snake`: the same in lower case, with `_` between the words of a name like `userId`.
    - `lower`: the same in lower case.
    - `keep`: the name as it is, with `_` in place of control characters, and of no character at all.

    In `snake` and `lower`, a name without any Latin letter or digit has its suffix, since nothing is left of it. In
    every style but `connector`, a name longer than catalogs allow is cut, and has its suffix.
    """
    if style is NameStyle.CONNECTOR:
        return standard_name(source)
    if style is NameStyle.KEEP:
        name = CONTROL_CHARACTERS.sub("_", source) or "_"
    else:
        name = standard_name(source)
        name = _snake(name) if style is NameStyle.SNAKE else name.lower()
        name = name if _LETTER.search(name) else f"{name}{_digits(source)[:_FIRST_DIGITS]}"
    if len(name) <= _LONGEST_STYLED:
        return name
    return f"{name[: _LONGEST_STYLED - _FIRST_DIGITS - 1]}_{_digits(source)[:_FIRST_DIGITS]}"


def allocate_names(
    requests: Collection[NameRequest], used: Collection[str], style: NameStyle
) -> dict[NameRequest, str]:
    """A name for every request, unlike all `used` names and each other, regardless of the requests' order.

    A name that a user gave, and a source's name that needs no change, comes first. If others want the same name, all of
    them get the suffix. In every style but `connector`, names that differ only in case, or in how Unicode composes
    their characters, are the same.
    """
    fold = _as_it_is if style is NameStyle.CONNECTOR else _folded
    in_use = {fold(name) for name in used}
    allocated: dict[NameRequest, str] = {}
    preferred = {request: request.preferred(style) for request in requests}
    folded = {*map(fold, preferred.values())}
    if len(folded) == len(preferred) and in_use.isdisjoint(folded):
        return preferred
    ranks = {request: _rank(request, name) for request, name in preferred.items()}
    for rank in sorted(set(ranks.values())):
        names = {request: name for request, name in preferred.items() if ranks[request] == rank}
        wanted = Counter(map(fold, names.values()))
        free = {
            request: name for request, name in names.items() if wanted[fold(name)] == 1 and fold(name) not in in_use
        }
        allocated |= free
        in_use |= set(map(fold, free.values()))
    for request in sorted(preferred.keys() - allocated.keys(), key=lambda each: (each.source, each.type_word)):
        allocated[request] = _with_suffix(preferred[request], request.digits, {*in_use}, fold)
        in_use.add(fold(allocated[request]))
    return allocated


def is_connectors_name(name: str, source: str) -> bool:
    """Whether the connector's style can have given a column this name, alone or with a suffix."""
    base = standard_name(source)
    return name.startswith(base) and _SUFFIXES.fullmatch(name, len(base)) is not None


def unique_names(sources: Collection[str], reserved: Collection[str] = ()) -> list[str]:
    """The connector's name for every name in `sources`, which has no duplicates. No result is one of `reserved`."""
    requests = [NameRequest(source) for source in sources]
    names = allocate_names(requests, reserved, NameStyle.CONNECTOR)
    return [names[request] for request in requests]


def suffixed_name(name: str, origin: str, used: Collection[str]) -> str:
    """`name` if it is not used, else the name with the digits of its `origin`."""
    return name if name not in used else _with_suffix(name, _digits(origin), used, _as_it_is)


def _rank(request: NameRequest, name: str) -> int:
    if request.is_given:
        return 0
    return 1 if name == request.source else 2


def _snake(name: str) -> str:
    return _BETWEEN_WORDS.sub("_", name).lower()


def _with_suffix(name: str, digits: str, in_use: Collection[str], fold: Callable[[str], str]) -> str:
    longer = (f"{name}_{digits[:length]}" for length in range(_FIRST_DIGITS, len(digits) + 1))
    return next(each for each in longer if fold(each) not in in_use)


def _digits(origin: str) -> str:
    return sha256(origin.encode()).hexdigest()


def _folded(name: str) -> str:
    """The name as readers that ignore case, and people, see it."""
    return normalize("NFC", normalize("NFC", name).casefold())


def _as_it_is(name: str) -> str:
    return name
