"""Turns whatever Python code gives as the records of one stream into items that a landing or a shard receives.

Must not know: streams, where the items go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from s3dest_dagster.batch import (
    ArrowBatch,
    BadRecord,
    Batch,
    JsonBatch,
    SourceFile,
    SourceItem,
    State,
    StreamBatch,
    StreamNotice,
    UndecodedItems,
)
from s3dest_dagster.sources.python import batches_and_bad_records, is_arrow, is_single_record

_ITEMS = UndecodedItems | StreamBatch | BadRecord | SourceFile | State | StreamNotice | JsonBatch | ArrowBatch
_NOTHING = object()


def items_of(
    records: Any, *, emitted_at: Callable[[], int], check_first: Callable[[Any], None] | None = None
) -> Iterable[SourceItem | Batch]:
    """Returns items and batches as they are, decodes items that are not, and converts other values to batches.

    Args:
        records: Items, batches, or anything that `batches` accepts.
        emitted_at: Returns milliseconds since 1970. It is called once per batch.
        check_first: Called with the first element of a value that is iterated. It raises for what is no record.

    Raises:
        RecordError: As `batches`, when the items are iterated.

    Example:
        for item in items_of([{"id": 1}, {"id": 2}], emitted_at=lambda: int(time.time() * 1000)):
            landing.append(item)
    """
    for item in undecoded_items_of(records, emitted_at=emitted_at, check_first=check_first):
        if isinstance(item, UndecodedItems):
            yield from item.items()
        else:
            yield item


def undecoded_items_of(
    records: Any, *, emitted_at: Callable[[], int], check_first: Callable[[Any], None] | None = None
) -> Iterable[SourceItem | Batch | UndecodedItems]:
    """Returns the same as `items_of`, except that items stay undecoded if they are."""
    if not is_iterated(records):
        return batches_and_bad_records(records, emitted_at=emitted_at)
    elements = iter(records)
    first = next(elements, _NOTHING)
    if first is _NOTHING:
        return ()
    if check_first is not None:
        check_first(first)
    whole = chain([first], elements)
    return whole if isinstance(first, _ITEMS) else batches_and_bad_records(whole, emitted_at=emitted_at)


def is_iterated(value: Any) -> bool:
    """Whether the value must be iterated to see its elements. False for columns, a single record, or a text."""
    return isinstance(value, Iterable) and not (
        is_arrow(value) or is_single_record(value) or isinstance(value, str | bytes | bytearray | memoryview)
    )
