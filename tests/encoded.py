"""Objects written by the formats, for tests: batches from plain records, and the bytes of one object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from s3dest_dagster.batch import Batch, JsonBatch
from s3dest_dagster.formats import Encoder, encoder
from s3dest_dagster.settings.formats import FormatSettings
from s3dest_dagster.stream import Stream

MARKER = bytes(range(16))
EMITTED_AT = 1_622_135_805_000

USERS: dict[str, Any] = {
    "id": {"type": "integer"},
    "name": {"type": ["null", "string"]},
    "score": {"type": "number"},
    "active": {"type": "boolean"},
    "born": {"type": "string", "format": "date"},
    "seen": {"type": "string", "format": "date-time"},
    "wakes": {"type": "string", "format": "time"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "home": {"type": "object", "properties": {"city": {"type": "string"}, "since": {"$ref": "#/properties/born"}}},
    "code": {"type": ["integer", "string", "null"]},
    "photo": {"$ref": "WellKnownTypes.json#/definitions/BinaryData"},
    "nothing": {"type": "null"},
    "empty": {"type": "object"},
}
"""Properties of every kind."""


def stream_of(properties: Mapping[str, Any] = USERS, name: str = "users", namespace: str | None = None) -> Stream:
    return Stream(name=name, namespace=namespace, json_schema={"type": "object", "properties": dict(properties)})


def user(number: int) -> dict[str, Any]:
    """A record that has every field of USERS and one more. Every third record is shorter."""
    if number % 3 == 2:
        return {"id": number}
    return {
        "id": number,
        "name": f'Zoë "{number}"\n',
        "score": number / 7,
        "active": number % 2 == 0,
        "born": f"19{number % 90 + 10}-02-03" if number % 5 else "long ago",
        "seen": f"2024-01-0{number % 9 + 1}T12:00:00.123456Z",
        "wakes": "06:30:00",
        "tags": ["a", None, f"b{number}"][: number % 4],
        "home": {"city": "Ulm", "since": "2001-01-01", "door": number},
        "code": number if number % 2 else f"x{number}",
        "photo": "AAEC/w==",
        "nothing": None,
        "empty": {"inside": [number]},
        "beyond": {"deep": [1.50, None]},
    }


def batch_of(records: Iterable[Mapping[str, Any] | bytes], emitted_at: int = EMITTED_AT) -> JsonBatch:
    """A batch of records, given as JSON text or as dicts; times go up by one millisecond."""
    raws = [
        record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        for record in records
    ]
    return JsonBatch(raws, np.arange(len(raws), dtype=np.int64) + emitted_at, sum(map(len, raws)))


def entropy_of(batch: Batch, number: int = 0) -> bytes:
    """Random-looking bytes for the ids of the batch with this number, always the same."""
    return hashlib.shake_128(f"batch {number}".encode()).digest(16 * batch.num_rows)


def written(settings: FormatSettings, stream: Stream, batches: Sequence[Batch], *, by: Encoder | None = None) -> bytes:
    """One object with these batches, encoded by a new encoder, or by this one."""
    formatted = by or encoder(settings, stream)
    out = bytearray()
    writer = formatted.open(out.extend, MARKER)
    for number, batch in enumerate(batches):
        writer.append(formatted.encode(batch, entropy_of(batch, number)))
    writer.close()
    return bytes(out)
