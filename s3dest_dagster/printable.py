"""Makes external texts safe to show in a terminal, a log or a web page, masks secrets, and makes numbers readable.

Names, a connector's lines, a server's answers and records may contain control characters. Those could set a terminal's
title or clipboard, reorder or hide the text around them, or begin a line that looks like ours. For each channel, one
function here escapes them. Only `markdown` changes a text that it has already escaped. Must not know: who shows what.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

CONTINUED = "  | "
"""Begins the second and later lines of a text, so that no line looks like a separate message."""
_TAB = "    "
_LINE_BREAK = re.compile(r"\r\n|[\n\r]")
_MARKUP = re.compile(r"[\\`*<\[\]|~@]|&(?=[#\w])|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""Characters with a meaning in Markdown: anywhere, at the edge of a word, or in an address."""
_MARKUP_AT_START = re.compile(r"^(\s*\d*)([#>+=.)-])")


def printable(text: str) -> str:
    """The text on one line, with escapes ("\\x1b", "\\n", "\\u202e") for control, format and separator characters, lone
    surrogates and unassigned code points. All kinds of blanks are kept."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_lines(text: str) -> str:
    """Like `printable`, for several lines: the second and later lines begin with a mark, and tabs become blanks."""
    first, *others = _LINE_BREAK.split(text.replace("\t", _TAB))
    continued = [line if line.startswith(CONTINUED) else CONTINUED + line for line in others]
    return "\n".join(map(printable, [first, *continued]))


def printable_json(text: str) -> str:
    """The same JSON document, with JSON's own escapes for unprintable characters. Its line breaks are kept."""
    return "\n".join(line if line.isprintable() else "".join(map(_json_escaped, line)) for line in text.split("\n"))


def markdown(text: str) -> str:
    """Markdown that shows a text literally: its markup, links and HTML have no effect. Apply it only once."""
    return "\n".join(map(_markdown_line, _LINE_BREAK.split(text)))


def _markdown_line(line: str) -> str:
    return _MARKUP_AT_START.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", printable(line)))


def logger(module: str) -> logging.Logger:
    """The Python logger `s3dest_dagster.<module>`, whose messages are printable in every handler."""
    found = logging.getLogger(f"s3dest_dagster.{module}")
    if not any(isinstance(each, _Printable) for each in found.filters):
        found.addFilter(_Printable())
    return found


class _Printable(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable_lines(record.getMessage()), None
        return True


def _escaped(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return ascii(character)[1:-1]


def _json_escaped(character: str) -> str:
    return character if _escaped(character) == character else json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def amount(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun: "1 row", "2,000 rows". Pass `plural` if it is not the noun with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or f'{noun}s'}"


def size(number: float) -> str:
    """A number of bytes in a readable unit: "812 bytes", "3.4 MB" (10⁶)."""
    if number < 1000:
        return amount(int(number), "byte")
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 1000:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:,.1f} TB"


def age(seconds: float) -> str:
    """A span of time in a readable unit: "40 s", "12 min", "30 h", "3 days". A negative one counts as 0."""
    if seconds < 60:
        return f"{max(0, int(seconds))} s"
    if seconds < 3600:
        return f"{int(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{int(seconds / 3600)} h"
    return amount(int(seconds / 86_400), "day")


# ---------------------------------------------------------------------- secrets

MASK = "****"
_MIN_SECRET_CHARACTERS = 4
"""Shorter texts are not masked, because they occur inside ordinary words."""


class Masking:
    """Replaces secrets in a text, even if they are quoted, escaped, percent-encoded or broken into lines."""

    def __init__(self, secrets: Iterable[str]) -> None:
        encodings = {form for text in secrets if len(text) >= _MIN_SECRET_CHARACTERS for form in _encodings(text)}
        # The longest first: otherwise a secret that contains another one would stay visible in part.
        ordered = sorted(encodings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """The text with `MASK` in place of each secret."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _encodings(text: str) -> Iterator[str]:
    """Yields the forms in which a program may print the text: as it is, in JSON, in a URL, or line by line."""
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield printable(text)
    yield quote(text, safe="", errors="replace")
    yield quote_plus(text, errors="replace")
    yield from (line.strip() for line in text.splitlines() if len(line.strip()) >= 2 * _MIN_SECRET_CHARACTERS)
