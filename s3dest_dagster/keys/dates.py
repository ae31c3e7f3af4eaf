"""`{date:FORMAT}`: the letters of Java's SimpleDateFormat, English, UTC, as slots.

Letters that depend on a locale's calendar (w, W, Y) or add nothing in UTC (z, G) are not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime

from s3dest_dagster.keys.shapes import Choice, Shape, numbers
from s3dest_dagster.keys.tokens import YEARS, Level, Slot, Token, digits

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_NUMBERS: dict[str, tuple[int, int, Callable[[datetime], int]]] = {
    "M": (1, 12, lambda t: t.month),
    "d": (1, 31, lambda t: t.day),
    "D": (1, 366, lambda t: t.timetuple().tm_yday),
    "F": (1, 5, lambda t: (t.day - 1) // 7 + 1),
    "u": (1, 7, lambda t: t.isoweekday()),
    "H": (0, 23, lambda t: t.hour),
    "k": (1, 24, lambda t: t.hour or 24),
    "K": (0, 11, lambda t: t.hour % 12),
    "h": (1, 12, lambda t: t.hour % 12 or 12),
    "m": (0, 59, lambda t: t.minute),
    "s": (0, 59, lambda t: t.second),
    "S": (0, 999, lambda t: t.microsecond // 1000),
}
"""Letter → the least and the greatest of its numbers, and the number. "SSSSSS" is milliseconds with zeros before."""
_SAME = {"L": "M"}
"""Letters that mean what another does."""
_KNOWN = ("y", "M", "L", *(letter for letter in _NUMBERS if letter != "M"), "E", "a", "Z", "X")

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
    """The slot of a letter that stands `count` times. Spellings that make the same text have one meaning."""
    source, letter = letter * count, _SAME.get(letter, letter)
    if letter == "y":
        return _year(source)
    if letter == "M" and count > 2:
        names = _MONTHS if count > 3 else tuple(name[:3] for name in _MONTHS)
        return _slot(source, "MMMM"[:count], _one_of(names), lambda t: names[t.month - 1])
    if letter == "E":
        names = _DAYS if count > 3 else tuple(name[:3] for name in _DAYS)
        return _slot(source, "EEEE" if count > 3 else "EEE", _one_of(names), lambda t: names[t.weekday()])
    if letter == "a":
        return _slot(source, letter, _one_of(("AM", "PM")), lambda t: "PM" if t.hour >= 12 else "AM")
    if letter == "Z" or (letter == "X" and count <= 3):
        text = "Z" if letter == "X" else "+0000"
        return _slot(source, letter, (text,), lambda _: text)
    if letter not in _NUMBERS:
        raise ValueError(
            f"{source!r} is not known in a date format. Known letters are {' '.join(_KNOWN)}; put other letters "
            "between quotes, like 'T'."
        )
    least, most, number = _NUMBERS[letter]
    shape = numbers(least, most, width=count)
    return _slot(source, letter * count, shape, lambda t: f"{number(t):0{count}d}", variable=count < len(str(most)))


def _year(source: str) -> Slot:
    if len(source) == 2:
        return _slot(source, source, digits(2), lambda t: f"{t.year % 100:02d}")
    width = max(len(source), 4)
    return _slot(source, "y" * width, numbers(*YEARS, width=width), lambda t: f"{t.year:0{width}d}")


def _one_of(names: tuple[str, ...]) -> Shape:
    return (Choice(tuple((name,) for name in names)),)


def _slot(source: str, meaning: str, shape: Shape, render: Callable[[datetime], str], variable: bool = False) -> Slot:
    return Slot(
        source, Level.OBJECT, shape, lambda placed: render(placed.uploaded_at), open=variable, meaning=f"date {meaning}"
    )
