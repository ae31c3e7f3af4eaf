"""`{date:FORMAT}`: the letters of Java's SimpleDateFormat, English, UTC, as slots.

Letters that depend on a locale's calendar (w, W, Y) or add nothing in UTC (z, G) are not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime

from s3dest_dagster.keys.shapes import Choice, Shape
from s3dest_dagster.keys.tokens import Level, Slot, Token, digits

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_NUMBERS: dict[str, tuple[int, Callable[[datetime], int]]] = {
    "M": (2, lambda t: t.month),
    "L": (2, lambda t: t.month),
    "d": (2, lambda t: t.day),
    "D": (3, lambda t: t.timetuple().tm_yday),
    "F": (1, lambda t: (t.day - 1) // 7 + 1),
    "u": (1, lambda t: t.isoweekday()),
    "H": (2, lambda t: t.hour),
    "k": (2, lambda t: t.hour or 24),
    "K": (2, lambda t: t.hour % 12),
    "h": (2, lambda t: t.hour % 12 or 12),
    "m": (2, lambda t: t.minute),
    "s": (2, lambda t: t.second),
    "S": (3, lambda t: t.microsecond // 1000),
}
"""Letter → most digits its number can have, and the number. "SSSSSS" is milliseconds with zeros before them."""

_PIECE = re.compile(r"(?P<letter>[A-Za-z])(?P=letter)*|'(?P<quoted>(?:[^']|'')*)'|(?P<open>')|[^A-Za-z']+")


def parse_date_format(text: str) -> Iterator[Token]:
    """The format's tokens, in order; their values are what has an `uploaded_at`. ValueError says what is refused."""
    if not text:
        raise ValueError("the date format is empty; write it like {date:yyyy_MM_dd}.")
    for match in _PIECE.finditer(text):
        if match["letter"]:
            yield _field(match["letter"], len(match[0]))
        elif match["open"]:
            raise ValueError(f"the date format {text!r} has a quote that is not closed.")
        elif match["quoted"] is not None:
            yield match["quoted"].replace("''", "'") or "'"
        else:
            yield match[0]


def _field(letter: str, count: int) -> Slot:
    if letter == "y":
        return _year(count)
    if letter in "ML" and count > 2:
        names = _MONTHS if count > 3 else tuple(name[:3] for name in _MONTHS)
        return _slot(letter * count, _one_of(names), lambda t: names[t.month - 1])
    if letter == "E":
        names = _DAYS if count > 3 else tuple(name[:3] for name in _DAYS)
        return _slot(letter * count, _one_of(names), lambda t: names[t.weekday()])
    if letter == "a":
        return _slot(letter * count, _one_of(("AM", "PM")), lambda t: "PM" if t.hour >= 12 else "AM")
    if letter == "Z" or (letter == "X" and count <= 3):
        return _slot(letter * count, ("Z" if letter == "X" else "+0000",), lambda _: "Z" if letter == "X" else "+0000")
    if letter not in _NUMBERS:
        raise ValueError(
            f"{letter * count!r} is not known in a date format. Known letters are y {' '.join(_NUMBERS)} E a Z X; "
            "put other letters between quotes, like 'T'."
        )
    widest, number = _NUMBERS[letter]
    shape = digits(count, max(widest, count))
    return _slot(letter * count, shape, lambda t: f"{number(t):0{count}d}", variable=count < widest)


def _year(count: int) -> Slot:
    if count == 2:
        return _slot("yy", digits(2), lambda t: f"{t.year % 100:02d}")
    width = max(count, 4)
    return _slot("y" * count, digits(width), lambda t: f"{t.year:0{count}d}")


def _one_of(names: tuple[str, ...]) -> Shape:
    return (Choice(tuple((name,) for name in names)),)


def _slot(source: str, shape: Shape, render: Callable[[datetime], str], variable: bool = False) -> Slot:
    return Slot(source, Level.OBJECT, shape, lambda placed: render(placed.uploaded_at), open=variable)
