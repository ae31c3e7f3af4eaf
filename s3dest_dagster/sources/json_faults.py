"""Why a line is no JSON, in words for whoever has to mend the source. It must not know the protocol or records."""

from __future__ import annotations

import re

_PLACE = re.compile(r"\(byte (\d+)\)")
_PAIR = rb"u[dD][89abAB]..\\u[dD][c-fC-F].."
_ESCAPE = re.compile(rb"\\(?:%b|(?P<half>u[dD][89a-fA-F]..)(?!\\?\Z)|.)" % _PAIR, re.DOTALL)
_NO_NUMBER = re.compile(rb"-?(?:NaN|Infinity)")


def why_no_json(line: bytes, error: Exception) -> str:
    """The reason for which a decoder refused the line; told better where the decoder's own words mislead."""
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    if (half := next((each for each in _ESCAPE.finditer(line) if each["half"]), None)) is not None:
        escape = half[0].decode("ascii", "replace")
        return f"the text at byte {half.start()} has half of a surrogate pair ({escape}), which UTF-8 cannot hold"
    place = int(named[1]) if (named := _PLACE.search(str(error))) else 0
    for start in (place - 1, place):
        if word := _NO_NUMBER.match(line, max(start, 0)):
            return f"{word[0].decode()} at byte {start} is no JSON number"
    return str(error)
