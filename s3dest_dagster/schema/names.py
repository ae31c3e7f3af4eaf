"""Names that Avro accepts: what becomes of stream, field and namespace names. It must not know kinds or schemas.

The rule is the connector's (`AvroNameTransformer`): NFKD, marks dropped, a run of whitespace and every other character
outside of [A-Za-z0-9_] become "_", a leading digit gets a "_" before it, case is kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

ORIGINAL_NAME = "_airbyte_original_name:"
"""How an Avro doc begins that tells the name before it was standardised."""

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
    taken = set(reserved)
    standard = [standard_name(source) for source in sources]
    unchanged = {source for source, name in zip(sources, standard, strict=True) if source == name} - taken
    taken |= unchanged
    return [
        source if source in unchanged else _free(name, taken) for source, name in zip(sources, standard, strict=True)
    ]


def _free(name: str, taken: set[str]) -> str:
    """`name`, or the first numbered form of it that is free; it is taken from now on."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate
