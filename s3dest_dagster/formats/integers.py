"""Columns of integers as bytes: decimal digits for lines of text, and Avro's longs. Must not know: what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FOUR_DIGITS = (
    (np.arange(10_000)[:, None] // [1000, 100, 10, 1] % 10 + ord("0")).astype(np.uint8).view(np.uint32).ravel()
)
_MILLIS_DIGITS = 13  # the digits of a time in milliseconds in the years 2002 to 2285


def decimal_texts(numbers: NDArray[np.int64]) -> pa.Array | NDArray[np.uint8]:
    """Integers as decimal digits: a byte matrix if all are times of the years 2002 to 2285, else a binary column."""
    if len(numbers) and numbers.min() >= 10 ** (_MILLIS_DIGITS - 1) and numbers.max() < 10**_MILLIS_DIGITS:
        return _digits(numbers)[:, -_MILLIS_DIGITS:]
    return pa.array(numbers, pa.int64()).cast(pa.string()).cast(pa.binary())


def _digits(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Integers from 0 to 10¹⁶ - 1 as 16 digits."""
    texts = np.empty((len(numbers), 4), np.uint32)
    for position in (3, 2, 1, 0):
        rest = numbers // 10_000
        texts[:, position] = _FOUR_DIGITS.take(numbers - rest * 10_000)
        numbers = rest
    return texts.view(np.uint8)


def varint(number: int) -> bytes:
    """A number as Avro's long: zigzag, seven bits per byte, the lowest first."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def varints(numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Numbers as Avro's longs: a left-aligned byte matrix, and the length of every row."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    widest = max(1, (int(zigzag.max(initial=0)).bit_length() + 6) // 7)
    matrix = np.empty((len(zigzag), widest), np.uint8)
    lengths = np.ones(len(zigzag), np.int32)
    for position in range(widest):
        rest = zigzag >> np.uint64(7 * position)
        has_more = rest > 0x7F
        lengths += has_more
        matrix[:, position] = (rest & np.uint64(0x7F)).astype(np.uint8) | (has_more.view(np.uint8) << 7)
    return matrix, lengths
