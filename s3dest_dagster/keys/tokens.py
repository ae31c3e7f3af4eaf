"""A template as tokens: literal text, and slots that are filled one level after the other.

It must not know which slots there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeAlias

from s3dest_dagster.keys.overlap import Choice, Run, Shape

DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")

YEARS = (1970, 2999)
"""The first and the last year that a key can tell."""
LONGEST_PART_NUMBER = 7
"""Digits of a part number; fewer than a tag has, so that no part number can be taken for a tag."""
_NUMBER: Shape = (Choice((("0",), (Run(DIGITS - {"0"}, 1, 1), Run(DIGITS, 0, LONGEST_PART_NUMBER - 1)))),)
UUID_SHAPE: Shape = (
    Run(_HEX, 8, 8), "-", Run(_HEX, 4, 4), "-", Run(_HEX, 4, 4), "-", Run(_HEX, 4, 4), "-", Run(_HEX, 12, 12),
)  # fmt: skip
PART_ID = Choice((_NUMBER, UUID_SHAPE), name="part")
TAG = Choice(((), ("_", Run(_HEX, 8, 8))))


class Level(Enum):
    """When a slot gets its text."""

    STREAM = auto()
    SYNC = auto()
    OBJECT = auto()


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a template.

    `source` is what the user wrote, `shape` every text it can become, `render` makes the text from the values of its
    level. `open`: its text has no fixed length or form, so that two such slots side by side cannot be told apart.
    `free`: its text is the user's (a name, a partition, an id). `meaning` is one text for all spellings of what makes
    the same text, by default the `source`: slots are equal that have the same one.
    """

    source: str = field(compare=False)
    level: Level = field(compare=False)
    shape: Shape = field(compare=False)
    render: Callable[[Any], str] = field(compare=False)
    open: bool = field(default=False, compare=False)
    free: bool = field(default=False, compare=False)
    meaning: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "meaning", self.meaning or self.source)


Token: TypeAlias = str | Slot


def digits(least: int, most: int | None = -1) -> Shape:
    """The shape of `least` to `most` digits; of exactly `least` when no `most` is given."""
    return (Run(DIGITS, least, least if most == -1 else most),)


def substitute(tokens: Iterable[Token], level: Level, values: Any) -> tuple[Token, ...]:
    """The tokens with the slots of one level filled, and slashes put right (see `joined`)."""
    return joined(
        token.render(values) if isinstance(token, Slot) and token.level is level else token for token in tokens
    )


def joined(tokens: Iterable[Token]) -> tuple[Token, ...]:
    """The tokens with neighbouring texts as one, runs of "/" as one, and no "/" at the beginning."""
    result: list[Token] = []
    for token in tokens:
        if isinstance(token, str) and result and isinstance(result[-1], str):
            result[-1] += token
        else:
            result.append(token)
    collapsed = [re.sub("/+", "/", token) if isinstance(token, str) else token for token in result]
    if collapsed and isinstance(collapsed[0], str):
        collapsed[0] = collapsed[0].removeprefix("/")
    return tuple(token for token in collapsed if token != "")


def shape_of(tokens: Iterable[Token]) -> Shape:
    """Every text that the tokens can become."""
    return tuple(piece for token in tokens for piece in ((token,) if isinstance(token, str) else token.shape))


def leading_text(tokens: tuple[Token, ...]) -> str:
    """The literal text before the first slot."""
    return tokens[0] if tokens and isinstance(tokens[0], str) else ""
