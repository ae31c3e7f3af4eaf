"""The date format of `{date:yyyy_MM}`: the letters of Java's `SimpleDateFormat`, as in the connector."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from s3dest_dagster.keys.overlap import KeyPattern, Run, choice_of, numbers

YEARS = (1970, 2999)
"""The first and the last year that a key can hold."""
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
    # Milliseconds, not a fraction: "SSSSSS" is the milliseconds after three zeros.
    "S": (0, 999, lambda t: t.microsecond // 1000),
}
"""For each letter, its least and greatest number, and the number at a given time."""
_SYNONYMS = {"L": "M"}
DATE_LETTERS = ("y", "M", "L", *(letter for letter in _NUMBERS if letter != "M"), "E", "a", "Z", "X")

_PIECE = re.compile(r"(?P<letter>[A-Za-z])(?P=letter)*|'(?P<quoted>(?:[^']|'')*)'|(?P<open>')|[^A-Za-z']+")


@dataclass(frozen=True, slots=True)
class DateField:
    """Letters of a date format that stand for one part of the time."""

    source: str
    """The user's spelling."""
    meaning: str
    """One spelling for all fields that make the same text."""
    pattern: KeyPattern
    """Matches every text that it can become."""
    render: Callable[[datetime], str]
    varies: bool = False
    """Whether the length of its text varies."""


def parse_date_format(text: str) -> Iterator[str | DateField]:
    """Yields the literal texts and the fields of a date format, in order. Raises ValueError if it is refused."""
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


def _field(letter: str, count: int) -> DateField:
    source, letter = letter * count, _SYNONYMS.get(letter, letter)
    if letter == "y":
        return _year(source)
    if letter == "M" and count > 2:
        names = _MONTHS if count > 3 else tuple(name[:3] for name in _MONTHS)
        return DateField(source, "MMMM"[:count], choice_of(names), lambda t: names[t.month - 1])
    if letter == "E":
        names = _DAYS if count > 3 else tuple(name[:3] for name in _DAYS)
        return DateField(source, "EEEE" if count > 3 else "EEE", choice_of(names), lambda t: names[t.weekday()])
    if letter == "a":
        return DateField(source, letter, choice_of(("AM", "PM")), lambda t: "PM" if t.hour >= 12 else "AM")
    if letter == "Z" or (letter == "X" and count <= 3):
        text = "Z" if letter == "X" else "+0000"
        return DateField(source, letter, (text,), lambda _: text)
    if letter not in _NUMBERS:
        raise ValueError(
            f"{source!r} is not known in a date format. Known letters are {' '.join(DATE_LETTERS)}; put other letters "
            "between quotes, like 'T'."
        )
    least, most, number = _NUMBERS[letter]
    pattern = numbers(least, most, width=count)
    return DateField(source, letter * count, pattern, lambda t: f"{number(t):0{count}d}", count < len(str(most)))


def _year(source: str) -> DateField:
    if len(source) == 2:
        two_digits = (Run(frozenset("0123456789"), 2, 2),)
        return DateField(source, source, two_digits, lambda t: f"{t.year % 100:02d}")
    width = max(len(source), 4)
    return DateField(source, "y" * width, numbers(*YEARS, width=width), lambda t: f"{t.year:0{width}d}")
