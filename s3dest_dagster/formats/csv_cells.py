"""The cells of CSV: made for a whole batch from the source's JSON texts, in any dialect.

A JSON number, a boolean, or a text without escapes already is its cell. Only escapes, nested values, nulls, and what
the dialect quotes otherwise need work. Must not know: columns, envelopes, types.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from s3dest_dagster.batch import compact_json
from s3dest_dagster.columns.binary_columns import Bytes, Mask, Positions, binary_array, bounds, content, table_of
from s3dest_dagster.settings.formats import CsvFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BACKSLASH, _COMMA, _QUOTE = ord("\\"), ord(","), ord('"')
_NULL = b"null"
_NUL = "\0"
_LETTERS = table_of(bytes(code for code in range(256) if code >= 0x80 or chr(code).isalpha()))
_WORDS = (b"true", b"false", _NULL)
"""Texts that would be another value without quotes."""
_as_texts = msgspec.json.Decoder(list[str]).decode


@dataclass(frozen=True, slots=True)
class Dialect:
    """What `CsvFormat` says about cells, as bytes."""

    delimiter: bytes = b","
    null: bytes = b""
    """The cell of a null or missing value."""
    quotes_numbers: bool = False
    quotes_booleans: bool = False
    quotes_plain_texts: bool = True
    """Whether a text is quoted that could not be mistaken for anything else."""

    @classmethod
    def of(cls, settings: CsvFormat) -> Dialect:
        return cls(
            delimiter=settings.delimiter.encode(),
            null=settings.null_text.encode(),
            quotes_numbers=settings.quoting == "all",
            quotes_booleans=settings.quoting in ("all", "nonnumeric"),
            quotes_plain_texts=settings.quoting != "minimal",
        )

    def row(self, cells: Sequence[bytes]) -> bytes:
        """Cells as one line."""
        return self.delimiter.join(cells) + b"\r\n"


DEFAULT_DIALECT = Dialect()


def quoted(text: bytes) -> bytes:
    """Any text as a cell."""
    return b'"' + text.replace(b'"', b'""') + b'"'


def cell_rows(texts: Bytes, breaks: Positions, columns: int, dialect: Dialect = DEFAULT_DIALECT) -> pa.Array:
    """The cells of every record as one binary value, with a delimiter before every cell.

    A number, a boolean and a string without escapes are their own cell. Null and an absent value become the dialect's
    null. A string with escapes becomes its characters, and a nested value becomes compact JSON; both are quoted.

    Args:
        texts: The JSON texts, record by record. There is a line break before every text, and one more at the end.
        breaks: The positions of these line breaks.
        columns: The number of texts per record.
        dialect: How cells are separated and quoted.
    """
    first = texts[breaks[:-1] + 1]
    nested = (first == ord("{")) | (first == ord("["))
    cells, breaks = _without_nulls(texts, breaks, np.flatnonzero(first == _NULL[0]))
    escaped = _with_byte(cells, breaks, _BACKSLASH) & ~nested
    cells[breaks] = ord(dialect.delimiter)
    if dialect != DEFAULT_DIALECT:
        cells, breaks = _in_dialect(cells, breaks, first, escaped, dialect)
    positions = np.flatnonzero(nested | escaped)
    if not len(positions):
        return binary_array(breaks[::columns], pa.py_buffer(cells))
    starts, ends = breaks[positions] + 1, breaks[positions + 1]
    whole = cells.tobytes()
    values = [whole[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    _replace_each(values, np.flatnonzero(nested[positions]), _nested_cells)
    _replace_each(values, np.flatnonzero(escaped[positions]), _escaped_cells)
    growth = np.zeros(len(breaks), np.int64)
    growth[positions + 1] = np.fromiter(map(len, values), np.int64) - (ends - starts)
    row_ends = (breaks + np.cumsum(growth))[::columns]
    return binary_array(row_ends, pa.py_buffer(_with_replaced(whole, starts, ends, values)))


def without_first_delimiter(rows: pa.Array) -> pa.Array:
    """The rows of `cell_rows` without the delimiter before their first cell."""
    ends = bounds(rows).astype(np.int64)
    ends -= ends[0]
    characters = np.frombuffer(content(rows), np.uint8)
    return binary_array(ends - np.arange(len(ends)), pa.py_buffer(np.delete(characters, ends[:-1])))


def _without_nulls(texts: Bytes, breaks: Positions, nulls: Positions) -> tuple[Bytes, Positions]:
    """A copy of the texts in which the `nulls` are empty, and the positions of its line breaks."""
    if not len(nulls):
        return texts.copy(), breaks
    keep = np.ones(len(texts), np.bool_)
    starts = breaks[nulls]
    for position in range(len(_NULL)):
        keep[starts + position + 1] = False
    removed = np.zeros(len(breaks), np.int64)
    removed[nulls + 1] = len(_NULL)
    return texts[keep], breaks - np.cumsum(removed)


def _with_byte(texts: Bytes, breaks: Positions, byte: int) -> Mask:
    """True for the texts that have this byte."""
    found = np.zeros(len(breaks) - 1, np.bool_)
    found[np.searchsorted(breaks, np.flatnonzero(texts == byte)) - 1] = True
    return found


def _replace_each(values: list[bytes], positions: Positions, replace: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replaces the values at these positions with one call."""
    if not len(positions):
        return
    numbers = positions.tolist()
    for number, value in zip(numbers, replace([values[number] for number in numbers]), strict=True):
        values[number] = value


