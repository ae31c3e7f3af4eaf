"""Shared code of the formats of lines: an object that is compressed as one stream, and lines joined from given bytes.

Must not know: any single format of lines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pyarrow as pa

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch, Tally
from s3dest_dagster.columns.arrow_json_texts import Refused, object_texts
from s3dest_dagster.columns.arrow_types import refuse_invalid_utf8, refuse_repeated_names
from s3dest_dagster.columns.binary_columns import bounds, pieces
from s3dest_dagster.columns.conversion_log import Entry, tally_of
from s3dest_dagster.columns.diagnostics import Diagnostic, unknown_type_diagnostics
from s3dest_dagster.columns.json_names import JsonNames, SourceNames
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.partition_values import in_order
from s3dest_dagster.formats.compression import TEXT_CODECS, ByteStream, decompress_text
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
from s3dest_dagster.formats.row_filter import RowFilter
from s3dest_dagster.settings.formats import Flattening, TextFormat

if TYPE_CHECKING:
    from typing_extensions import Buffer

_TEXT_OVERHEAD = 300
"""The memory of a text of a piece besides its characters."""
_SMALL_TEXT = 16 << 10
"""The size of a text below which it pays to copy it into one with its neighbours."""
TextSettings = TypeVar("TextSettings", bound=TextFormat)


class Text(Format[TextSettings]):
    """A format of lines. It allows every field name, and keeps every value as the source wrote it."""

    @abstractmethod
    def parse(self, text: bytes, record: Record) -> Iterator[Line]:
        """Yields the records of an object's text."""

    def read(self, record: Record, content: Content, written: Record, rows: RowFilter | None = None) -> pa.Table:
        lines = self.parse(decompress_text(content), record)
        if names := SourceNames(written, root=not self.has_header):
            lines = (line._replace(record=names.apply(line.record)) for line in lines)
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


class Lines(ABC):
    """The lines of a batch's records."""

    @abstractmethod
    def texts(self, ends: Sequence[int]) -> list[bytes]:
        """The texts of the lines up to each of these numbers of lines, which ascend up to the number of all lines."""


@dataclass(frozen=True, slots=True)
class JoinedLines(Lines):
    """Lines that consist of a head, a body, and the same tail."""

    heads: Sequence[bytes] | None
    """The head of each line. None if lines have none."""
    bodies: Sequence[Buffer]
    tail: bytes

    def texts(self, ends: Sequence[int]) -> list[bytes]:
        if self.heads is None:
            return [self.tail.join([*self.bodies[start:end], b""]) for start, end in pairwise([0, *ends])]
        parts: list[Buffer] = [self.tail] * (3 * len(self.heads))
        parts[0::3] = self.heads
        parts[1::3] = self.bodies
        return [b"".join(parts[3 * start : 3 * end]) for start, end in pairwise([0, *ends])]


@dataclass(frozen=True, slots=True)
class LineColumn(Lines):
    """Lines that are the values of a binary column."""

    column: pa.Array

    def texts(self, ends: Sequence[int]) -> list[bytes]:
        positions, text = bounds(self.column)[[0, *ends]].tolist(), memoryview(self.column.buffers()[2] or b"")
        return [bytes(text[start:end]) for start, end in pairwise(positions)]


class TextEncoder(Encoder, Generic[TextSettings]):
    """Encodes records as lines. `header` begins every object."""

    holds_lock = True
    header = b""

    def __init__(self, settings: TextSettings, contents: Contents) -> None:
        super().__init__(settings, contents)
        self._settings = settings
        self._is_flat = settings.flattening is Flattening.ROOT
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
    def lines(self, raws: Sequence[bytes], batch: Batch, entropy: bytes) -> tuple[Lines, Tally]:
        """The lines of a batch's records, which are given as JSON texts. There is at least one record."""

    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        if not batch.num_rows:
            return Encoded(0, b"", 0)
        lines, tally = self._lines(batch, entropy)
        (text,) = lines.texts([batch.num_rows])
        return Encoded(batch.num_rows, text, len(text), tally)

    def arrow_lines(self, batch: ArrowBatch, entropy: bytes) -> pa.Array | None:
        """The lines of at least one record as a binary column, made without a text for each record.

        None if that is not possible: if its values need what `lines` does, or could be counted in a `Tally`.

        Raises:
            RecordError: As `json_texts` raises it.
        """
        return None

    def _lines(self, batch: Batch, entropy: bytes) -> tuple[Lines, Tally]:
        """The lines of at least one record, with the names that its fields have in the objects."""
        if isinstance(batch, ArrowBatch) and not self._json_names:
            refuse_unwritable(batch.data)
            lines_of_columns = self.arrow_lines(batch, entropy)
            if lines_of_columns is not None:
                return LineColumn(lines_of_columns), Tally()
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
        texts = lines.texts(groups.ends)
        cuts = EncodedGroups(groups.values, groups.ends, range(1, len(texts) + 1))
        return Encoded(batch.num_rows, texts, sum(map(len, texts)), tally, groups=cuts)

    def _cut(self, payloads: Sequence[Any], pieces: Sequence[Sequence[Span]]) -> Iterator[tuple[Payload, int]]:
        for spans in pieces:
            texts = _few_texts([text for span in spans for text in payloads[span.batch][span.cut]])
            yield texts, _memory_of(texts)

    def merged(self, pieces: Sequence[Encoded]) -> Encoded:
        texts = _few_texts([text for piece in pieces for text in texts_of(piece)])
        return Encoded(sum(piece.rows for piece in pieces), texts, _memory_of(texts))

    def open(self, sink: Sink, marker: bytes, background: Background = run_now) -> TextObject:
        return TextObject(sink, self._settings, self.header, background=background)


def texts_of(encoded: Encoded) -> Sequence[bytes]:
    """The texts of a batch that was encoded as lines. Each consists of whole lines."""
    assert isinstance(encoded.payload, bytes | list), "lines are texts"
    return [encoded.payload] if isinstance(encoded.payload, bytes) else encoded.payload


def _few_texts(texts: list[bytes]) -> list[bytes]:
    """The texts, as one if they are small, since every text costs memory and time of its own."""
    return [b"".join(texts)] if sum(map(len, texts)) < _SMALL_TEXT * len(texts) else texts


def _memory_of(texts: Sequence[bytes]) -> int:
    return sum(map(len, texts)) + _TEXT_OVERHEAD * len(texts)


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
        texts = texts_of(encoded)
        if self._stream is None:
            for text in texts:
                self._send(text)
            return
        self._send_result()
        self._result = self._background(partial(_compressed, self._stream, texts))
        self.in_background = sum(map(len, texts))

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


def _compressed(stream: ByteStream, texts: Sequence[bytes]) -> bytes:
    return b"".join([stream.compress(text) for text in texts])


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
