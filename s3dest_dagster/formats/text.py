"""Shared code of the formats of lines: an object that is compressed as one stream, and lines joined from given bytes.

Must not know: any single format of lines.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch, Tally
from s3dest_dagster.columns.arrow_json_texts import Refused, object_texts
from s3dest_dagster.columns.arrow_types import refuse_invalid_utf8, refuse_repeated_names
from s3dest_dagster.columns.binary_columns import bounds, content, pieces
from s3dest_dagster.columns.conversion_log import Entry, tally_of
from s3dest_dagster.columns.diagnostics import Diagnostic, unknown_type_diagnostics
from s3dest_dagster.columns.json_names import JsonNames, SourceNames
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.partition_values import in_order
from s3dest_dagster.columns.schemas import envelope_of
from s3dest_dagster.formats.compression import TEXT_CODECS, decompress_text
from s3dest_dagster.formats.protocol import (
    Background,
    Content,
    Contents,
    Encoded,
    EncodedGroups,
    Encoder,
    Format,
    Payload,
    Sink,
    Span,
    run_now,
)
from s3dest_dagster.formats.reading import Line, table_of_lines
from s3dest_dagster.settings.formats import Flattening, TextFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

_LINE_BREAK = ord("\n")
_TEXT_OVERHEAD = 300
"""The memory of a piece besides its text."""
TextSettings = TypeVar("TextSettings", bound=TextFormat)


class Text(Format[TextSettings]):
    """A format of lines. It allows every field name, and keeps every value as the source wrote it."""

    @abstractmethod
    def parse(self, text: bytes, record: Record) -> Iterator[Line]:
        """Yields the records of an object's text."""

    def read(self, record: Record, content: Content, written: Record) -> pa.Table:
        lines = self.parse(decompress_text(content), record)
        if names := SourceNames(written, root=not self.has_header):
            lines = ((record_id, emitted_at, names.apply(raw)) for record_id, emitted_at, raw in lines)
        return table_of_lines(record, lines)

    @property
    def has_header(self) -> bool:
        """Whether the root's fields are columns, whose names are not in the records' texts."""
        return False

    @property
    def is_flat(self) -> bool:
        """Whether the fields of a record become separate columns."""
        return self.settings.flattening is Flattening.ROOT

    def renamed(self, record: Record) -> dict[str, str]:
        return {each.source: each.name for each in record.fields if each.is_titled and each.source != each.name}

    def diagnostics(self, record: Record, json_schema: Mapping[str, Any]) -> Iterator[Diagnostic]:
        return unknown_type_diagnostics(json_schema)


class TextEncoder(Encoder, Generic[TextSettings]):
    """Encodes records as lines. `header` begins every object."""

    holds_lock = True
    header = b""

    def __init__(self, settings: TextSettings, contents: Contents) -> None:
        super().__init__(settings, contents)
        self._settings = settings
        self._is_flat = settings.flattening is Flattening.ROOT
        self._has_envelope = bool(envelope_of(contents.record).names)
        self._json_names = JsonNames(contents.record, root=not self.has_header, reports=contents.reports_new_fields)

    @property
    def has_header(self) -> bool:
        """As in `Text`."""
        return False

    def continues(self, other: Encoder) -> bool:
        return isinstance(other, type(self)) and other.header == self.header

    def encodes_as(self, other: Encoder) -> bool:
        return isinstance(other, type(self)) and self.continues(other) and other._json_names == self._json_names

    @abstractmethod
    def lines(self, raws: Sequence[bytes], batch: Batch, entropy: bytes) -> tuple[bytes | pa.Array, Tally]:
        """The lines of a batch's records, which are given as JSON texts. There is at least one record.

        They are one text if no line has a line break within it, and otherwise a binary column.
        """

    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        if not batch.num_rows:
            return Encoded(0, b"", 0)
        lines, tally = self._lines(batch, entropy)
        text = lines if isinstance(lines, bytes) else bytes(content(lines))
        return Encoded(batch.num_rows, text, len(text), tally)

    def arrow_lines(self, batch: ArrowBatch, entropy: bytes) -> pa.Array | None:
        """The lines of at least one record as a binary column, made without a text for each record.

        None if that is not possible: if its values need what `lines` does, or could be counted in a `Tally`.

        Raises:
            RecordError: As `json_texts` raises it.
        """
        return None

    def _lines(self, batch: Batch, entropy: bytes) -> tuple[bytes | pa.Array, Tally]:
        """The lines of at least one record, with the names that its fields have in the objects."""
        if isinstance(batch, ArrowBatch) and not self._json_names:
            refuse_unwritable(batch.data)
            lines_of_columns = self.arrow_lines(batch, entropy)
            if lines_of_columns is not None:
                return lines_of_columns, Tally()
        raws = json_texts(batch)
        counts: Counter[Entry] = Counter()
        if self._json_names:
            raws = self._json_names.apply(raws, counts)
        lines, tally = self.lines(raws, batch, entropy)
        return lines, tally + tally_of(counts) if counts else tally

    def encode_groups(self, batch: Batch, entropy: bytes) -> Encoded:
        assert self.grouper is not None, "a stream without directories has no groups"
        groups = self.grouper.group(batch)
        lines, tally = self._lines(batch if groups.order is None else in_order(batch, groups.order), entropy)
        text = lines if isinstance(lines, bytes) else bytes(content(lines))
        cuts = EncodedGroups(groups.values, groups.ends, _line_ends(lines, groups.ends))
        return Encoded(batch.num_rows, text, len(text), tally, groups=cuts)

    def _cut(self, payloads: Sequence[Any], pieces: Sequence[Sequence[Span]]) -> Iterator[tuple[Payload, int]]:
        texts = [memoryview(payload) for payload in payloads]
        for spans in pieces:
            text = b"".join([texts[span.batch][span.cut] for span in spans])
            yield text, len(text) + _TEXT_OVERHEAD

    def merged(self, pieces: Sequence[Encoded]) -> Encoded:
        text = b"".join([piece.payload for piece in pieces if isinstance(piece.payload, bytes)])
        return Encoded(sum(piece.rows for piece in pieces), text, len(text) + _TEXT_OVERHEAD)

    def open(self, sink: Sink, marker: bytes, background: Background = run_now) -> TextObject:
        return TextObject(sink, self._settings, self.header, background=background)