def _nested_cells(values: Sequence[bytes]) -> list[bytes]:
    return _allquoted(compact_lines(values), b"\n")


def _escaped_cells(values: Sequence[bytes]) -> list[bytes]:
    texts = _as_texts(b"[%b]" % b",".join(values))
    joined = _NUL.join(texts)
    if joined.count(_NUL) >= len(texts):
        return [quoted(text.encode()) for text in texts]
    return _allquoted(joined.encode(), _NUL.encode())


def _allquoted(texts: bytes, separator: bytes) -> list[bytes]:
    """The texts as cells. The separator is a byte that no text contains."""
    return quoted(texts).replace(separator, b'"%b"' % separator).split(separator)


def _with_replaced(text: bytes, starts: Positions, ends: Positions, values: Sequence[bytes]) -> bytes:
    """The text with other bytes in these ranges, which are in order and do not overlap."""
    kept = zip([0, *ends.tolist()], [*starts.tolist(), len(text)], strict=True)
    parts = [b""] * (2 * len(values) + 1)
    parts[0::2] = [text[start:end] for start, end in kept]
    parts[1::2] = values
    return b"".join(parts)


# ---------------------------------------------------------------------- other dialects


def _in_dialect(
    cells: Bytes, breaks: Positions, first: Bytes, escaped: Mask, dialect: Dialect
) -> tuple[Bytes, Positions]:
    """The cells of plain values in the dialect, and the positions of their delimiters.

    Args:
        cells: The cells of the default dialect with the delimiters of this one. Nulls are empty.
        breaks: The positions of the delimiters.
        first: The first character of every JSON text.
        escaped: The texts with escapes, which are done later.
        dialect: The dialect.
    """
    empty = np.diff(breaks) == 1
    if not dialect.quotes_plain_texts:
        unambiguous = (first == _QUOTE) & ~escaped & _needs_no_quotes(cells, breaks, dialect)
        cells, breaks = _without_quotes(cells, breaks, unambiguous)
    is_boolean = (first == ord("t")) | (first == ord("f"))
    if dialect.quotes_numbers:
        is_number = ~empty & ~is_boolean & (first != _QUOTE) & (first != ord("{")) & (first != ord("["))
        cells, breaks = _surrounded(cells, breaks, is_number, b'"', b'"')
    if dialect.quotes_booleans:
        cells, breaks = _surrounded(cells, breaks, is_boolean, b'"', b'"')
    return _surrounded(cells, breaks, empty, dialect.null, b"") if dialect.null else (cells, breaks)


