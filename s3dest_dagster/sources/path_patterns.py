"""Patterns of paths: wildcards, and placeholders that a value fills or that catch what stands in their place.

It knows texts; it must not know file systems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CAUGHT = "caught"
_TOKEN = re.compile(r"\{\{\s*(?P<name>[^{}]*?)\s*\}\}|(?P<wild>\*\*/|\*\*|\*|\?|\[[^\]/]+\])")
_DEEP = {"**/": r"(?:[^/]+/)*", "**": r".*"}
_WILD = {"*": r"[^/]*", "?": r"[^/]"}
_NOT_HIDDEN = r"(?!(?:.*/)?\.)"
"""Wildcards find no name that begins with a dot, as in a shell."""


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A pattern, divided: `directory` (with its slash at the end, "" for none) has all that match, `inside` matches
    the rest of their paths, and `is_deep` tells whether that may lie in directories below. `named_levels` are those of
    them that the pattern names itself, be it by a wildcard within the name."""

    directory: str
    inside: re.Pattern[str]
    is_deep: bool
    named_levels: int

    def match(self, path: str) -> re.Match[str] | None:
        """Whether a path below the directory matches; what a placeholder caught is its group `CAUGHT`."""
        return self.inside.fullmatch(path)

    def deep(self, match: re.Match[str]) -> list[tuple[int, int]]:
        """Which parts of the path stand for a `**`, by where they begin and end."""
        return [match.span(name) for name in self.inside.groupindex if name != CAUGHT]

    def reaches_below(self, level: int) -> bool:
        """Whether something so many directories below may match."""
        return level <= self.named_levels or len(self.inside.groupindex.keys() - {CAUGHT}) > 0


def placeholders(path: str) -> Iterator[str]:
    """The names of the path's placeholders."""
    return (token["name"] for token in _TOKEN.finditer(path) if token["name"] is not None)


def path_pattern(path: str, value_of: Callable[[str], str | None]) -> PathPattern:
    """The pattern that the path is. `value_of` gives the text of a placeholder, or None to catch what stands there."""
    plain = ""
    directory: str | None = None
    inside = ""
    is_deep = False
    catching = False
    levels = 0
    for text, token in _tokens(path):
        value = text if token is None else value_of(token["name"]) if token["name"] is not None else None
        if token is None or value is not None:
            plain += value or ""
            continue
        if directory is None:
            directory, plain = _divided(plain)
        is_deep = is_deep or "/" in plain or "**" in token[0]
        levels += plain.count("/")
        inside += re.escape(plain) + _expression(token, again=catching, at=len(inside))
        catching = catching or token["name"] is not None
        plain = ""
    if directory is None:
        directory, plain = _divided(plain)
    expression = _NOT_HIDDEN + inside if inside else inside
    whole = re.compile(expression + re.escape(plain), re.DOTALL)
    return PathPattern(directory, whole, is_deep or "/" in plain, levels + plain.count("/"))


def _tokens(path: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """The path's plain texts, each alone, and between them its wildcards and placeholders."""
    at = 0
    for token in _TOKEN.finditer(path):
        yield path[at : token.start()], None
        yield "", token
        at = token.end()
    yield path[at:], None


def _divided(plain: str) -> tuple[str, str]:
    """The directory, with its slash, and the rest."""
    cut = plain.rfind("/") + 1
    return plain[:cut], plain[cut:]


def _expression(token: re.Match[str], *, again: bool, at: int) -> str:
    if token["name"] is not None:
        return f"(?P={CAUGHT})" if again else f"(?P<{CAUGHT}>[^/]+)"
    wild = token["wild"]
    if wild in _DEEP:
        return f"(?P<deep{at}>{_DEEP[wild]})"
    return _WILD.get(wild) or ("[^" + wild[2:] if wild.startswith("[!") else wild)
