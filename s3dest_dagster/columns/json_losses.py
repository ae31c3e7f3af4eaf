"""Finds losses that decoders do not report: earlier values of repeated names, and digits that a double cannot hold.

It looks only at the bytes of the JSON texts.

*Names.* Looking at every name would cost more than decoding; counting names costs almost nothing. `DuplicateNameCheck`
compares the number of names in the text with the number of values that were read. A count is exact, or too high if a
string looks like the end of a name, but never too low. So if as many values were read as there are names, no name is
repeated. If the check fails, `rows_with_repeated_names` finds the rows.

*Numbers.* A double holds a number exactly if it has at most 15 significant digits and no negative exponent of three
digits. So only runs of 16 digits or dots, and exponents like e-123, need a second look. Some of the rows that
`rows_at_risk` finds are exact, but it misses no inexact row.

Must not know: kinds, plans, batches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3dest_dagster.columns.binary_columns import NO_ROWS, SEPARATOR, Bytes, Mask, Positions, Rows, table_of

_QUOTE, _BACKSLASH, _BLANK, _N = b'"\\ n'
_RARE_BLANKS = (b"\t", b"\r")
_NUMBERS_AT_ONCE = 1 << 15
"""How many numbers are compared together, so that intermediate results stay in the processor's first cache."""
_FEW = 16
"""How many objects are decoded and encoded again together, so that the result stays in the cache."""
_decode_lines = msgspec.json.Decoder().decode_lines
_encode_lines = msgspec.json.Encoder().encode_lines

_LONG = 16
"""The length, in digits and dots, from which a number needs a second look."""
_WORD = 8
"""How many bytes are compared as one number. A run of 16 covers at least one aligned word, wherever it begins."""
_WORDS_AT_ONCE = 1 << 13
"""How many words are compared together, so that intermediate results stay in the processor's cache."""
_EACH_BYTE = 0x0101010101010101
_HIGH_BITS = np.uint64(0x80 * _EACH_BYTE)
_FROM_DOT = np.uint64(ord(".") * _EACH_BYTE)
_UP_TO_NINE = np.uint64((0x7F - ord("9")) * _EACH_BYTE)
_DASH, _PLUS = ord("-"), ord("+")

_IN_NUMBER, _DIGIT, _E = table_of(b"0123456789."), table_of(b"0123456789"), table_of(b"eE")
_HUGE_NUMBER = re.compile(rb"[:,\[\s]-?[0-9.]+[eE]\+?[0-9]{3}")
_BEFORE_NUMBER = table_of(b":,[ \t\n\r")


class DuplicateNameCheck:
    """Counts the values that were read from some JSON texts, and compares them with the names in these texts.

    Nulls do not count, since nothing is lost if a null comes before another value of the same name.
    """

    def __init__(self) -> None:
        self._read = 0
        self._texts: list[bytes] = []

    def add_column(self, column: pa.Array) -> None:
        """Counts values that were read by type."""
        self._read += len(column) - column.null_count

    def add_texts(self, raws: Sequence[Any]) -> None:
        """Counts values that stayed JSON texts (empty if absent), and keeps them to count the names in them."""
        joined = SEPARATOR.join([b"", *raws, b""])
        characters = np.frombuffer(joined, np.uint8)
        first = characters[1:][characters[:-1] == SEPARATOR[0]]
        self._read += int(np.count_nonzero((first != SEPARATOR[0]) & (first != _N)))
        self._texts.append(joined)

    def passes(self, texts: bytes) -> bool:
        """True if no name in these texts is repeated with a value. False means that a name may be repeated."""
        within = b"".join(self._texts)
        return any(count(texts) == self._read + count(within) for count in (count_names, count_names_closely))


def count_names(texts: bytes) -> int:
    """The number of names in JSON texts whose value is not null, or a few more."""
    return count_pattern(texts, b'":') + _count_spaced(texts) - count_pattern(texts, b'":nu')


def count_names_closely(texts: bytes) -> int:
    """Like `count_names`, but recognises nulls after a blank and strings that hold JSON text, at twice the cost."""
    characters = np.frombuffer(texts + b"  ", np.uint8)
    ends = _positions(characters, b'":')
    is_in_string = (characters[ends - 1] == _BACKSLASH) & (characters[ends - 2] != _BACKSLASH)
    second, third = characters[ends + 2], characters[ends + 3]
    is_null = (second == _N) | ((second == _BLANK) & (third == _N))
    return len(ends) - int(np.count_nonzero(is_in_string | is_null)) + _count_spaced(texts)


