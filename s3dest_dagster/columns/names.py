"""Names that Avro accepts: what becomes of stream, field and namespace names. It must not know kinds or schemas.

The rule is the connector's (`AvroNameTransformer`): NFKD, marks dropped, a run of whitespace and every other character
outside of [A-Za-z0-9_] become "_", a leading digit gets a "_" before it, case is kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from s3dest_dagster.columns.types import OVERFLOW

ORIGINAL_NAME = "_airbyte_original_name:"
"""How an Avro doc begins that tells the name before it was standardised."""

_MOST_PREFIXES = 2
"""More would make names that grow with every repetition."""
_BLANKS = re.compile(r"\s+", re.ASCII)
_OTHERS = re.compile(r"[^A-Za-z0-9_]")


def standard_name(name: str) -> str:
    """The Avro name of a stream or field; never empty."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.category(c).startswith("M"))
    plain = _OTHERS.sub("_", _BLANKS.sub("_", plain))
    return plain if plain and not plain[0].isdigit() else f"_{plain}"


def standard_namespace(namespace: str | None) -> str | None:
    """The Avro namespace of a dotted one, part by part; None for none."""
    parts = [standard_name(part) for part in (namespace or "").split(".") if part]
    return ".".join(parts) or None


def original_name_doc(name: str, written: str) -> str | None:
    """The Avro doc of something called `name` that is written as `written`; None when they are the same."""
    return None if name == written else ORIGINAL_NAME + name


def unique_names(sources: Sequence[str], reserved: Iterable[str] = ()) -> list[str]:
    """An own Avro name for each of `sources`, which differ among themselves.

    Names that need no change keep their spelling; of those that become the same, the first is plain and the later
    ones are numbered ("a_b", "a_b_2"). Nothing is ever called like one of `reserved`. (The connector's sync fails.)
    """
    reserved = frozenset(reserved)
    standard = [standard_name(source) for source in sources]
    unchanged = {source for source, name in zip(sources, standard, strict=True) if source == name} - reserved
    taken = TakenNames(reserved | unchanged)
    return [source if source in unchanged else taken.take(name) for source, name in zip(sources, standard, strict=True)]


class TakenNames:
    """Gives each caller a name of its own; a name costs the same however often it was asked for before.

    `separator` stands between a name and its number.
    """

    def __init__(self, taken: Iterable[str] = (), separator: str = "_") -> None:
        self._taken = set(taken)
        self._separator = separator
        self._next_numbers: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def take(self, name: str) -> str:
        """`name`, or the first numbered form of it ("a_2") that is free; it is taken from now on."""
        found, number = name, self._next_numbers.get(name, 2)
        while found in self._taken:
            found, number = f"{name}{self._separator}{number}", number + 1
        self._next_numbers[name] = number
        self._taken.add(found)
        return found


class OverflowNames:
    """The names of one overflow map, each of its own, however often a record repeats one."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = TakenNames(taken, separator=".")

    def take(self, name: str) -> str:
        """`name`; if it is taken, with the overflow's own name before it, once or twice, and then with a number behind
        it ("_airbyte_additional_properties._airbyte_additional_properties.a.2")."""
        for _ in range(_MOST_PREFIXES):
            if name in self._taken:
                name = f"{OVERFLOW}.{name}"
        return self._taken.take(name)