def _needs_no_quotes(cells: Bytes, breaks: Positions, dialect: Dialect) -> Mask:
    """True for the quoted texts that begin with a letter and could be nothing else without quotes."""
    starts, ends = breaks[:-1] + 2, breaks[1:] - 1  # within the quotes; other cells give positions without meaning
    inner = cells.copy()
    inner[breaks] = 0
    safe: Mask = _LETTERS[cells[np.minimum(starts, len(cells) - 1)]] & (cells[ends - 1] != ord(" "))
    safe &= ~_with_byte(inner, breaks, ord(dialect.delimiter))
    # At the beginning of a file, readers would drop a byte order mark.
    safe &= ~_begins_with(cells, starts, BOM_UTF8)
    for word in {*_WORDS, dialect.null} - {b""}:
        safe &= ~(_begins_with(cells, starts, word) & (ends - starts == len(word)))
    return safe


def _begins_with(cells: Bytes, starts: Positions, text: bytes) -> Mask:
    """True where this text is."""
    same = np.ones(len(starts), np.bool_)
    for position, byte in enumerate(text):
        same &= cells[np.minimum(starts + position, len(cells) - 1)] == byte
    return same


def _without_quotes(cells: Bytes, breaks: Positions, which: Mask) -> tuple[Bytes, Positions]:
    """The cells with the first and the last character of some of them removed."""
    keep = np.ones(len(cells), np.bool_)
    keep[breaks[:-1][which] + 1] = False
    keep[breaks[1:][which] - 1] = False
    return cells[keep], _moved(breaks, which, -2)


def _surrounded(cells: Bytes, breaks: Positions, which: Mask, before: bytes, after: bytes) -> tuple[Bytes, Positions]:
    """The cells with bytes added before and after some of them."""
    positions = [np.repeat(breaks[:-1][which] + 1, len(before)), np.repeat(breaks[1:][which], len(after))]
    added = np.frombuffer(before * int(which.sum()) + after * int(which.sum()), np.uint8)
    return np.insert(cells, np.concatenate(positions), added), _moved(breaks, which, len(before) + len(after))


def _moved(breaks: Positions, which: Mask, growth: int) -> Positions:
    """The positions of the delimiters after some cells have grown by so many bytes."""
    grown = np.zeros(len(breaks), np.int64)
    grown[1:][which] = growth
    return breaks + np.cumsum(grown)


# ---------------------------------------------------------------------- JSON without blanks

_BEFORE_BLANK, _AFTER_BLANK = table_of(b"{[,:"), table_of(b",:]}")


def compact_lines(raws: Sequence[bytes]) -> bytes:
    """The JSON texts, which have no line breaks, in compact form and joined by line breaks."""
    lines = b"\n".join(raws)
    suspects = _lines_with_suspicious_blanks(lines)
    if not len(suspects):
        return lines
    texts = list(raws)
    for number in suspects.tolist():
        texts[number] = compact_json(texts[number])
    return b"\n".join(texts)


def _lines_with_suspicious_blanks(lines: bytes) -> NDArray[np.int64]:
    """The numbers of the lines that may have a blank outside of strings.

    Between two JSON tokens there is always punctuation, so a run of blanks begins after punctuation or ends before it.
    Blanks in strings can also look like that, which only costs time.
    """
    characters = np.frombuffer(lines, np.uint8)
    blank = characters == ord(" ")
    for other in (b"\t", b"\r"):
        if other in lines:
            blank |= characters == other[0]
    positions = np.flatnonzero(blank)
    suspicious = _BEFORE_BLANK[characters[positions - 1]] | _AFTER_BLANK[characters[positions + 1]]
    if not suspicious.any():
        return np.zeros(0, np.int64)
    line_ends = np.flatnonzero(characters == ord("\n"))
    return np.unique(np.searchsorted(line_ends, positions[suspicious]))