def count_pattern(texts: bytes, pattern: bytes) -> int:
    """How often a pattern of 2 or 4 bytes occurs in texts. Comparing numbers is ten times as fast as a search."""
    number = int.from_bytes(pattern, "little")
    return sum(
        int(np.count_nonzero(numbers[piece : piece + _NUMBERS_AT_ONCE] == number))
        for numbers in _as_numbers(np.frombuffer(texts, np.uint8), len(pattern))
        for piece in range(0, len(numbers), _NUMBERS_AT_ONCE)
    )


def _count_spaced(texts: bytes) -> int:
    """The number of names with a blank before their colon, or a few more."""
    names = 0
    for blank in (b" ", *(blank for blank in _RARE_BLANKS if blank in texts)):
        if count_pattern(texts, blank + b":"):
            characters = np.frombuffer(texts, np.uint8)
            positions = _positions(characters, blank + b":")
            names += int(np.isin(characters[positions - 1], [_QUOTE, *b" \t\r"]).sum())
    return names


def _positions(characters: NDArray[np.uint8], pattern: bytes) -> NDArray[np.int64]:
    """The positions of a pattern of 2 or 4 bytes."""
    width, number = len(pattern), int.from_bytes(pattern, "little")
    alignments = enumerate(_as_numbers(characters, width))
    return np.concatenate([width * np.flatnonzero(numbers == number) + start for start, numbers in alignments])


def _as_numbers(characters: NDArray[np.uint8], width: int) -> Iterator[NDArray[Any]]:
    """Yields the bytes as numbers of this width, for every alignment."""
    for start in range(width):
        yield characters[start : len(characters) - (len(characters) - start) % width].view(f"<u{width}")


def has_repeated_name(text: bytes) -> bool:
    """Whether an object in a JSON text has a repeated name, at any depth."""
    is_repeated = False

    def check(pairs: list[tuple[str, Any]]) -> None:
        nonlocal is_repeated
        is_repeated = is_repeated or len({name for name, _ in pairs}) < len(pairs)

    # Numbers stay texts, since Python refuses integers of more than 4,300 digits.
    json.loads(text, object_pairs_hook=check, parse_int=str, parse_float=str)
    return is_repeated


def rows_with_repeated_names(raws: Sequence[Any]) -> set[int]:
    """The rows of the objects that have a repeated name at any depth. No object has a line break.

    A decoder keeps one value per name. If an object has as many names before decoding as after it, no name is repeated.
    So the names of all objects are counted together, and only suspicious objects are searched.
    """
    return {row for row in _suspects(raws) if has_repeated_name(bytes(raws[row]))}


def _suspects(raws: Sequence[Any]) -> Iterable[int]:
    """The rows of objects whose number of names changes by decoding, or whose names cannot be counted."""
    if not raws:
        return ()
    lines = b"".join([part for raw in raws for part in (raw, b"\n")])
    try:
        kept = b"".join(
            _encode_lines(_decode_lines(b"\n".join(raws[start : start + _FEW]))) for start in range(0, len(raws), _FEW)
        )
    except (msgspec.DecodeError, RecursionError):
        return range(len(raws))
    written, kept_bytes = np.frombuffer(lines, np.uint8), np.frombuffer(kept, np.uint8)
    differs = _by_line(_name_ends(written), written) != _by_line(_name_ends(kept_bytes), kept_bytes)
    return np.flatnonzero(differs | (_by_line(_hiding_positions(written), written) > 0)).tolist()


def _name_ends(lines: Bytes) -> NDArray[np.bool_]:
    """True at the positions where a name ends, or a string that looks like one."""
    ends: NDArray[np.bool_] = (lines[:-1] == ord('"')) & (lines[1:] == ord(":"))
    return ends


def _hiding_positions(lines: Bytes) -> NDArray[np.bool_]:
    """True at the positions where the end of a name may be hidden: at a blank before a colon, and at an escape, which
    may stand for the quote or the colon."""
    before, after = lines[:-1], lines[1:]
    is_blank = (before == ord(" ")) | (before == ord("\t")) | (before == ord("\r"))
    hiding: NDArray[np.bool_] = (is_blank & (after == ord(":"))) | ((before == ord("\\")) & (after == ord("u")))
    return hiding


def _by_line(found: NDArray[np.bool_], lines: Bytes) -> NDArray[np.int64]:
    """The number of true positions in every line. The last line also ends with a line break."""
    starts = np.concatenate([[0], np.flatnonzero(lines[:-1] == ord("\n")) + 1])
    return np.add.reduceat(found, starts, dtype=np.int64)


