"""Patterns of paths: wildcards, and placeholders that catch what stands in their place.

It knows texts; it must not know file systems.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from s3dest_dagster.errors import SettingsError

_WILDCARD = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\{\{(?P<name>[^{}]*)\}\}|(?P<wild>\*\*/|\*\*|\*|\?|\[[^\]/]+\])")


class _One(NamedTuple):
    """A character of a class, or any but a slash."""

    matches: Callable[[str], object]


class _Many(NamedTuple):
    """Any number of characters; slashes among them where it `crosses` directories."""

    crosses: bool = False


class _Caught(NamedTuple):
    """One or more characters of a name, which are kept."""


class _Directories(NamedTuple):
    """Any number of whole directories."""


class _Again(NamedTuple):
    """What was caught by the placeholder of this number, once more."""

    number: int


_Piece = str | _One | _Many | _Caught | _Directories | _Again
_WILD: dict[str, _Piece] = {
    "**/": _Directories(),
    "**": _Many(crosses=True),
    "*": _Many(),
    "?": _One(lambda character: character != "/"),
}


@dataclass(frozen=True, slots=True)
class Match:
    """A path that a pattern matches: what its placeholders `caught`, by their names, and which parts of the path stand
    for a `**`, by where they begin and end."""

    caught: Mapping[str, str]
    deep: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A pattern, divided: `directory` (with its slash at the end, "" for none) has all that match, `pieces` match the
    rest of their paths, and `is_deep` tells whether that may lie in directories below. `named_levels` are those of
    them that the pattern names itself, be it by a wildcard within the name; `names` are those of its placeholders."""

    directory: str
    pieces: Sequence[_Piece]
    is_deep: bool
    named_levels: int
    names: tuple[str, ...] = ()

    def match(self, path: str) -> Match | None:
        """Whether a path below the directory matches, each wildcard taking as much as it can, in time that grows with
        the product of both lengths. Wildcards find no name that begins with a dot, as in a shell."""
        if any(not isinstance(piece, str) for piece in self.pieces) and f"/{path}".find("/.") >= 0:
            return None
        found = _Search(self.pieces, path).run()
        return found and Match(dict(zip(self.names, found[0], strict=True)), found[1])

    def reaches_below(self, level: int) -> bool:
        """Whether something so many directories below may match."""
        return level <= self.named_levels or any(map(_is_deep, self.pieces))


def as_it_is(text: str) -> str:
    """The text as a pattern that matches it alone."""
    return _WILDCARD.sub(r"[\g<0>]", text)


def path_pattern(path: str, *, catching: bool) -> PathPattern:
    """The pattern that the path is. Where it is `catching`, placeholders (`{{ partition_key }}`) catch what stands in
    their place; otherwise it has none. Raises SettingsError for a class of characters that is none, such as [z-a]."""
    plain = ""
    directory: str | None = None
    pieces: list[_Piece] = []
    names: list[str] = []
    is_deep = False
    levels = 0
    for text, token in _tokens(path):
        if token is None or (token["name"] is not None and not catching):
            plain += text
            continue
        if directory is None:
            directory, plain = _divided(plain)
        is_deep = is_deep or "/" in plain or "**" in token[0]
        levels += plain.count("/")
        pieces += [plain, _piece(token, names, path)]
        plain = ""
    if directory is None:
        directory, plain = _divided(plain)
    pieces = [each for each in [*pieces, plain] if each != ""]
    return PathPattern(directory, pieces, is_deep or "/" in plain, levels + plain.count("/"), tuple(names))


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


def _piece(token: re.Match[str], names: list[str], path: str) -> _Piece:
    """The piece of a wildcard or placeholder; a name that is not among `names` is added to them."""
    if token["name"] is None:
        wild = token["wild"]
        return _WILD[wild] if wild in _WILD else _One(_class(wild, path))
    name = token["name"].strip()
    if name in names:
        return _Again(names.index(name))
    names.append(name)
    return _Caught()


def _class(wild: str, path: str) -> Callable[[str], object]:
    """Whether a character is of a class such as [a-z], [!a] or [^a]."""
    inside = re.sub(r"([\\\[&~|])", r"\\\1", wild[1:-1])
    try:
        return re.compile(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]").fullmatch
    except re.error as error:
        raise SettingsError(
            f"The path {path!r} has the class {wild}, which is none ({error.msg}). Write it like [a-z], or a bracket "
            "itself as [[].",
            setting="path",
        ) from None


