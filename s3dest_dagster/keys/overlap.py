"""The shape of a text: a sequence of literal text, runs of characters and choices; as a regular expression, and
compared with another shape exactly. It must not know what the texts are for."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Run:
    """From `least` to `most` (None: any number) of these characters."""

    chars: frozenset[str]
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these shapes; `name` makes it a named group of the regular expression."""

    options: tuple[Shape, ...]
    name: str | None = None


Piece: TypeAlias = str | Run | Choice
Shape: TypeAlias = tuple[Piece, ...]


def numbers(least: int, most: int, width: int = 1) -> Shape:
    """The shape of the whole numbers from `least` to `most` (none below 0), with zeros before them up to a width."""
    lengths: dict[int, list[int]] = {}
    for number in range(least, most + 1):
        lengths.setdefault(max(width, len(str(number))), []).append(number)
    options = tuple(_between(f"{found[0]:0{size}d}", f"{found[-1]:0{size}d}") for size, found in lengths.items())
    return options[0] if len(options) == 1 else (Choice(options),)


def _between(first: str, last: str) -> Shape:
    """The shape of the numbers from one to another that are written with as many digits."""
    if not first:
        return ()
    low, high, rest = first[0], last[0], len(first) - 1
    if low == high:
        return (low, *_between(first[1:], last[1:]))
    zeros, nines = "0" * rest, "9" * rest
    options: list[Shape] = []
    if first[1:] != zeros:
        options.append((low, *_between(first[1:], nines)))
        low = chr(ord(low) + 1)
    full = high if last[1:] == nines else chr(ord(high) - 1)
    if low <= full:
        options.append((Run(frozenset(map(chr, range(ord(low), ord(full) + 1))), 1, 1), *_digits(rest)))
    if full != high:
        options.append((high, *_between(zeros, last[1:])))
    return options[0] if len(options) == 1 else (Choice(tuple(options)),)


def _digits(count: int) -> Shape:
    return (Run(frozenset("0123456789"), count, count),) if count else ()


def regex(shape: Shape) -> str:
    """The regular expression (for `fullmatch`) of exactly the texts of this shape."""
    return "".join(map(_regex, shape))


def _regex(piece: Piece) -> str:
    if isinstance(piece, str):
        return re.escape(piece)
    if isinstance(piece, Choice):
        opening = f"(?P<{piece.name}>" if piece.name else "(?:"
        return opening + "|".join(map(regex, piece.options)) + ")"
    chars = "".join(map(re.escape, sorted(piece.chars)))
    counts = (
        str(piece.least) if piece.least == piece.most else f"{piece.least},{'' if piece.most is None else piece.most}"
    )
    return f"[{chars}]{{{counts}}}"


class TooManyStepsError(Exception):
    """Shapes are too alike to be told apart in so many steps."""


@dataclass(slots=True)
class Steps:
    """How many steps are left for comparing shapes."""

    left: int

    def take(self) -> None:
        """Raises TooManyStepsError if none is left."""
        self.left -= 1
        if self.left < 0:
            raise TooManyStepsError


def common_text(one: Shape, other: Shape, steps: Steps | None = None) -> str | None:
    """A shortest text that has both shapes; None when there is none.

    A search through the product of the two automata, so the answer is exact, not an estimate. Each state of it, and
    the comparison itself, takes one of the `steps`, of which there is no end if none are given.
    """
    if steps is not None:
        steps.take()
    if _part_early(one, other):
        return None
    seen = {(one, other)}
    queue = deque([(one, other, "")])
    while queue:
        left, right, text = queue.popleft()
        if steps is not None:
            steps.take()
        if _may_end(left) and _may_end(right):
            return text
        for char, pair in _common_moves(left, right):
            if pair not in seen:
                seen.add(pair)
                queue.append((*pair, text + char))
    return None


def anchored(shapes: Sequence[Shape]) -> list[str]:
    """A text of each shape: two of the shapes have a text in common only if the text of one begins with the other's.

    That is the first literal in which the shapes differ, if it begins at the same place in whatever two of them have in
    common: all before it has a fixed length, or a character ends it that cannot stand in it. Else it is what each
    begins with.
    """
    first = min(shapes, key=len)
    differing = (place for place in range(len(first)) if any(each[place] != first[place] for each in shapes))
    same = next(differing, len(first))
    before = first[:same]
    texts = [_literal(each, same) for each in shapes]
    ends = {text[:1] for text in texts}
    if all(_length(piece) is not None for piece in before) or (len(ends) == 1 and not ends & {"", *_alphabet(before)}):
        return texts
    return [_literal(each, 0) for each in shapes]


def _literal(shape: Shape, place: int) -> str:
    piece = shape[place] if place < len(shape) else ""
    return piece if isinstance(piece, str) else ""


def _alphabet(shape: Shape) -> Iterator[str]:
    """Every character that can stand in what is not literal text."""
    for piece in shape:
        if isinstance(piece, Run):
            yield from piece.chars
        elif isinstance(piece, Choice):
            for option in piece.options:
                yield from _alphabet(option)
                yield from "".join(each for each in option if isinstance(each, str))


def _part_early(one: Shape, other: Shape) -> bool:
    """Whether different literal text follows the same beginning of fixed length: the usual case, decided quickly."""
    for left, right in zip(one, other, strict=False):
        if left == right and _length(left) is not None:
            continue
        if isinstance(left, str) and isinstance(right, str):
            return not (left.startswith(right) or right.startswith(left))
        break
    return False


def _length(piece: Piece) -> int | None:
    """How many characters the piece always has; None where that differs."""
    if isinstance(piece, str):
        return len(piece)
    if isinstance(piece, Run):
        return piece.least if piece.least == piece.most else None
    lengths = {_length_of(option) for option in piece.options}
    return lengths.pop() if len(lengths) == 1 else None


def _length_of(shape: Shape) -> int | None:
    lengths = [_length(piece) for piece in shape]
    return None if None in lengths else sum(filter(None, lengths))


def _common_moves(left: Shape, right: Shape) -> Iterator[tuple[str, tuple[Shape, Shape]]]:
    """For each character both can begin with (one stands for its kind): what is left of the two after it."""
    rights = list(_moves(right))
    for left_chars, left_rest in _moves(left):
        for right_chars, right_rest in rights:
            shared = left_chars & right_chars
            if shared:
                yield min(shared, key=lambda char: (not char.isalnum(), char)), (left_rest, right_rest)


def _moves(shape: Shape) -> Iterator[tuple[frozenset[str], Shape]]:
    """The characters that the shape can begin with, each kind with what must follow it."""
    if not shape:
        return
    head, rest = shape[0], shape[1:]
    if isinstance(head, Choice):
        for option in head.options:
            yield from _moves((*option, *rest))
        return
    if isinstance(head, str):
        yield frozenset(head[0]), ((head[1:], *rest) if len(head) > 1 else rest)
        return
    if head.least == 0:
        yield from _moves(rest)
    if head.most is None:
        yield head.chars, (Run(head.chars, max(head.least - 1, 0), None), *rest)
    elif head.most > 0:
        yield head.chars, (Run(head.chars, max(head.least - 1, 0), head.most - 1), *rest)


def _may_end(shape: Shape) -> bool:
    """Whether the empty text has this shape."""
    return all(
        any(map(_may_end, piece.options)) if isinstance(piece, Choice) else isinstance(piece, Run) and piece.least == 0
        for piece in shape
    )
