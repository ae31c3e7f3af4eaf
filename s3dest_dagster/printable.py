"""Texts from outside as a terminal, a log or a web page may show them: whatever would steer one of these is escaped.

Names, a connector's lines, a server's answers and records may hold control characters, which could set a terminal's
title or clipboard, reorder or hide what stands beside them, or begin a line that looks like ours. Each channel has one
function here; text that went through it once is not changed by it again. It must not know who shows what.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata

CONTINUED = "  | "
"""What the second and later lines of a text begin with, so that none of them looks like a message of its own."""
_TAB = "    "
_LINE_BREAK = re.compile(r"\r\n|[\n\r]")
_MARKUP = re.compile(r"[\\`*<\[\]|~@]|&(?=[#\w])|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""Signs that mean something to Markdown anywhere, at the edge of a word, or in an address."""
_MARKUP_AT_START = re.compile(r"^(\s*\d*)([#>+=.)-])")


def printable(text: str) -> str:
    """The text on one line, with every control, format and separator character, every lone surrogate and whatever
    Unicode has no character for as its escape ("\\x1b", "\\n", "\\u202e"). A blank of any kind stays."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_lines(text: str) -> str:
    """As `printable`, for what may have several lines: the second and later ones begin with a mark; a tab is blanks."""
    first, *others = _LINE_BREAK.split(text.replace("\t", _TAB))
    continued = [line if line.startswith(CONTINUED) else CONTINUED + line for line in others]
    return "\n".join(map(printable, [first, *continued]))


def printable_json(text: str) -> str:
    """The same JSON document, with JSON's own escapes for what cannot be printed; its line breaks stay."""
    return "\n".join(line if line.isprintable() else "".join(map(_json_shown, line)) for line in text.split("\n"))


def markdown(text: str) -> str:
    """Markdown that shows a text as it is: none of its markup, links and HTML has an effect. To be applied once."""
    return "\n".join(map(_markdown_line, _LINE_BREAK.split(text)))


def _markdown_line(line: str) -> str:
    return _MARKUP_AT_START.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", printable(line)))


def logger(room: str) -> logging.Logger:
    """The Python logger `s3dest_dagster.<room>`: its messages are printable, whoever writes them down."""
    found = logging.getLogger(f"s3dest_dagster.{room}")
    if not any(isinstance(each, _Printable) for each in found.filters):
        found.addFilter(_Printable())
    return found


class _Printable(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable_lines(record.getMessage()), None
        return True


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return ascii(character)[1:-1]


def _json_shown(character: str) -> str:
    return character if _shown(character) == character else json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def amount(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun: "1 row", "2,000 rows"; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or f'{noun}s'}"


def size(number: float) -> str:
    """Bytes in the unit that people read: "812 bytes", "3.4 MB" (10⁶)."""
    if number < 1000:
        return amount(int(number), "byte")
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 1000:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:,.1f} TB"
