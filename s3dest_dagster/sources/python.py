"""Records that Python code made, as batches: mappings and the like, Arrow data of any library, and mixtures.

It knows values; it must not know streams, connectors or Dagster.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from inspect import iscoroutine
from typing import Any

import numpy as np

from s3dest_dagster.batch import TARGET_BATCH_BYTES, Batch, JsonBatch
from s3dest_dagster.errors import RecordError
from s3dest_dagster.sources.arrow import arrow_batches, is_arrow
from s3dest_dagster.sources.json_encoding import as_record, encode_records, is_single_record

_MOST_RECORDS = 256
"""Records encoded in one call: enough that the call costs nothing, few enough that large records do not pile up."""


def batches(records: Any, *, emitted_at: Callable[[], int]) -> Iterator[Batch]:
    """Yield the records as batches, never holding more than a batch of them.

    `records` is an iterable of records (mappings, dataclasses, msgspec Structs, pydantic models), of lists of records
    (pages), of Arrow data (pyarrow, or whatever has `__arrow_c_stream__` or `__arrow_c_array__`), or of all of these;
    or one record; or Arrow data; or None for nothing. JSON batches have about 1 MB, Arrow batches about 4 MB.
    `emitted_at` gives milliseconds since 1970, and is asked once per batch.

    Raises RecordError, with the record's number counted from 1, for what is no record or holds what JSON cannot.
    """
    pending = _Pending(emitted_at)
    for element in _elements(records):
        for record in element if type(element) is list else (element,):
            if type(record) is dict:
                if pending.add(record):
                    yield pending.taken()
            elif is_arrow(record):
                yield from pending.flushed()
                yield from arrow_batches(record, emitted_at=emitted_at)
            elif pending.add(as_record(record, pending.next_number)):
                yield pending.taken()
    yield from pending.flushed()


class _Pending:
    """Records on their way into a batch: a few not yet encoded, and the texts of the others."""

    def __init__(self, emitted_at: Callable[[], int]) -> None:
        self._emitted_at = emitted_at
        self._records: list[Any] = []
        self._at_once = 1
        self._encoded = 0
        self._raws: list[bytes] = []
        self._nbytes = 0

    @property
    def next_number(self) -> int:
        return self._encoded + len(self._records) + 1

    def add(self, record: Any) -> bool:
        """Take a record; whether a batch is full."""
        self._records.append(record)
        if len(self._records) < self._at_once:
            return False
        self._encode()
        return self._nbytes >= TARGET_BATCH_BYTES

    def flushed(self) -> Iterator[JsonBatch]:
        """The batch of what is left, if anything is."""
        if self._records:
            self._encode()
        if self._raws:
            yield self.taken()

    def taken(self) -> JsonBatch:
        emitted_at = np.full(len(self._raws), self._emitted_at(), np.int64)
        batch = JsonBatch(self._raws, emitted_at, self._nbytes)
        self._raws, self._nbytes = [], 0
        return batch

    def _encode(self) -> None:
        raws = encode_records(self._records, self._encoded + 1)
        nbytes = sum(map(len, raws))
        self._raws += raws
        self._nbytes += nbytes
        self._encoded += len(raws)
        self._records = []
        # Records grow or shrink on the way; at most four times as many as the last time keeps surprises small.
        fitting = TARGET_BATCH_BYTES * len(raws) // nbytes
        self._at_once = max(1, min(fitting, 4 * len(raws), _MOST_RECORDS))


def _elements(records: Any) -> Iterator[Any]:
    """What to look at one by one."""
    if records is None:
        return iter(())
    if is_arrow(records) or is_single_record(records):
        return iter((records,))
    if isinstance(records, AsyncIterable) or iscoroutine(records):
        raise RecordError("Records that come asynchronously are not read. Collect them, or give a plain generator.")
    if isinstance(records, Iterable) and not isinstance(records, str | bytes | bytearray | memoryview):
        return iter(records)
    raise RecordError(
        f"A value of type {type(records).__name__} holds no records. Give an iterable of mappings, or Arrow data."
    )