def _line_ends(lines: bytes | pa.Array, ends: Sequence[int]) -> list[int]:
    """The positions in the text at which the lines with these numbers, counted from 1, end."""
    if len(ends) == 1:
        return [len(lines) if isinstance(lines, bytes) else len(content(lines))]
    last = np.array(ends, np.int64)
    if isinstance(lines, bytes):
        positions = np.flatnonzero(np.frombuffer(lines, np.uint8) == _LINE_BREAK)[last - 1] + 1
    else:
        positions = (bounds(lines) - bounds(lines)[0])[last]
    found: list[int] = positions.tolist()
    return found


class TextObject:
    """One object of lines. `header` is written even if no line follows.

    A batch is compressed in the background while the next one is encoded. The result reaches the sink with the next
    batch, or at the end. Without compression, a batch reaches it immediately.
    """

    buffered = 0

    def __init__(
        self, sink: Sink, settings: TextFormat, header: bytes = b"", *, background: Background = run_now
    ) -> None:
        self._sink = sink
        codec = TEXT_CODECS.get(settings.compression)
        self._stream = codec.begin(settings) if codec else None
        self._background = background
        self._result: Callable[[], bytes] | None = None
        self.in_background = 0
        self._send(self._stream.compress(header) if self._stream else header)

    def append(self, encoded: Encoded) -> None:
        assert isinstance(encoded.payload, bytes)
        if self._stream is None:
            self._send(encoded.payload)
            return
        self._send_result()
        self._result = self._background(partial(self._stream.compress, encoded.payload))
        self.in_background = len(encoded.payload)

    def flush_rows(self) -> None:
        """Does nothing, since lines are never held back."""

    def close(self) -> None:
        self._send_result()
        if self._stream is not None:
            self._send(self._stream.flush())

    def _send_result(self) -> None:
        """Waits for the batch in the background, and sends it."""
        if self._result is not None:
            result, self._result, self.in_background = self._result, None, 0
            self._send(result())

    def _send(self, data: bytes) -> None:
        if data:
            self._sink(data)


def refuse_unwritable(data: pa.RecordBatch) -> None:
    """Raises RecordError if two columns have the same name, or a text is not UTF-8."""
    refuse_repeated_names(data.schema)
    refuse_invalid_utf8(data)


def json_texts(batch: Batch) -> Sequence[bytes]:
    """A batch's records as JSON texts: the texts of a JSON batch, or texts made from Arrow rows, including nulls.

    Raises:
        RecordError: JSON has no text for a value: NaN and the infinities, dates and timestamps outside the years 1 to
            9999, times outside of a day, texts that are not UTF-8. The message names the field. Or two columns have
            the same name.
    """
    if isinstance(batch, JsonBatch):
        return batch.raws
    refuse_unwritable(batch.data)
    return pieces(object_texts(batch.data.schema.names, batch.data.columns, batch.num_rows, Refused()))


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


def join_lines(heads: Sequence[bytes], bodies: Sequence[Buffer], tail: bytes) -> bytes:
    """The head, body and tail of every line, line after line."""
    parts: list[Buffer] = [tail] * (3 * len(heads))
    parts[0::3] = heads
    parts[1::3] = bodies
    return b"".join(parts)
