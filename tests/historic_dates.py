"""Days and moments of long ago, which readers assign to another calendar if the file does not name its calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
from encoded import EMITTED_AT, batch_of, stream_of

from s3dest_dagster.batch import ArrowBatch, JsonBatch

DAYS = [
    date(*each)
    for each in (
        (1, 1, 1),
        (4, 2, 29),
        (1000, 2, 28),
        (1500, 3, 1),
        (1582, 10, 4),  # the last day of the Julian calendar
        (1582, 10, 5),  # ten days that it never had
        (1582, 10, 14),
        (1582, 10, 15),  # the first day of the Gregorian calendar
        (1883, 11, 18),  # when zones were made
        (1899, 12, 31),
        (1900, 1, 1),
        (1969, 12, 31),
        (1970, 1, 1),
        (9999, 12, 31),
    )
]
MOMENTS = [datetime(day.year, day.month, day.day, 12, 34, 56, 789_001, UTC) for day in DAYS]
STREAM = stream_of(
    {
        "id": {"type": "integer"},
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "local": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
        "within": {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}},
    }
)


def _record(number: int) -> dict[str, object]:
    day, at = DAYS[number].isoformat(), MOMENTS[number].isoformat()
    return {
        "id": number,
        "day": day,
        "at": at.replace("+00:00", "Z"),
        "local": at.removesuffix("+00:00"),
        "within": {"day": day},
    }


def texts() -> JsonBatch:
    """Records as they come from a connector."""
    return batch_of(map(_record, range(len(DAYS))))


def odd_texts() -> JsonBatch:
    """The same, each with a value beyond the schema, as rules for single records take them."""
    return batch_of(_record(number) | {f"beyond{number}": [number]} for number in range(len(DAYS)))


def columns() -> ArrowBatch:
    """The same as a frame has them."""
    data = pa.RecordBatch.from_pydict(
        {
            "id": pa.array(range(len(DAYS)), pa.int64()),
            "day": pa.array(DAYS, pa.date32()),
            "at": pa.array(MOMENTS, pa.timestamp("us", "UTC")),
            "local": pa.array([each.replace(tzinfo=None) for each in MOMENTS], pa.timestamp("us")),
            "within": pa.array([{"day": day} for day in DAYS]),
        }
    )
    return ArrowBatch(data, np.arange(len(DAYS), dtype=np.int64) + EMITTED_AT)


BATCHES = {"texts": texts, "odd texts": odd_texts, "columns": columns}
"""Each way that values take into a file."""
