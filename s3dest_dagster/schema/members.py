"""JSON objects taken apart: names and the source's own texts, also those of a name that stands more than once.

JSON lets a name stand twice in one object, and decoders keep the last value without a word. Here the earlier ones are
given out too; that there are none is told by the length of the text. It must not know kinds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

Member = tuple[str, bytes]
"""A name and the text of its value."""
BESIDE_A_MEMBER = 4
"""Characters that a member has beside name and value: two quotes, a colon, a comma or brace."""

as_object: Callable[[bytes], dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw]).decode
as_list: Callable[[bytes], list[Raw]] = msgspec.json.Decoder(list[Raw]).decode

# Numbers as texts: Python makes no integer of more than 4,300 digits.
_decoder = json.JSONDecoder(parse_int=str, parse_float=str)
_BETWEEN = re.compile(r"[ \t\r\n,:]*")


def members_of(text: bytes) -> tuple[dict[str, Raw], Sequence[Member]]:
    """The members of an object, of a repeated name the last; and the earlier values of such names, without nulls."""
    members = as_object(text)
    if _is_all(members, text):
        return members, ()
    compact = msgspec.json.format(text, indent=-1)
    if len(compact) < len(text) and _is_all(as_object(compact), compact):
        return members, ()
    pairs = pairs_of(text)
    last = {name: place for place, (name, _) in enumerate(pairs)}
    earlier = [pair for place, pair in enumerate(pairs) if last[pair[0]] != place]
    return members, [(name, value) for name, value in earlier if value != b"null"]


def pairs_of(text: bytes) -> list[Member]:
    """Every member of an object in the source's order, however often its name stands there."""
    source, pairs = text.decode(), []
    position = _next(source, 1)
    while source[position] != "}":
        name, end = _decoder.raw_decode(source, position)
        start = _next(source, end)
        _, end = _decoder.raw_decode(source, start)
        pairs.append((name, source[start:end].encode()))
        position = _next(source, end)
    return pairs


def object_of(members: Iterable[tuple[str, bytes | Raw]]) -> bytes:
    """The JSON text of an object with these members, in their order."""
    return b"{%b}" % b",".join(msgspec.json.encode(name) + b":" + bytes(value) for name, value in members)


def has_repeated_name(text: bytes) -> bool:
    """Whether a name stands twice in an object of a JSON text, at any depth."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) < len(pairs)

    json.loads(text, object_pairs_hook=look, parse_int=str, parse_float=str)
    return found


def _is_all(members: dict[str, Raw], text: bytes) -> bool:
    """Whether a text without blanks or escapes in names has no more than these members."""
    names = "".join(members)
    size = len(names) if names.isascii() else len(names.encode())
    return size + sum(map(len, members.values())) + BESIDE_A_MEMBER * len(members) + 1 == len(text)


def _next(source: str, position: int) -> int:
    """Where the next name, value or closing brace begins."""
    found = _BETWEEN.match(source, position)
    assert found is not None, "the pattern matches nothing too"
    return found.end()
