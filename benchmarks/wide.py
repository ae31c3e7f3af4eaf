"""Wide nested records: about 50 fields, objects three deep, lists of objects, escapes, other scripts, nulls, gaps.

The same every time, about 1.5 KB each. It must not know messages or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

_TEXT = {"type": ["null", "string"]}
_WHOLE = {"type": ["null", "integer"]}
_NUMBER = {"type": ["null", "number"]}
_TRUTH = {"type": ["null", "boolean"]}
_METRICS = 30


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": ["null", "object"], "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": ["null", "array"], "items": items}


def _metric_type(number: int) -> dict[str, Any]:
    return (_WHOLE, _NUMBER, _TEXT)[number % 3]


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "order_id": {"type": "integer"},
        "reference": _TEXT,
        "placed_at": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"},
        "ships_on": {"type": "string", "format": "date"},
        "total": _NUMBER,
        "balance": _WHOLE,
        "is_gift": _TRUTH,
        "discount": _WHOLE,
        "headline": _TEXT,
        "comment": _TEXT,
        "labels": _list(_TEXT),
        "ratings": _list(_NUMBER),
        "buyer": _object(
            login=_TEXT, home=_object(street=_TEXT, place=_object(city=_TEXT, country=_TEXT, latitude=_NUMBER))
        ),
        "items": _list(_object(sku=_TEXT, count=_WHOLE, price=_NUMBER, options=_object(colour=_TEXT, size=_TEXT))),
        "note": _TEXT,
        **{f"metric_{number:02}": _metric_type(number) for number in range(_METRICS)},
    },
}
"""The JSON schema of the records: it declares every field that they have."""

_WORDS = (
    *("order", "parcel", "left", "at", "the", "door", "please", "ring", "twice", "fragile", "blue", "green", "large"),
    *(
        "größer",
        "façade",
        "naïve",
        "Ångström",
        "привет",
        "посылка",
        "καλημέρα",
        "注文",
        "荷物",
        "주문",
        "سلام",
        "🎁",
        "🚚",
    ),
    *('say "hello"', "back\\slash", "tab\there", "line\nbreak", "half & half", "<b>bold</b>", "50 %", "a/b"),
)


def wide(count: int, *, seed: int = 1) -> Iterator[dict[str, Any]]:
    """`count` records with order ids from 1; equal arguments give equal records."""
    random = Random(seed)
    for number in range(1, count + 1):
        yield _order(number, random)


def _order(number: int, random: Random) -> dict[str, Any]:
    below = random.randrange
    order = {
        "order_id": number,
        "reference": f"{random.getrandbits(96):024x}",
        "placed_at": f"2026-{1 + below(12):02}-{1 + below(28):02}T{below(24):02}:{below(60):02}:07.{below(10**6):06}Z",
        "ships_on": f"2026-{1 + below(12):02}-{1 + below(28):02}",
        "total": below(10**7) / 100,
        "balance": below(10**6) - 500_000,
        "is_gift": below(2) == 0,
        "discount": None if below(3) == 0 else below(30),
        "headline": _text(random, 4),
        "comment": _text(random, 5 + below(50)),
        "labels": random.choices(_WORDS, k=below(6)),
        "ratings": [below(1000) / 10 for _ in range(below(8))],
        "buyer": _buyer(random),
        "items": [_item(random) for _ in range(below(5))],
        "note": None,
        **{f"metric_{number:02}": _metric(number, random) for number in range(_METRICS)},
    }
    if below(5) == 0:
        del order["buyer"]
    return order


def _text(random: Random, words: int) -> str:
    return " ".join(random.choices(_WORDS, k=words))


def _buyer(random: Random) -> dict[str, Any]:
    town = {"city": random.choice(_WORDS), "country": random.choice(("DE", "FR", "JP")), "latitude": _share(random)}
    return {"login": f"user{random.randrange(10**6)}", "home": {"street": _text(random, 2), "place": town}}


def _item(random: Random) -> dict[str, Any]:
    below = random.randrange
    options = {"colour": random.choice(_WORDS), "size": random.choice(("S", "M", "L", None))}
    return {"sku": f"SKU-{below(10**6):06}", "count": 1 + below(9), "price": below(10**5) / 100, "options": options}


def _metric(number: int, random: Random) -> Any:
    return (random.randrange(1000), _share(random), random.choice(_WORDS))[number % 3]


def _share(random: Random) -> float:
    """A number like a measured one, with fewer digits than a double can hold."""
    return random.randrange(10**9) / 10**9
