"""Records like the `users` of airbyte-source-faker: 17 fields, one nested object, about 530 bytes; the same every time.

It must not know messages or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_MOMENT = {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"}
_ADDRESS = ("street_number", "street_name", "city", "state", "province", "postal_code", "country_code")
SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "id": _WHOLE,
        "created_at": _MOMENT,
        "updated_at": _MOMENT,
        "name": _TEXT,
        "title": _TEXT,
        "age": _WHOLE,
        "email": _TEXT,
        "telephone": _TEXT,
        "gender": _TEXT,
        "language": _TEXT,
        "academic_degree": _TEXT,
        "nationality": _TEXT,
        "occupation": _TEXT,
        "height": _TEXT,
        "blood_type": _TEXT,
        "weight": _WHOLE,
        "address": {"type": "object", "properties": dict.fromkeys(_ADDRESS, _TEXT)},
    },
}
"""The JSON schema that the connector declares for its users."""

_SYLLABLES = [
    consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in ("a", "e", "i", "o", "u", "er", "an")
]
_TITLES = ("Mr.", "Mrs.", "Miss", "Sir", "Madam", "Master", "PhD", "MD", "BA", "MBA", "DPhil", "EdD")
_MAILS = (
    "duck.com",
    "example.com",
    "example.org",
    "gmail.com",
    "live.com",
    "outlook.com",
    "protonmail.com",
    "yandex.com",
)
_PHONES = ("+1-({})-{}-{}", "1-{}-{}-{}", "{}.{}.{}", "{}-{}-{}", "({}) {}-{}", "+1{}{}{}")
_GENDERS = ("Male", "Female", "Fluid", "Other")
_DEGREES = ("Bachelor", "Master", "PhD")
_BLOOD_TYPES = ("A+", "A\u2212", "B+", "B\u2212", "AB+", "AB\u2212", "O+", "O\u2212")  # with the sign for minus


class _Vocabulary:
    """As many different words of each kind as the connector uses."""

    def __init__(self, random: Random) -> None:
        def words(count: int, longest: int) -> list[str]:
            return ["".join(random.choices(_SYLLABLES, k=random.randint(2, longest))).title() for _ in range(count)]

        def pairs(count: int, longest: int) -> list[str]:
            return [" ".join(words(random.randint(1, 2), longest)) for _ in range(count)]

        self.names = words(2600, 3)
        self.mailboxes = [word.lower() for word in words(8000, 4)]
        self.languages = words(97, 4)
        self.nationalities = words(50, 4)
        self.occupations = pairs(1200, 3)
        self.streets = words(2100, 4)
        self.cities = pairs(1500, 3)
        self.states = words(50, 4)
        self.countries = ["".join(random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=2)) for _ in range(247)]


def users(count: int, *, seed: int = 1) -> Iterator[dict[str, Any]]:
    """`count` users with ids from 1; equal arguments give equal users."""
    random = Random(seed)
    words = _Vocabulary(random)
    for number in range(1, count + 1):
        yield _user(number, random, words)


def _user(number: int, random: Random, words: _Vocabulary) -> dict[str, Any]:
    choice, below = random.choice, random.randrange
    return {
        "id": number,
        "created_at": _moment(random),
        "updated_at": f"2026-11-27T{number // 480_000 % 24:02}:{number // 8000 % 60:02}:{number // 133 % 60:02}+00:00",
        "name": choice(words.names),
        "title": choice(_TITLES),
        "age": 16 + below(51),
        "email": f"{choice(words.mailboxes)}{1900 + below(200)}+{number}@{choice(_MAILS)}",
        "telephone": choice(_PHONES).format(200 + below(800), 100 + below(900), 1000 + below(9000)),
        "gender": choice(_GENDERS),
        "language": choice(words.languages),
        "academic_degree": choice(_DEGREES),
        "nationality": choice(words.nationalities),
        "occupation": choice(words.occupations),
        "height": f"{1.5 + below(51) / 100:.2f}",
        "blood_type": choice(_BLOOD_TYPES),
        "weight": 38 + below(53),
        "address": {
            "street_number": str(1 + below(1400)),
            "street_name": choice(words.streets),
            "city": choice(words.cities),
            "state": choice(words.states),
            "province": choice(words.states),
            "postal_code": f"{below(100_000):05}",
            "country_code": choice(words.countries),
        },
    }


def _moment(random: Random) -> str:
    below = random.randrange
    date = f"{2000 + below(27)}-{1 + below(12):02}-{1 + below(28):02}"
    return f"{date}T{below(24):02}:{below(60):02}:{below(60):02}+00:00"
