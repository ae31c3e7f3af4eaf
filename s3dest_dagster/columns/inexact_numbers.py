"""Whether JSON text may hold numbers that a double does not give back, told from the bytes alone.

A number of at most 15 significant digits with an exponent of at most two digits below zero is given back by its double.
So only runs of 16 digits or dots, and exponents like e-123, are worth a second look. Never wrong in the safe direction.
It must not know records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from s3dest_dagster.columns.characters import Bytes, Places, table_of
from s3dest_dagster.columns.json_texts import NO_ROWS, Rows

_LONG = 16
_WORD = 8
"""Bytes that are looked at as one number: wherever a run of 16 begins, it covers one aligned word or two."""
_PIECE = 1 << 13
"""Words that are looked at together: what comes out of it stays in the processor's cache."""
_EACH_BYTE = 0x0101010101010101
_HIGH_BITS = np.uint64(0x80 * _EACH_BYTE)
_FROM_DOT = np.uint64(ord(".") * _EACH_BYTE)
_UP_TO_NINE = np.uint64((0x7F - ord("9")) * _EACH_BYTE)
_DASH = ord("-")

_IN_NUMBER, _DIGIT, _E = table_of(b"0123456789."), table_of(b"0123456789"), table_of(b"eE")
_BEFORE_NUMBER = table_of(b":,[ \t\n\r")


def rows_at_risk(block: bytes, raws: Sequence[Any]) -> Rows:
    """The rows of `raws` (joined by one byte each in `block`) that may hold a number that its double does not give
    back. Long runs of digits inside strings do not count where they begin like no number."""
    texts = np.frombuffer(block, np.uint8)
    places = np.concatenate([_long_numbers(texts), _deep_exponents(texts)])
    if not len(places):
        return NO_ROWS
    ends = np.cumsum(np.fromiter(map(len, raws), np.int64, len(raws)) + 1)
    return np.unique(np.searchsorted(ends, places, side="right"))


def _long_numbers(texts: Bytes) -> Places:
    """Where 16 or more digits or dots begin behind a blank or punctuation, with or without a minus."""
    words = _digit_words(texts)
    # 8 more of them stand beside the word, so 4 or more on one of its sides
    words = words[_IN_NUMBER[_at(texts, words - 4)] | _IN_NUMBER[_at(texts, words + _WORD + 3)]]
    before = _run_lengths(texts, words, -1 - np.arange(_WORD))
    # where a whole word of them stands before, that word is looked at
    words, before = words[before < _WORD], before[before < _WORD]
    starts = words - before
    starts = starts[before + _run_lengths(texts, words, np.arange(_LONG)) >= _LONG]
    first = _at(texts, starts - 1)
    return starts[_BEFORE_NUMBER[np.where(first == _DASH, _at(texts, starts - 2), first)]]


def _digit_words(texts: Bytes) -> Places:
    """Where the aligned words begin that are digits and dots; some others are among them."""
    words = texts[: len(texts) // _WORD * _WORD].view(np.uint64)
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(words), _PIECE):
        piece = words[start : start + _PIECE]
        # the high bit is set of a byte beyond "9" by the sum, of one before "." by the difference
        found.append(_WORD * (np.flatnonzero(((piece + _UP_TO_NINE) | (piece - _FROM_DOT)) & _HIGH_BITS == 0) + start))
    return np.concatenate(found)


def _run_lengths(texts: Bytes, places: Places, offsets: Places) -> Places:
    """How many of the bytes at these offsets from each place are digits or dots, one after the other."""
    is_in_number = _IN_NUMBER[_at(texts, places[:, None] + offsets)]
    lengths: Places = np.logical_and.accumulate(is_in_number, axis=1).sum(axis=1)
    return lengths


def _deep_exponents(texts: Bytes) -> Places:
    """Where exponents of three and more digits below zero stand."""
    dashes = np.flatnonzero(texts == _DASH)
    dashes = dashes[_E[_at(texts, dashes - 1)]]
    return dashes[_DIGIT[_at(texts, dashes[:, None] + np.arange(1, 4))].all(axis=1)]


def _at(texts: Bytes, places: Places) -> Bytes:
    """The bytes in these places; beyond the texts, the brace that they begin or end with."""
    return texts.take(places, mode="clip")