def _is_deep(piece: _Piece) -> bool:
    """Whether it stands for a `**`."""
    return isinstance(piece, _Directories) or (isinstance(piece, _Many) and piece.crosses)


_Texts = tuple[str, ...]


class _Search:
    """One search for the first match, by backtracking that tries nothing twice."""

    def __init__(self, pieces: Sequence[_Piece], path: str) -> None:
        self._pieces = pieces
        self._path = path
        self._tried: set[tuple[int, int, _Texts]] = set()
        self._tried_from: dict[tuple[int, int, _Texts], int] = {}

    def run(self) -> tuple[_Texts, list[tuple[int, int]]] | None:
        """What was caught, and where each `**` begins and ends."""
        todo: list[Iterator[tuple[int, _Texts]]] = [iter([(0, ())])]
        begins = [0] * (len(self._pieces) + 1)
        while todo:
            found = next(todo[-1], None)
            if found is None:
                todo.pop()
                continue
            at, caught = found
            number = len(todo) - 1
            begins[number] = at
            if number == len(self._pieces):
                if at == len(self._path):
                    spans = zip(self._pieces, pairwise(begins), strict=True)
                    return caught, [span for piece, span in spans if _is_deep(piece)]
            elif (number, at, caught) not in self._tried:
                self._tried.add((number, at, caught))
                todo.append(self._after(number, at, caught))
        return None

    def _after(self, number: int, at: int, caught: _Texts) -> Iterator[tuple[int, _Texts]]:
        """Where the path may go on behind a piece that begins here, and what is caught by then."""
        piece, path = self._pieces[number], self._path
        if isinstance(piece, _Caught):
            return ((end, (*caught, path[at:end])) for end in range(self._end_of_name(at), at, -1))
        if isinstance(piece, _Many):
            limit = len(path) if piece.crosses else self._end_of_name(at)
            return ((end, caught) for end in self._untried(number, limit, caught, at))
        if isinstance(piece, _Directories):
            if path.startswith("/", at):
                return iter([(at, caught)])
            untried = self._untried(number, len(path), caught, at)
            return ((end, caught) for end in untried if end == at or path[end - 1] == "/")
        if isinstance(piece, _One):
            return iter([(at + 1, caught)] if at < len(path) and piece.matches(path[at]) else [])
        text = piece if isinstance(piece, str) else caught[piece.number]
        return iter([(at + len(text), caught)] if path.startswith(text, at) else [])

    def _end_of_name(self, at: int) -> int:
        slash = self._path.find("/", at)
        return len(self._path) if slash < 0 else slash

    def _untried(self, number: int, limit: int, caught: _Texts, at: int) -> range:
        """The places up to the limit, the last one first, that this piece has not led to from an earlier beginning."""
        key = (number, limit, caught)
        before = self._tried_from.get(key, limit + 1)
        self._tried_from[key] = min(before, at)
        return range(before - 1, at - 1, -1)


_Links = tuple[int, ...]


def matching_files(directory: str, pattern: PathPattern) -> Iterator[tuple[str, Match]]:
    """The paths below the directory, and how they match. OSError for a directory that cannot be looked into.

    A link to a file is one; a link to a directory is followed where the pattern names it, or a wildcard within a name
    matches it, but never by `**`. A file that several paths lead to is found once, by the first of them.
    """
    found: set[str] = set()
    for below, links in sorted(_walk(directory, pattern, "", ())):
        match = pattern.match(below)
        if match is None or any(begin < link <= end for begin, end in match.deep for link in links):
            continue
        path = os.path.join(directory, below)
        if (real := os.path.realpath(path)) not in found:
            found.add(real)
            yield path, match


def _walk(directory: str, pattern: PathPattern, below: str, links: _Links) -> Iterator[tuple[str, _Links]]:
    """The files below, each with where the links to directories in its path end.

    Each link that is followed takes a name that the pattern says, so that no circle of links is walked for ever.
    """
    try:
        entries = list(os.scandir(os.path.join(directory, below)))
    except (FileNotFoundError, NotADirectoryError):
        return
    for each in entries:
        path = below + each.name
        if not each.is_dir():
            yield path, links
        elif pattern.reaches_below(path.count("/") + 1):
            its_links = (*links, len(path)) if each.is_symlink() else links
            if len(its_links) <= pattern.named_levels:
                yield from _walk(directory, pattern, f"{path}/", its_links)
