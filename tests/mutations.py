"""JSON documents with something wrong in them: members replaced, renamed or left out, or a byte damaged."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

NUMBERS = {"@huge": "1" + "0" * 400, "@beyond": "1e999", "@tiny": "-1e-999", "@nan": "NaN", "@digits": "9" * 5000}
"""Placeholders for numbers that Python cannot write, with their spelling."""
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**19,
    "",
    "x",
    "\ud800",
    "\x00",
    "a" * 300,
    [],
    {},
    ["x"],
    {"x": None},
]
ODD += [[[[]]], {"name": {}}, *NUMBERS]


def mutated(document: Any, seed: int) -> bytes:
    """The document with one to three errors, which depend only on the seed."""
    draw = random.Random(seed)
    changed = json.loads(json.dumps(document))
    for _ in range(draw.randint(1, 3)):
        places = list(_places(changed))
        if places:
            _change(*draw.choice(places), draw)
    text = json.dumps(changed)
    for name, number in NUMBERS.items():
        text = text.replace(f'"{name}"', number)
    return _damaged(text.encode(), draw) if draw.random() < 0.1 else text.encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every member: its container, and its name or number there."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in members:
        yield value, name
        yield from _places(inner)


def _change(within: Any, name: Any, draw: random.Random) -> None:
    kind = draw.choice(["replace", "replace", "replace", "remove", "rename"])
    if kind == "replace":
        within[name] = copy.deepcopy(draw.choice(ODD))
    elif kind == "remove":
        del within[name]
    elif isinstance(within, dict):
        within[f"{name}s"] = within.pop(name)


def _damaged(text: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(text))
    return text[:place] + draw.choice([b"", b"\xff", b"\x00", b'"', b"{"]) + text[place + 1 :]
