"""Which values of a connector's config its specification marks as secrets (`airbyte_secret`).

Must not know: how the specification is obtained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_BRANCHES = ("oneOf", "anyOf", "allOf")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:?\d\d)?)?")
_MIN_CHARACTERS = 4


def find_marked(specification: Any, config: Any) -> Iterator[str]:
    """Yields the texts of every value that the specification marks, at any depth, in every branch that may apply.

    Example:
        find_marked({"properties": {"pin": {"airbyte_secret": True}}}, {"pin": 123456})  # yields "123456"
    """
    if not isinstance(specification, Mapping):
        return
    if specification.get("airbyte_secret") is True:
        yield from _texts(config)
        return
    for name in _BRANCHES:
        for branch in specification.get(name) or ():
            yield from find_marked(branch, config)
    if isinstance(config, Mapping):
        properties = specification.get("properties") or {}
        for name, value in config.items():
            yield from find_marked(properties.get(name, specification.get("additionalProperties")), value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from find_marked(specification.get("items"), value)


def plain_values(config: Any) -> Iterator[str]:
    """Yields the texts and numbers of a config that could be secrets: not dates, and not short ones."""
    return (text for text in _texts(config) if len(text) >= _MIN_CHARACTERS and not _DATE.fullmatch(text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