def rows_at_risk(block: bytes, raws: Sequence[Any]) -> Rows:
    """The rows that may hold a number that a double does not hold exactly.

    Long runs of digits in strings count only if they begin like a number.

    Args:
        block: The JSON texts, joined by a separator of one byte.
        raws: The JSON texts.
    """
    texts = np.frombuffer(block, np.uint8)
    return _rows_of(np.concatenate([_long_numbers(texts), _deep_exponents(texts)]), raws)


def rows_beyond_doubles(block: bytes, raws: Sequence[Any]) -> Rows:
    """The rows that may hold a number larger than every double: one with an exponent of three or more digits.

    The arguments are those of `rows_at_risk`.
    """
    texts = np.frombuffer(block, np.uint8)
    exponents = np.flatnonzero(_E[texts])
    exponents = exponents[_DIGIT[_at(texts, exponents - 1)]]
    first = exponents + 1 + (_at(texts, exponents + 1) == _PLUS)
    rows = _rows_of(exponents[_DIGIT[_at(texts, first[:, None] + np.arange(3))].all(axis=1)], raws)
    return np.array([row for row in rows.tolist() if _HUGE_NUMBER.search(raws[row])], np.int64)


def _rows_of(positions: Positions, raws: Sequence[Any]) -> Rows:
    """The rows that contain these positions of a block."""
    if not len(positions):
        return NO_ROWS
    ends = np.cumsum(np.fromiter(map(len, raws), np.int64, len(raws)) + 1)
    return np.unique(np.searchsorted(ends, positions, side="right"))


def _long_numbers(texts: Bytes) -> Positions:
    """The positions of 16 or more digits or dots that follow a blank or punctuation, with or without a minus."""
    words = _digit_words(texts)
    # A run of 16 has 8 more bytes than the word, so at least 4 on one of its sides.
    words = words[_IN_NUMBER[_at(texts, words - 4)] | _IN_NUMBER[_at(texts, words + _WORD + 3)]]
    before = _run_lengths(texts, words, -1 - np.arange(_WORD))
    # If another whole word of the run comes before this one, that word finds the run.
    words, before = words[before < _WORD], before[before < _WORD]
    starts = words - before
    starts = starts[before + _run_lengths(texts, words, np.arange(_LONG)) >= _LONG]
    numbers: Positions = starts[_begins_like_number(texts, starts)]
    return numbers


def _digit_words(texts: Bytes) -> Positions:
    """The positions of aligned words of digits and dots, and of some other words."""
    words = texts[: len(texts) // _WORD * _WORD].view(np.uint64)
    positions = [np.zeros(0, np.int64)]
    for start in range(0, len(words), _WORDS_AT_ONCE):
        piece = words[start : start + _WORDS_AT_ONCE]
        # The sum sets the high bit of every byte above "9", and the difference that of every byte below ".".
        positions.append(
            _WORD * (np.flatnonzero(((piece + _UP_TO_NINE) | (piece - _FROM_DOT)) & _HIGH_BITS == 0) + start)
        )
    return np.concatenate(positions)


def _run_lengths(texts: Bytes, positions: Positions, offsets: Positions) -> Positions:
    """The number of digits or dots at these offsets from every position, up to the first byte that is neither."""
    is_in_number = _IN_NUMBER[_at(texts, positions[:, None] + offsets)]
    lengths: Positions = np.logical_and.accumulate(is_in_number, axis=1).sum(axis=1)
    return lengths


def _deep_exponents(texts: Bytes) -> Positions:
    """The positions of negative exponents of three or more digits in what begins like a number.

    Ids of letters and digits in groups have such endings, so the beginning is looked at. It must not be too far away.
    """
    dashes = np.flatnonzero(texts == _DASH)
    dashes = dashes[_E[_at(texts, dashes - 1)]]
    dashes = dashes[_DIGIT[_at(texts, dashes[:, None] + np.arange(1, 4))].all(axis=1)]
    before = _run_lengths(texts, dashes - 1, -1 - np.arange(_LONG))
    numbers: Positions = dashes[(before == _LONG) | _begins_like_number(texts, dashes - 1 - before)]
    return numbers


def _begins_like_number(texts: Bytes, starts: Positions) -> Mask:
    """Whether a blank or punctuation comes before these digits, or before the minus in front of them."""
    first = _at(texts, starts - 1)
    is_number: Mask = _BEFORE_NUMBER[np.where(first == _DASH, _at(texts, starts - 2), first)]
    return is_number


def _at(texts: Bytes, positions: Positions) -> Bytes:
    """The bytes at these positions. A position beyond the texts gives the brace that they begin or end with."""
    return texts.take(positions, mode="clip")
