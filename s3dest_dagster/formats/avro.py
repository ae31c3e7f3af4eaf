"""Avro object container files: a header, then blocks of records, each followed by the sync marker.

File format: https://avro.apache.org/docs/1.11.1/specification/#object-container-files
It must not know how values become bytes.
"""

from __future__ import annotations

from typing import Literal

from s3dest_dagster.batch import Batch
from s3dest_dagster.columns.converter import RecordConverter
from s3dest_dagster.columns.envelope import record_ids
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.formats.avro_blocks import blocks, record_rows, varint
from s3dest_dagster.formats.compression import avro_codec
from s3dest_dagster.formats.protocol import Aside, Contents, Encoded, Sink, at_once
from s3dest_dagster.formats.spark import PROLEPTIC_CALENDAR
from s3dest_dagster.settings.formats import AvroFormat

_MAGIC = b"Obj\x01"


class AvroEncoder:
    """Blocks of about 64,000 bytes before compression, cut at record borders and compressed while encoding."""

    holds_lock = False

    def __init__(
        self, settings: AvroFormat, contents: Contents, on_mismatch: Literal["overflow", "fail"] = "overflow"
    ) -> None:
        self.extension = settings.extension
        self.schema_text = contents.schema_text
        self.fingerprint = contents.fingerprint
        self._record = contents.record
        self._road = RecordConverter(contents.record, layout=Layout.AVRO, on_mismatch=on_mismatch)
        self._codec, self._compress = avro_codec(settings)

    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        converted = self._road.convert(batch)
        rows = record_rows(self._record, converted.data.columns, record_ids(entropy), batch.emitted_at)
        frames = [self._frame(count, body) for count, body in blocks(rows)]
        return Encoded(batch.num_rows, frames, sum(map(len, frames)), converted.tally)

    def open(self, sink: Sink, marker: bytes, aside: Aside = at_once) -> AvroObject:
        return AvroObject(sink, self._header(), marker)

    def _frame(self, count: int, body: memoryview) -> bytes:
        """A block without its sync marker: the number of records, the size, the compressed body."""
        compressed = self._compress(body)
        return varint(count) + varint(len(compressed)) + compressed

    def _header(self) -> bytes:
        metadata = {"avro.schema": self.schema_text, "avro.codec": self._codec, **PROLEPTIC_CALENDAR}
        texts = [text.encode() for entry in metadata.items() for text in entry]
        return _MAGIC + varint(len(metadata)) + b"".join(varint(len(text)) + text for text in texts) + varint(0)


class AvroObject:
    """One container file. `marker` is its sync marker, 16 bytes."""

    buffered = aside = 0

    def __init__(self, sink: Sink, header: bytes, marker: bytes) -> None:
        self._sink = sink
        self._marker = marker
        sink(header + marker)

    def write(self, encoded: Encoded) -> None:
        assert isinstance(encoded.payload, list)
        if encoded.payload:
            self._sink(self._marker.join([*encoded.payload, b""]))

    def flush_rows(self) -> None:
        """Rows are never held back."""

    def close(self) -> None:
        """A container file has no footer."""
