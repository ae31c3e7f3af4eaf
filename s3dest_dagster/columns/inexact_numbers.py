"""Finds numbers in JSON text that a double may not hold exactly, from the bytes alone.

A double holds a number exactly if it has at most 15 significant digits and no negative exponent of three digits. So
only runs of 16 digits or dots, and exponents like e-123, need a second look. Some that are found are exact; no inexact
one is missed. Must not know: records.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from s3dest_dagster.columns.binary_columns import Bytes, Places, table_of
from s3dest_dagster.columns.json_texts import NO_ROWS, Rows

_LONG = 16
_WORD = 8
"""Bytes that are compared as one number: wherever a run of 16 begins, it covers at least one aligned word."""
_PIECE = 1 << 13
"""Words that are compared together, so that intermediate results stay in the processor's cache."""
_EACH_BYTE = 0x0101010101010101
_HIGH_BITS = np.uint64(0x80 * _EACH_BYTE)
_FROM_DOT = np.uint64(ord(".") * _EACH_BYTE)
_UP_TO_NINE = np.uint64((0x7F - ord("9")) * _EACH_BYTE)
_DASH, _PLUS = ord("-"), ord("+")

_IN_NUMBER, _DIGIT, _E = table_of(b"0123456789."), table_of(b"0123456789"), table_of(b"eE")
_HUGE_NUMBER = re.compile(rb"[:,\[\s]-?[0-9.]+[eE]\+?[0-9]{3}")
_BEFORE_NUMBER = table_of(b":,[ \t\n\r")


def rows_at_risk(block: bytes, raws: Sequence[Any]) -> Rows:
    """The rows that may hold a number that a double does not hold exactly.

    Long runs of digits in strings count only if they begin like a number.

    Args:
        block: The JSON texts joined by one byte each.
        raws: The JSON texts.
    """
    texts = np.frombuffer(block, np.uint8)
    return _rows_of(np.concatenate([_long_numbers(texts), _deep_exponents(texts)]), raws)


def rows_beyond_doubles(block: bytes, raws: Sequence[Any]) -> Rows:
    """The rows that may hold a number larger than every double: one with an exponent of three or more digits.

    Args as for `rows_at_risk`.
    """
    texts = np.frombuffer(block, np.uint8)
    exponents = np.flatnonzero(_E[texts])
    exponents = exponents[_DIGIT[_at(texts, exponents - 1)]]
    first = exponents + 1 + (_at(texts, exponents + 1) == _PLUS)
    rows = _rows_of(exponents[_DIGIT[_at(texts, first[:, None] + np.arange(3))].all(axis=1)], raws)
    return np.array([row for row in rows.tolist() if _HUGE_NUMBER.search(raws[row])], np.int64)


def _rows_of(places: Places, raws: Sequence[Any]) -> Rows:
    """The rows that have these places in a block."""
    if not len(places):
        return NO_ROWS
    ends = np.cumsum(np.fromiter(map(len, raws), np.int64, len(raws)) + 1)
    return np.unique(np.searchsorted(ends, places, side="right"))


def _long_numbers(texts: Bytes) -> Places:
    """The positions of 16 or more digits or dots behind a blank or punctuation, with or without a minus."""
    words = _digit_words(texts)
    # A run of 16 has 8 bytes beside the word, so at least 4 on one of its sides.
    words = words[_IN_NUMBER[_at(texts, words - 4)] | _IN_NUMBER[_at(texts, words + _WORD + 3)]]
    before = _run_lengths(texts, words, -1 - np.arange(_WORD))
    # If a whole word of the run comes before this one, the run is found by that word.
    words, before = words[before < _WORD], before[before < _WORD]
    starts = words - before
    starts = starts[before + _run_lengths(texts, words, np.arange(_LONG)) >= _LONG]
    first = _at(texts, starts - 1)
    return starts[_BEFORE_NUMBER[np.where(first == _DASH, _at(texts, starts - 2), first)]]


def _digit_words(texts: Bytes) -> Places:
    """The positions of aligned words of digits and dots; some other words are among them."""
    words = texts[: len(texts) // _WORD * _WORD].view(np.uint64)
    places = [np.zeros(0, np.int64)]
    for start in range(0, len(words), _PIECE):
        piece = words[start : start + _PIECE]
        # The sum sets the high bit of a byte above "9", the difference that of a byte below ".".
        places.append(_WORD * (np.flatnonzero(((piece + _UP_TO_NINE) | (piece - _FROM_DOT)) & _HIGH_BITS == 0) + start))
    return np.concatenate(places)


def _run_lengths(texts: Bytes, places: Places, offsets: Places) -> Places:
    """How many bytes at these offsets from each place are digits or dots, up to the first that is neither."""
    is_in_number = _IN_NUMBER[_at(texts, places[:, None] + offsets)]
    lengths: Places = np.logical_and.accumulate(is_in_number, axis=1).sum(axis=1)
    return lengths


def _deep_exponents(texts: Bytes) -> Places:
    """The positions of negative exponents of three or more digits."""
    dashes = np.flatnonzero(texts == _DASH)
    dashes = dashes[_E[_at(texts, dashes - 1)]]
    return dashes[_DIGIT[_at(texts, dashes[:, None] + np.arange(1, 4))].all(axis=1)]


def _at(texts: Bytes, places: Places) -> Bytes:
    """The bytes at these places. Beyond the texts it is the brace that they begin or end with."""
    return texts.take(places, mode="clip")
