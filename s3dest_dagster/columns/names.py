"""Converts any names to names that Avro accepts, and defines the names of the overflow map.

Names are standardised by the connector's rule (`AvroNameTransformer`): NFKD; marks are dropped; every run of
whitespace, and every other character outside of [A-Za-z0-9_], becomes "_"; a leading digit gets a "_" before it; case
is kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

OVERFLOW = "_airbyte_additional_properties"
OVERFLOW_ALIAS = "_ab_additional_properties"
OVERFLOW_NAMES = frozenset({OVERFLOW, OVERFLOW_ALIAS})
"""Names under which a record may bring entries for its overflow map."""

ORIGINAL_NAME = "_airbyte_original_name:"
"""The beginning of an Avro doc that has the original name, before it was standardised."""

_BLANKS = re.compile(r"\s+", re.ASCII)
_OTHERS = re.compile(r"[^A-Za-z0-9_]")


@lru_cache(maxsize=4096)  # schemas repeat the names of their fields
def standard_name(name: str) -> str:
    """The Avro name of a stream or field; never empty."""
    without_marks = "".join(
        c for c in unicodedata.normalize("NFKD", name) if not unicodedata.category(c).startswith("M")
    )
    standard = _OTHERS.sub("_", _BLANKS.sub("_", without_marks))
    return standard if standard and not standard[0].isdigit() else f"_{standard}"


def standard_namespace(namespace: str | None) -> str | None:
    """The Avro namespace of a dotted namespace, converted part by part; None for None."""
    parts = [standard_name(part) for part in (namespace or "").split(".") if part]
    return ".".join(parts) or None


def original_name_doc(name: str, written: str) -> str | None:
    """The Avro doc of a name that is written as `written`; None if they are the same."""
    return None if name == written else ORIGINAL_NAME + name


class NameAllocator:
    """Allocates unique names. The cost does not depend on how often the same name was requested before.

    Args:
        used: Names that are never returned.
        separator: The text between a name and its number.
    """

    def __init__(self, used: Iterable[str] = (), separator: str = "_") -> None:
        self._used = set(used)
        self._separator = separator
        self._next_numbers: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._used

    def allocate(self, name: str) -> str:
        """`name`, or its first numbered form ("a_2") that is free. The result then counts as used."""
        free, number = name, self._next_numbers.get(name, 2)
        while free in self._used:
            free, number = f"{name}{self._separator}{number}", number + 1
        self._next_numbers[name] = number
        self._used.add(free)
        return free
