"""Patterns of paths: wildcards, and placeholders that catch what stands in their place.

It knows texts; it must not know file systems.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_CAUGHT = "caught_{}"
_WILDCARD = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\{\{\s*(?P<name>[^{}]*?)\s*\}\}|(?P<wild>\*\*/|\*\*|\*|\?|\[[^\]/]+\])")
_DEEP = {"**/": r"(?:[^/]+/)*", "**": r".*"}
_WILD = {"*": r"[^/]*", "?": r"[^/]"}
_NOT_HIDDEN = r"(?!(?:.*/)?\.)"
"""Wildcards find no name that begins with a dot, as in a shell."""


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A pattern, divided: `directory` (with its slash at the end, "" for none) has all that match, `inside` matches
    the rest of their paths, and `is_deep` tells whether that may lie in directories below. `named_levels` are those of
    them that the pattern names itself, be it by a wildcard within the name; `names` are those of its placeholders."""

    directory: str
    inside: re.Pattern[str]
    is_deep: bool
    named_levels: int
    names: tuple[str, ...] = ()

    def match(self, path: str) -> re.Match[str] | None:
        """Whether a path below the directory matches."""
        return self.inside.fullmatch(path)

    def caught(self, match: re.Match[str]) -> dict[str, str]:
        """What the placeholders caught, by their names."""
        return {name: match[_CAUGHT.format(number)] for number, name in enumerate(self.names)}

    def deep(self, match: re.Match[str]) -> list[tuple[int, int]]:
        """Which parts of the path stand for a `**`, by where they begin and end."""
        return [match.span(name) for name in self._deep_groups]

    def reaches_below(self, level: int) -> bool:
        """Whether something so many directories below may match."""
        return level <= self.named_levels or len(self._deep_groups) > 0

    @property
    def _deep_groups(self) -> list[str]:
        return [name for name in self.inside.groupindex if name.startswith("deep")]


def as_it_is(text: str) -> str:
    """The text as a pattern that matches it alone."""
    return _WILDCARD.sub(r"[\g<0>]", text)


def path_pattern(path: str, *, catching: bool) -> PathPattern:
    """The pattern that the path is. Where it is `catching`, placeholders (`{{ partition_key }}`) catch what stands in
    their place; otherwise it has none."""
    plain = ""
    directory: str | None = None
    inside = ""
    is_deep = False
    names: list[str] = []
    levels = 0
    for text, token in _tokens(path):
        if token is None or (token["name"] is not None and not catching):
            plain += text
            continue
        if directory is None:
            directory, plain = _divided(plain)
        is_deep = is_deep or "/" in plain or "**" in token[0]
        levels += plain.count("/")
        inside += re.escape(plain) + _expression(token, names, at=len(inside))
        plain = ""
    if directory is None:
        directory, plain = _divided(plain)
    expression = _NOT_HIDDEN + inside if inside else inside
    whole = re.compile(expression + re.escape(plain), re.DOTALL)
    return PathPattern(directory, whole, is_deep or "/" in plain, levels + plain.count("/"), tuple(names))


def _tokens(path: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """The path's plain texts, each alone, and between them its wildcards and placeholders."""
    at = 0
    for token in _TOKEN.finditer(path):
        yield path[at : token.start()], None
        yield token[0], token
        at = token.end()
    yield path[at:], None


def _divided(plain: str) -> tuple[str, str]:
    """The directory, with its slash, and the rest."""
    cut = plain.rfind("/") + 1
    return plain[:cut], plain[cut:]


def _expression(token: re.Match[str], names: list[str], *, at: int) -> str:
    """The expression of a wildcard or placeholder; a name that is not among `names` is added to them."""
    name = token["name"]
    if name is not None:
        if name in names:
            return f"(?P={_CAUGHT.format(names.index(name))})"
        names.append(name)
        return f"(?P<{_CAUGHT.format(len(names) - 1)}>[^/]+)"
    wild = token["wild"]
    if wild in _DEEP:
        return f"(?P<deep{at}>{_DEEP[wild]})"
    if wild in _WILD:
        return _WILD[wild]
    negated = wild.startswith("[!")
    members = wild[2:-1] if negated else wild[1:-1]
    # Python warns of a "[" within brackets.
    return f"[{'^' if negated else ''}{members.replace('[', re.escape('['))}]"
