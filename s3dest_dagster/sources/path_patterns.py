"""Patterns of paths, and the files that match them.

A pattern has wildcards, and placeholders that capture the text that they match. Files are on disk, or in any store that
pyarrow knows. Must not know: what the files contain.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import pyarrow.fs

from s3dest_dagster.errors import SettingsError

_WILDCARD = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\{\{(?P<name>[^{}]*)\}\}|(?P<wildcard>\*\*/|\*\*|\*|\?|\[[^\]/]+\])")


class _OneCharacter(NamedTuple):
    """One character of a class, or any character except a slash."""

    matches: Callable[[str], object]


class _AnyCharacters(NamedTuple):
    """Any number of characters, including slashes if it `crosses` directories."""

    crosses: bool = False


class _AnyDirectories(NamedTuple):
    """Any number of whole directories."""


class _Capture(NamedTuple):
    """One or more characters of a name, which are captured."""


class _BackReference(NamedTuple):
    """The text that the placeholder with this number has captured, repeated."""

    number: int


_Piece = str | _OneCharacter | _AnyCharacters | _AnyDirectories | _Capture | _BackReference
_WILDCARDS: dict[str, _Piece] = {
    "**/": _AnyDirectories(),
    "**": _AnyCharacters(crosses=True),
    "*": _AnyCharacters(),
    "?": _OneCharacter(lambda character: character != "/"),
}


@dataclass(frozen=True, slots=True)
class Match:
    """How a path matches a pattern."""

    captured: Mapping[str, str]
    """The texts that the placeholders matched, by their names."""
    recursive_spans: Sequence[tuple[int, int]]
    """The start and end in the path of each `**`."""


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A parsed pattern: a directory, and the pieces that match the paths below it."""

    directory: str
    """The directory that contains all matches, with a trailing slash, or ""."""
    pieces: Sequence[_Piece]
    """The pieces that match the rest of the path."""
    is_deep: bool
    """Whether matches may be in directories below `directory`."""
    named_levels: int
    """How many of these directories the pattern names, possibly with a wildcard within the name."""
    names: tuple[str, ...] = ()
    """The names of the placeholders."""

    def match(self, path: str) -> Match | None:
        """The match of a path below the directory. None if it does not match.

        Each wildcard matches as much as possible. As in a shell, no wildcard matches a name that begins with a dot. The
        time grows with the product of both lengths.
        """
        if any(not isinstance(piece, str) for piece in self.pieces) and f"/{path}".find("/.") >= 0:
            return None
        found = _Search(self.pieces, path).run()
        return found and Match(dict(zip(self.names, found[0], strict=True)), found[1])

    def may_match_at(self, level: int) -> bool:
        """Whether a path this many directories below may match."""
        return level <= self.named_levels or any(map(_is_recursive, self.pieces))


def escape_wildcards(text: str) -> str:
    """A pattern that matches only this text."""
    return _WILDCARD.sub(r"[\g<0>]", text)


def parse_pattern(path: str, *, capture: bool) -> PathPattern:
    """Parses a pattern.

    Args:
        path: The text.
        capture: Whether placeholders (`{{ partition_key }}`) capture the text that they match. If False, they are plain
            text.

    Raises:
        SettingsError: for an invalid class of characters, such as [z-a].
    """
    text = ""
    directory: str | None = None
    pieces: list[_Piece] = []
    names: list[str] = []
    is_deep = False
    levels = 0
    for part, token in _tokens(path):
        if token is None or (token["name"] is not None and not capture):
            text += part
            continue
        if directory is None:
            directory, text = _split_directory(text)
        is_deep = is_deep or "/" in text or "**" in token[0]
        levels += text.count("/")
        pieces += [text, _piece(token, names, path)]
        text = ""
    if directory is None:
        directory, text = _split_directory(text)
    pieces = [piece for piece in [*pieces, text] if piece != ""]
    return PathPattern(directory, pieces, is_deep or "/" in text, levels + text.count("/"), tuple(names))


