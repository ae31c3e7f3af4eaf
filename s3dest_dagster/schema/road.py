"""From batches of records to Arrow columns in a layout's shape, and the tally of what did not land as declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import pyarrow as pa

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch, Tally
from s3dest_dagster.schema.arrow import Layout, arrow_schema
from s3dest_dagster.schema.tallying import tally_of_events
from s3dest_dagster.schema.types import Record
from s3dest_dagster.schema.values import convert_record


@dataclass(frozen=True, slots=True)
class Converted:
    """A batch in columns, row for row, without the envelope; and what happened to its values."""

    data: pa.RecordBatch
    tally: Tally


class Road:
    """The way of one stream's records into columns; `convert` may be called from several threads at once."""

    def __init__(
        self, record: Record, *, layout: Layout, on_mismatch: Literal["overflow", "fail"] = "overflow"
    ) -> None:
        self.record = record
        self.layout = layout
        self.on_mismatch = on_mismatch
        self.schema = arrow_schema(record, layout=layout)

    def convert(self, batch: Batch) -> Converted:
        """The records of a batch as columns, in their order."""
        raws = batch.raws if isinstance(batch, JsonBatch) else _texts(batch)
        events = []
        values = []
        for raw in raws:
            value, happened = convert_record(self.record, bytes(raw), layout=self.layout)
            values.append(value)
            events += happened
        column = pa.array(values, pa.struct(list(self.schema)))
        data = pa.RecordBatch.from_struct_array(column) if len(values) else self.schema.empty_table().to_batches()
        if not isinstance(data, pa.RecordBatch):
            data = pa.RecordBatch.from_pylist([], self.schema)
        return Converted(data, tally_of_events(events))


def _texts(batch: ArrowBatch) -> list[bytes]:
    return [msgspec.json.encode(row) for row in batch.data.to_pylist()]
