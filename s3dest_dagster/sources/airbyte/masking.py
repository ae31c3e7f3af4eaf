"""Secrets kept out of logs and errors: which texts of a config are secret, and how they are struck out.

It knows JSON values; it must not know where the texts are shown.

What counts as secret in a config: every text that stands under a key which looks secret, however deep
(`credentials: {…}` hides all within), but not a choice of method (`auth_type`); and the password of a URL. What a
connector's own spec marks as secret is not asked, since that needs a run of the connector before every run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from s3dest_dagster.printable import printable

MASK = "****"

_SECRET_KEY = re.compile(
    r"pass|pwd|secret|token|credential|auth|private|(api|access|account|encryption|signing|service|sas).?key|^key$"
    r"|signature|session|cookie|connection.?string|conn.?str|dsn|jdbc|webhook|bearer",
    re.IGNORECASE,
)
_CHOICE_KEY = re.compile(r"(^|_)(type|method|mode|title)$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_SHORTEST = 4


class Masking:
    """Strikes secret texts out, also where they are quoted, escaped, percent-encoded or cut into lines.

    A text of less than four characters is no secret: it would be struck out of ordinary words.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {spelling for text in secrets if len(text) >= _SHORTEST for spelling in _spellings(text)}
        # The longest first, so that no secret is left half shown because another is a part of it.
        ordered = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def secret_texts(config: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a config, or of an environment, that count as secret."""
    return _secrets(config, False)


def _secrets(value: Any, within: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets(inner, _hides(str(key), inner, within))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner, within)
    elif isinstance(value, str):
        yield from [value] if within else _URL_PASSWORD.findall(value)


def _hides(key: str, value: Any, within: bool) -> bool:
    if isinstance(value, str) and _CHOICE_KEY.search(key):
        return False
    return within or bool(_SECRET_KEY.search(key))


def _spellings(text: str) -> Iterator[str]:
    """How a program may print the text: as it is, as JSON, in a URL, or cut into its lines."""
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield printable(text)
    yield quote(text, safe="", errors="replace")
    yield quote_plus(text, errors="replace")
    yield from (line.strip() for line in text.splitlines() if len(line.strip()) >= 2 * _SHORTEST)
