"""One file of records as batches, whatever its format: JSON Lines, CSV, Parquet or Avro.

It knows file formats; it must not know where files lie. Nothing is guessed: CSV has only texts, which a stream's JSON
schema gives their types, and JSON Lines keep the text that stands there.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from io import TextIOWrapper
from typing import Any, BinaryIO

import fastavro
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from s3dest_dagster.batch import ArrowBatch, BadRecord, Batch, JsonBatch
from s3dest_dagster.errors import SourceError
from s3dest_dagster.printable import amount
from s3dest_dagster.sources.airbyte.protocol import are_plain_objects, is_utf8
from s3dest_dagster.sources.arrow import arrow_batches
from s3dest_dagster.sources.lines import read_blocks, why_no_json
from s3dest_dagster.sources.python import batches

Open = Callable[[], BinaryIO]
"""Opens a file at its beginning."""
EmittedAt = Callable[[], int]
"""Gives milliseconds since 1970."""

_ROWS_AT_ONCE = 10_000
_lines = msgspec.json.Decoder(msgspec.Raw)


def read_jsonl(open_file: Open, emitted_at: EmittedAt) -> Iterator[JsonBatch | BadRecord]:
    """A JSON object on each line, as it is written; a line that is none is a bad record. Blank lines are left out."""
    lines_before = 0
    with open_file() as file:
        for block in read_blocks(file):
            raws, bad = _objects(block, lines_before)
            lines_before += block.count(b"\n")
            if raws:
                yield JsonBatch(raws, np.full(len(raws), emitted_at(), np.int64), sum(map(len, raws)))
            yield from bad


def _objects(block: bytes, lines_before: int) -> tuple[Sequence[bytes], list[BadRecord]]:
    """The objects of a block of lines; line by line only where something in it is wrong."""
    try:
        raws = _lines.decode_lines(block)
        if is_utf8(block) and are_plain_objects(raws):
            return raws, []
    except (msgspec.DecodeError, RecursionError):
        pass
    good: list[bytes] = []
    bad: list[BadRecord] = []
    for number, line in enumerate(map(bytes.strip, block.split(b"\n")), lines_before + 1):
        if not line:
            continue
        if reason := _why_no_object(line):
            bad.append(BadRecord(None, line, reason, number))
        else:
            good.append(line if b"\r" not in line else msgspec.json.format(line, indent=-1))
    return good, bad


def _why_no_object(line: bytes) -> str | None:
    if not is_utf8(line):
        return "it is not valid UTF-8"
    try:
        _lines.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return why_no_json(line, error)
    return None if line.startswith(b"{") else "it is not a JSON object"


def read_csv(
    open_file: Open, emitted_at: EmittedAt, *, delimiter: str = ",", encoding: str = "utf8"
) -> Iterator[ArrowBatch | BadRecord]:
    """Rows under a header line, every cell a text; an empty cell is null, and an empty text where it is quoted.

    A row with too many or too few cells is a bad record.
    """
    names = _header(open_file, delimiter, encoding)
    if not names:
        return
    bad: list[BadRecord] = []
    lines = _CsvLines(open_file, delimiter, encoding)

    def refuse(row: Any) -> str:
        reason = f"it has {amount(row.actual_columns, 'cell')}, and the header has {row.expected_columns}"
        bad.append(BadRecord(None, (row.text or "").encode(), reason, lines.of_row(row.number)))
        return "skip"

    with open_file() as file:
        reader = pyarrow.csv.open_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(use_threads=False, encoding=encoding, block_size=1 << 20),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        for batch in reader:
            yield from arrow_batches(batch, emitted_at=emitted_at)
            yield from bad
            bad.clear()
    yield from bad


class _CsvLines:
    """On which line a row begins: its number alone does not tell, since cells may hold line breaks. The file is read
    once more for it, as far as it must be."""

    def __init__(self, open_file: Open, delimiter: str, encoding: str) -> None:
        self._open_file = open_file
        self._delimiter = delimiter
        self._encoding = encoding
        self._reader: Any = None
        self._row = 0
        self._line = 0

    def of_row(self, number: int | None) -> int | None:
        """The line of the row of this number, counted from 1 with the header; of rising numbers."""
        if number is None:
            return None
        if self._reader is None:
            text = TextIOWrapper(self._open_file(), encoding=self._encoding, newline="")
            self._reader = csv.reader(text, delimiter=self._delimiter)
        while self._row < number:
            before = self._reader.line_num
            if (cells := next(self._reader, None)) is None:
                return None
            if cells:
                self._row, self._line = self._row + 1, before + 1
        return self._line


def _header(open_file: Open, delimiter: str, encoding: str) -> list[str]:
    """The names of the columns; none for an empty file. Raises SourceError for a name that stands there twice."""
    with open_file() as file:
        text = TextIOWrapper(file, encoding="utf-8-sig" if encoding == "utf8" else encoding, newline="")
        names = next(csv.reader(text, delimiter=delimiter), [])
        text.detach()
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SourceError(f"The header names the column {sorted(twice)[0]!r} more than once.")
    return names


def read_parquet(open_file: Open, emitted_at: EmittedAt) -> Iterator[ArrowBatch]:
    """The rows, a part of a row group at a time."""
    with open_file() as file:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
            yield from arrow_batches(batch, emitted_at=emitted_at)


def read_avro(open_file: Open, emitted_at: EmittedAt) -> Iterator[Batch]:
    """The records of an object container file, logical types as Python values."""
    with open_file() as file:
        yield from batches(fastavro.reader(file), emitted_at=emitted_at)
