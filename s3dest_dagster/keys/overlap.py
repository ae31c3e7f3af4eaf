"""Decides whether two key patterns have a key in common: by an exact search, not an estimate.

A pattern is a sequence of literal texts, runs of characters and choices. Must not know: templates.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from s3dest_dagster.errors import TemplateError
from s3dest_dagster.stream import StreamId

_MOST_STEPS = 500_000
"""The most steps for comparing the streams of a catalog: about a second."""


NON_ASCII = "\u00e9"
"""In the set of a `Run`, it stands for every character outside of ASCII."""
_NON_ASCII_RANGE = "\u0080-\U0010ffff"


@dataclass(frozen=True, slots=True)
class Run:
    """Several characters in a row, all from one set."""

    chars: frozenset[str]
    least: int
    most: int | None
    """None: no limit."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several patterns."""

    options: tuple[KeyPattern, ...]
    name: str | None = None
    """Makes the choice a named group of the regular expression."""


Piece: TypeAlias = str | Run | Choice
KeyPattern: TypeAlias = tuple[Piece, ...]


def choice_of(texts: Sequence[str]) -> KeyPattern:
    """The pattern of exactly these texts."""
    return (Choice(tuple((text,) for text in texts)),)


def numbers(least: int, most: int, width: int = 1) -> KeyPattern:
    """The pattern of the whole numbers from `least` (0 or more) to `most`, padded with zeros to `width`."""
    lengths: dict[int, list[int]] = {}
    for number in range(least, most + 1):
        lengths.setdefault(max(width, len(str(number))), []).append(number)
    options = tuple(_between(f"{same[0]:0{size}d}", f"{same[-1]:0{size}d}") for size, same in lengths.items())
    return options[0] if len(options) == 1 else (Choice(options),)


def _between(first: str, last: str) -> KeyPattern:
    """The pattern of the numbers from one to another, both with the same number of digits."""
    if not first:
        return ()
    low, high, rest = first[0], last[0], len(first) - 1
    if low == high:
        return (low, *_between(first[1:], last[1:]))
    zeros, nines = "0" * rest, "9" * rest
    options: list[KeyPattern] = []
    if first[1:] != zeros:
        options.append((low, *_between(first[1:], nines)))
        low = chr(ord(low) + 1)
    full = high if last[1:] == nines else chr(ord(high) - 1)
    if low <= full:
        any_digits = (Run(frozenset("0123456789"), rest, rest),) if rest else ()
        options.append((Run(frozenset(map(chr, range(ord(low), ord(full) + 1))), 1, 1), *any_digits))
    if full != high:
        options.append((high, *_between(zeros, last[1:])))
    return options[0] if len(options) == 1 else (Choice(tuple(options)),)


def regex(pattern: KeyPattern) -> str:
    """The regular expression (for `fullmatch`) that matches exactly the texts of this pattern."""
    return "".join(map(_regex, pattern))


def _regex(piece: Piece) -> str:
    if isinstance(piece, str):
        return re.escape(piece)
    if isinstance(piece, Choice):
        opening = f"(?P<{piece.name}>" if piece.name else "(?:"
        return opening + "|".join(map(regex, piece.options)) + ")"
    chars = "".join(_NON_ASCII_RANGE if char == NON_ASCII else re.escape(char) for char in sorted(piece.chars))
    most = "" if piece.most is None else piece.most
    return f"[{chars}]{{{piece.least}}}" if piece.least == piece.most else f"[{chars}]{{{piece.least},{most}}}"


# ---------------------------------------------------------------------- the search


class TooManyStepsError(Exception):
    """The patterns are too similar to be compared within the limit."""


