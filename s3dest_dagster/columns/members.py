"""JSON objects taken apart: names and the source's own texts, also those of a name that stands more than once.

JSON lets a name stand twice in one object, and decoders keep the last value without a word. Here the earlier ones are
given out too; that there are none is told by the length of the text. It must not know kinds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from s3dest_dagster.columns.characters import Bytes

Member = tuple[str, bytes]
"""A name and the text of its value."""
BESIDE_A_MEMBER = 4
"""Characters that a member has beside name and value: two quotes, a colon, a comma or brace."""

as_object: Callable[[bytes], dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw]).decode
as_list: Callable[[bytes], list[Raw]] = msgspec.json.Decoder(list[Raw]).decode
_decode_lines = msgspec.json.Decoder().decode_lines
_encode_lines = msgspec.json.Encoder().encode_lines
_FEW = 16
"""Objects that are decoded and encoded again together: what comes of them is gone before it leaves the cache."""

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


def repeating(raws: Sequence[Any]) -> set[int]:
    """The places of the objects, each on one line, in which a name stands twice, at any depth.

    A decoder keeps one value of each name: an object that holds as many names as what it keeps of it repeats none. So
    the names of all are counted at once, and only suspicious objects are looked into.
    """
    return {place for place in _suspects(raws) if has_repeated_name(bytes(raws[place]))}


def _suspects(raws: Sequence[Any]) -> Iterable[int]:
    """The places of objects with another number of names than what is kept of them, or with some that cannot be
    counted."""
    if not raws:
        return ()
    lines = b"".join([part for raw in raws for part in (raw, b"\n")])
    try:
        kept = b"".join(
            _encode_lines(_decode_lines(b"\n".join(raws[start : start + _FEW]))) for start in range(0, len(raws), _FEW)
        )
    except (msgspec.DecodeError, RecursionError):
        return range(len(raws))
    written, left = np.frombuffer(lines, np.uint8), np.frombuffer(kept, np.uint8)
    differs = _by_line(_name_ends(written), written) != _by_line(_name_ends(left), left)
    return np.flatnonzero(differs | (_by_line(_hiding_places(written), written) > 0)).tolist()


def _name_ends(lines: Bytes) -> NDArray[np.bool_]:
    """Where names end, and strings that look like one."""
    ends: NDArray[np.bool_] = (lines[:-1] == ord('"')) & (lines[1:] == ord(":"))
    return ends


def _hiding_places(lines: Bytes) -> NDArray[np.bool_]:
    """Where the end of a name may hide: at a blank before a colon, and at an escape, which in a string may be of the
    quote or the colon of what looks like a name without it."""
    before, after = lines[:-1], lines[1:]
    is_blank = (before == ord(" ")) | (before == ord("\t")) | (before == ord("\r"))
    hiding: NDArray[np.bool_] = (is_blank & (after == ord(":"))) | ((before == ord("\\")) & (after == ord("u")))
    return hiding


def _by_line(found: NDArray[np.bool_], lines: Bytes) -> NDArray[np.int64]:
    """How many there are in each line; the last one has a line break, too."""
    starts = np.concatenate([[0], np.flatnonzero(lines[:-1] == ord("\n")) + 1])
    return np.add.reduceat(found, starts, dtype=np.int64)


def size_of(members: Mapping[str, Raw]) -> int:
    """How long members are in a text without blanks or escapes in names, all with what is beside them."""
    names = "".join(members)
    size = len(names) if names.isascii() else len(names.encode())
    return size + sum(map(len, members.values())) + BESIDE_A_MEMBER * len(members)


def _is_all(members: Mapping[str, Raw], text: bytes) -> bool:
    """Whether a text without blanks or escapes in names has no more than these members."""
    return size_of(members) + 1 == len(text)


def _next(source: str, position: int) -> int:
    """Where the next name, value or closing brace begins."""
    found = _BETWEEN.match(source, position)
    assert found is not None, "the pattern matches nothing too"
    return found.end()