def _tokens(path: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Yields the parts of the path: its texts, and its wildcards and placeholders with their matches."""
    start = 0
    for token in _TOKEN.finditer(path):
        yield path[start : token.start()], None
        yield token[0], token
        start = token.end()
    yield path[start:], None


def _split_directory(text: str) -> tuple[str, str]:
    """Splits off the directory, with its slash. Returns it and the rest."""
    cut = text.rfind("/") + 1
    return text[:cut], text[cut:]


def _piece(token: re.Match[str], names: list[str], path: str) -> _Piece:
    """The piece of a wildcard or placeholder. A new name is added to `names`."""
    if token["name"] is None:
        wildcard = token["wildcard"]
        return _WILDCARDS[wildcard] if wildcard in _WILDCARDS else _OneCharacter(_character_class(wildcard, path))
    name = token["name"].strip()
    if name in names:
        return _BackReference(names.index(name))
    names.append(name)
    return _Capture()


def _character_class(wildcard: str, path: str) -> Callable[[str], object]:
    """Returns a test for characters of a class such as [a-z], [!a] or [^a]."""
    inside = re.sub(r"([\\\[&~|])", r"\\\1", wildcard[1:-1])
    try:
        return re.compile(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]").fullmatch
    except re.error as error:
        raise SettingsError(
            f"The path {path!r} has the class {wildcard}, which is none ({error.msg}). Write it like [a-z], or a "
            "bracket itself as [[].",
            setting="path",
        ) from None


def _is_recursive(piece: _Piece) -> bool:
    """Whether the piece is a `**`."""
    return isinstance(piece, _AnyDirectories) or (isinstance(piece, _AnyCharacters) and piece.crosses)


_Captured = tuple[str, ...]


class _Search:
    """A search for the first match, by backtracking that never tries the same combination twice."""

    def __init__(self, pieces: Sequence[_Piece], path: str) -> None:
        self._pieces = pieces
        self._path = path
        self._tried: set[tuple[int, int, _Captured]] = set()
        self._tried_from: dict[tuple[int, int, _Captured], int] = {}

    def run(self) -> tuple[_Captured, list[tuple[int, int]]] | None:
        """The captured texts, and the start and end of each `**`."""
        open_choices: list[Iterator[tuple[int, _Captured]]] = [iter([(0, ())])]
        starts = [0] * (len(self._pieces) + 1)
        while open_choices:
            choice = next(open_choices[-1], None)
            if choice is None:
                open_choices.pop()
                continue
            start, captured = choice
            number = len(open_choices) - 1
            starts[number] = start
            if number == len(self._pieces):
                if start == len(self._path):
                    spans = zip(self._pieces, pairwise(starts), strict=True)
                    return captured, [span for piece, span in spans if _is_recursive(piece)]
            elif (number, start, captured) not in self._tried:
                self._tried.add((number, start, captured))
                open_choices.append(self._ends(number, start, captured))
        return None

    def _ends(self, number: int, start: int, captured: _Captured) -> Iterator[tuple[int, _Captured]]:
        """Yields the positions where a piece that starts here may end, and the texts captured up to there."""
        piece, path = self._pieces[number], self._path
        if isinstance(piece, _Capture):
            return ((end, (*captured, path[start:end])) for end in range(self._end_of_name(start), start, -1))
        if isinstance(piece, _AnyCharacters):
            limit = len(path) if piece.crosses else self._end_of_name(start)
            return ((end, captured) for end in self._untried(number, limit, captured, start))
        if isinstance(piece, _AnyDirectories):
            if path.startswith("/", start):
                return iter([(start, captured)])
            untried = self._untried(number, len(path), captured, start)
            return ((end, captured) for end in untried if end == start or path[end - 1] == "/")
        if isinstance(piece, _OneCharacter):
            return iter([(start + 1, captured)] if start < len(path) and piece.matches(path[start]) else [])
        text = piece if isinstance(piece, str) else captured[piece.number]
        return iter([(start + len(text), captured)] if path.startswith(text, start) else [])

    def _end_of_name(self, start: int) -> int:
        slash = self._path.find("/", start)
        return len(self._path) if slash < 0 else slash

    def _untried(self, number: int, limit: int, captured: _Captured, start: int) -> range:
        """The ends up to the limit, in descending order, that this piece has not reached from an earlier start."""
        key = (number, limit, captured)
        tried_from = self._tried_from.get(key, limit + 1)
        self._tried_from[key] = min(tried_from, start)
        return range(tried_from - 1, start - 1, -1)


# ---------------------------------------------------------------------- the files that match


def matching_files(
    filesystem: pyarrow.fs.FileSystem, directory: str, pattern: PathPattern
) -> Iterator[tuple[pyarrow.fs.FileInfo, Match]]:
    """Yields the files below the directory that match the pattern. Raises OSError if a directory cannot be listed."""
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        infos = ((filesystem.get_file_info(path), match) for path, match in _matching_paths(directory, pattern))
    else:
        selector = pyarrow.fs.FileSelector(directory, recursive=pattern.is_deep, allow_not_found=True)
        listed = filesystem.get_file_info(selector)
        matches = (pattern.match(info.path[len(directory) :].lstrip("/")) for info in listed)
        infos = ((info, match) for info, match in zip(listed, matches, strict=True) if match is not None)
    return ((info, match) for info, match in infos if info.type is pyarrow.fs.FileType.File)


def _matching_paths(directory: str, pattern: PathPattern) -> Iterator[tuple[str, Match]]:
    """Yields the matching paths of a directory on disk.

    A link to a file counts as a file. A link to a directory is followed if the pattern names it, even with a wildcard
    within the name, but `**` never follows links. If several paths lead to one file, only the first is yielded.
    """
    seen: set[str] = set()
    for below, links in sorted(_walk(directory, pattern, "", ())):
        match = pattern.match(below)
        if match is None or any(start < link <= end for start, end in match.recursive_spans for link in links):
            continue
        path = os.path.join(directory, below)
        if (real := os.path.realpath(path)) not in seen:
            seen.add(real)
            yield path, match


def _walk(
    directory: str, pattern: PathPattern, below: str, links: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields the files below, and the positions in each path where a link to a directory ends.

    Each followed link uses up one of the names in the pattern, so that a cycle of links is not followed forever.
    """
    try:
        entries = list(os.scandir(os.path.join(directory, below)))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = below + entry.name
        if not entry.is_dir():
            yield path, links
        elif pattern.may_match_at(path.count("/") + 1):
            links_of_path = (*links, len(path)) if entry.is_symlink() else links
            if len(links_of_path) <= pattern.named_levels:
                yield from _walk(directory, pattern, f"{path}/", links_of_path)