def refuse_shared_keys(patterns: Mapping[StreamId, KeyPattern], path_format: str, cure: str) -> None:
    """Refuses streams that could have the same key.

    Args:
        patterns: For each stream, the pattern of all keys that it can have.
        path_format: The setting that determines the patterns.
        cure: What to do about two streams with the same key.

    Raises:
        TemplateError: Two streams share a key, or their patterns are too similar to compare so many streams.
    """
    streams = list(patterns)
    try:
        shared = OverlapSearch(_MOST_STEPS).first_shared(list(patterns.values()))
    except TooManyStepsError:
        raise TemplateError(
            f"s3_path_format {path_format!r} does not separate the keys of {len(streams):,} streams clearly "
            "enough to be checked. Put a '/' before ${STREAM_NAME}, or let the path begin with it.",
            setting="s3_path_format",
        ) from None
    if shared is not None:
        one, other, key = str(streams[shared[0]]), str(streams[shared[1]]), shared[2]
        raise TemplateError(
            f"Streams {one!r} and {other!r} could both own the key {key!r} under s3_path_format {path_format!r}: a "
            f"full refresh of one would delete objects of the other. {cure}",
            stream=one,
            key=key,
            setting="s3_path_format",
        )


@dataclass(slots=True, eq=False)
class _State:
    rest: KeyPattern
    may_end: bool
    moves: list[tuple[frozenset[str], _State]] | None = None


_Pair: TypeAlias = tuple[_State, _State]


