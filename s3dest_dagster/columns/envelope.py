"""The columns that every record has before its own: its id, and when it was emitted. Must not know: record types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

RECORD_ID = "_airbyte_ab_id"
EMITTED_AT = "_airbyte_emitted_at"
DATA = "_airbyte_data"
"""The record as JSON text, in text formats that are not flattened."""
ID_BYTES = 16
"""Random bytes that one record id takes."""
AVRO_ENVELOPE: tuple[dict[str, Any], ...] = (
    {"name": RECORD_ID, "type": {"type": "string", "logicalType": "uuid"}},
    {"name": EMITTED_AT, "type": {"type": "long", "logicalType": "timestamp-millis"}},
)
"""The Avro fields."""
EMITTED_AT_TYPE = pa.timestamp("ms", "UTC")

_HEX_PAIRS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)
"""The two digits of each byte as one number: half as many lookups, whatever the byte order of the machine."""
_GROUPS = ((0, 8), (9, 13), (14, 18), (19, 23), (24, 36))
"""The bounds of the groups of digits between the dashes of a UUID."""


def record_ids(entropy: bytes) -> NDArray[np.uint8]:
    """UUIDs of version 4 as ASCII texts, shape (n, 36), from 16 random bytes each. Equal bytes give equal ids."""
    random = np.frombuffer(entropy, np.uint8).reshape(-1, ID_BYTES).copy()
    random[:, 6] = random[:, 6] & 0x0F | 0x40
    random[:, 8] = random[:, 8] & 0x3F | 0x80
    texts = np.full((len(random), 36), ord("-"), np.uint8)
    digits = _HEX_PAIRS.take(random).view(np.uint8)
    for dashes, (start, end) in enumerate(_GROUPS):
        texts[:, start:end] = digits[:, start - dashes : end - dashes]
    return texts


def record_id_column(ids: NDArray[np.uint8]) -> pa.Array:
    """Record ids as a string column."""
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * np.int32(36)
    return pa.Array.from_buffers(
        pa.string(), len(ids), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(ids))]
    )


def emitted_at_column(emitted_at: NDArray[np.int64]) -> pa.Array:
    """Emission times (milliseconds since 1970) as a timestamp column."""
    millis: Any = np.ascontiguousarray(emitted_at, np.int64)
    return pa.array(millis).cast(EMITTED_AT_TYPE)