class OverlapSearch:
    """Searches pairs of patterns for a key that both match.

    The search walks through the product of the two patterns' automata. A state is the rest of a pattern, which must
    still follow. All searches share their states, so that a rest is analysed only once even if many patterns have it.

    Args:
        limit: The most steps for all searches together; None for no limit. Every pair of patterns counts as a step,
            and so does every pair of states that is visited.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._left = limit
        self._states: dict[KeyPattern, _State] = {}

    def first_shared(self, patterns: Sequence[KeyPattern]) -> tuple[int, int, str] | None:
        """The positions of two patterns that share a key, and a shortest such key; None when no two do.

        Raises:
            TooManyStepsError: The limit was reached before an answer.
        """
        for one, other in _candidates(patterns):
            shared = self.shared_key(patterns[one], patterns[other])
            if shared is not None:
                return one, other, shared
        return None

    def shared_key(self, one: KeyPattern, other: KeyPattern) -> str | None:
        """A shortest text that both patterns match; None when there is none. Raises TooManyStepsError."""
        self._step()
        if _differ_early(one, other):
            return None
        start = (self._state(one), self._state(other))
        reached: dict[_Pair, tuple[_Pair | None, str]] = {start: (None, "")}
        queue = deque([start])
        while queue:
            pair = queue.popleft()
            self._step()
            if pair[0].may_end and pair[1].may_end:
                return _path(reached, pair)
            for char, following in self._shared_moves(*pair):
                if following not in reached:
                    reached[following] = (pair, char)
                    queue.append(following)
        return None

    def _step(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise TooManyStepsError

    def _state(self, rest: KeyPattern) -> _State:
        state = self._states.get(rest)
        if state is None:
            state = self._states[rest] = _State(rest, _may_end(rest))
        return state

    def _moves(self, state: _State) -> list[tuple[frozenset[str], _State]]:
        if state.moves is None:
            state.moves = [(chars, self._state(rest)) for chars, rest in _moves(state.rest)]
        return state.moves

    def _shared_moves(self, left: _State, right: _State) -> Iterator[tuple[str, _Pair]]:
        """Yields characters that can follow in both states, one for each kind, with the two states that come after."""
        rights = self._moves(right)
        for left_chars, left_state in self._moves(left):
            for right_chars, right_state in rights:
                if char := _shared_char(left_chars, right_chars):
                    yield char, (left_state, right_state)


def _path(reached: Mapping[_Pair, tuple[_Pair | None, str]], last: _Pair) -> str:
    """The text that leads from the start to a pair of states."""
    text = ""
    pair: _Pair | None = last
    while pair is not None:
        pair, char = reached[pair]
        text = char + text
    return text


@lru_cache(4096)
def _shared_char(one: frozenset[str], other: frozenset[str]) -> str:
    """The most readable character of both sets; empty when there is none."""
    return min(one & other, key=lambda char: (not char.isalnum(), char), default="")


def _moves(pattern: KeyPattern) -> Iterator[tuple[frozenset[str], KeyPattern]]:
    """Yields the sets of characters that the pattern can begin with, and for each set the pattern that must follow."""
    if not pattern:
        return
    head, rest = pattern[0], pattern[1:]
    if isinstance(head, Choice):
        for option in head.options:
            yield from _moves((*option, *rest))
        return
    if isinstance(head, str):
        yield _only(head[0]), ((head[1:], *rest) if len(head) > 1 else rest)
        return
    if head.least == 0:
        yield from _moves(rest)
    if head.most is None or head.most > 0:
        most = None if head.most is None else head.most - 1
        yield head.chars, (Run(head.chars, max(head.least - 1, 0), most), *rest)


@lru_cache(1024)
def _only(char: str) -> frozenset[str]:
    # There is one object per character, since comparing an object with itself is quick.
    return frozenset(char) if char.isascii() else frozenset((char, NON_ASCII))


def _may_end(pattern: KeyPattern) -> bool:
    """Whether the pattern matches the empty text."""
    return all(
        any(map(_may_end, piece.options)) if isinstance(piece, Choice) else isinstance(piece, Run) and piece.least == 0
        for piece in pattern
    )


# ---------------------------------------------------------------------- pairs that need no search


def _candidates(patterns: Sequence[KeyPattern]) -> Iterator[tuple[int, int]]:
    """Yields the pairs of patterns that may share a key, by position. All other pairs differ in a literal text."""
    if not patterns:
        return
    literals = sorted(zip(_distinguishing_literals(patterns), range(len(patterns)), strict=True))
    for index, (text, one) in enumerate(literals):
        for other_text, other in literals[index + 1 :]:
            if not other_text.startswith(text):
                break
            yield one, other


def _distinguishing_literals(patterns: Sequence[KeyPattern]) -> list[str]:
    """One literal text per pattern. Two patterns can share a key only if one of their texts begins with the other.

    It is the first literal in which the patterns differ, provided that it begins at the same position in every key that
    two of them share. That holds if everything before it has a fixed length, or if all these literals begin with the
    same character, which cannot occur in the variable text before. Otherwise it is the literal that each pattern begins
    with.
    """
    first = min(patterns, key=len)
    differing = (
        position for position in range(len(first)) if any(each[position] != first[position] for each in patterns)
    )
    position = next(differing, len(first))
    before = first[:position]
    texts = [_literal(each, position) for each in patterns]
    ends = {text[:1] for text in texts}
    if all(_length(piece) is not None for piece in before) or (len(ends) == 1 and not ends & {"", *_alphabet(before)}):
        return texts
    return [_literal(each, 0) for each in patterns]


def _literal(pattern: KeyPattern, position: int) -> str:
    piece = pattern[position] if position < len(pattern) else ""
    return piece if isinstance(piece, str) else ""


def _alphabet(pattern: KeyPattern) -> Iterator[str]:
    """Every character that can occur outside the literal text."""
    for piece in pattern:
        if isinstance(piece, Run):
            yield from piece.chars
        elif isinstance(piece, Choice):
            for option in piece.options:
                yield from _alphabet(option)
                yield from "".join(text for text in option if isinstance(text, str))


def _differ_early(one: KeyPattern, other: KeyPattern) -> bool:
    """Whether the patterns have the same beginning of fixed length and then different literal texts.

    This is the usual case, and it is decided quickly.
    """
    for left, right in zip(one, other, strict=False):
        if left == right and _length(left) is not None:
            continue
        if isinstance(left, str) and isinstance(right, str):
            return not (left.startswith(right) or right.startswith(left))
        break
    return False


def _length(piece: Piece) -> int | None:
    """The number of characters that the piece always has; None if it varies."""
    if isinstance(piece, str):
        return len(piece)
    if isinstance(piece, Run):
        return piece.least if piece.least == piece.most else None
    lengths = {_total_length(option) for option in piece.options}
    return lengths.pop() if len(lengths) == 1 else None


def _total_length(pattern: KeyPattern) -> int | None:
    lengths = [_length(piece) for piece in pattern]
    return None if None in lengths else sum(filter(None, lengths))
