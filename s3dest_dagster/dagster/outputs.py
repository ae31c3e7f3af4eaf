"""What an asset's body hands over, told apart: records of one scope, or of several partitions, now or when asked.

It must not know how records are landed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from inspect import isgenerator
from itertools import chain
from typing import Any

import dagster as dg

from s3dest_dagster.batch import ArrowBatch, BadRecord, Batch, JsonBatch, SourceItem, State, StreamBatch, StreamStatus
from s3dest_dagster.commit.head import ReachedState
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.printable import amount
from s3dest_dagster.sources.python import batches, is_arrow, is_single_record
from s3dest_dagster.stream import Scope

_ITEMS = (StreamBatch, BadRecord, State, StreamStatus, JsonBatch, ArrowBatch)
_EVENTS = (dg.Output, dg.MaterializeResult, dg.AssetCheckResult, dg.AssetMaterialization, dg.AssetObservation)
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class DeferredRead:
    """Records that are read once a landing is open: `open` takes the state that the scope reached last, or None, and
    gives the source's items for as long as its `with` lasts. `allow_empty`: whether a source that says nothing of the
    stream says that there is no record."""

    open: Callable[[ReachedState | None], AbstractContextManager[Iterable[SourceItem]]]
    allow_empty: bool = True


def deliveries(handed: Any, scopes: Mapping[str | None, Scope]) -> Iterator[tuple[Scope, Any]]:
    """What is to be landed in which scope, in the order in which the body gives it.

    A mapping of partition keys to records, or (partition key, records) pairs, may fill several partitions, one after
    another; a partition of the run that it leaves out is delivered without a record, at the end. Anything else is the
    records of the run's one scope. Raises SettingsError where that cannot be.
    """
    if isinstance(handed, Mapping) and None not in scopes:
        handed = handed.items()
    pairs, records = _pairs_or_records(handed)
    if pairs is not None:
        yield from _by_partition(pairs, scopes)
        return
    if len(scopes) != 1:
        raise _several(scopes)
    yield next(iter(scopes.values())), records


def _pairs_or_records(handed: Any) -> tuple[Iterable[tuple[str, Any]] | None, Any]:
    """Pairs, or else records; looks at the first element of what gives its elements one by one."""
    if not _is_iterated(handed):
        return None, handed
    elements = iter(handed)
    first = next(elements, _NOTHING)
    together = () if first is _NOTHING else chain([first], elements)
    return (together, None) if first is _NOTHING or _is_pair(first) else (None, together)


def _is_pair(element: Any) -> bool:
    return type(element) is tuple and len(element) == 2 and isinstance(element[0], str)


def _is_iterated(handed: Any) -> bool:
    """Whether it has to be iterated to see what it gives: neither columns, nor one record, nor a text."""
    return isinstance(handed, Iterable) and not (
        is_arrow(handed) or is_single_record(handed) or isinstance(handed, str | bytes | bytearray | memoryview)
    )


def _by_partition(pairs: Iterable[tuple[str, Any]], scopes: Mapping[str | None, Scope]) -> Iterator[tuple[Scope, Any]]:
    left = dict(scopes)
    for partition, records in pairs:
        scope = left.pop(partition, None)
        if scope is None:
            raise _unexpected(partition, scopes)
        yield scope, records
    for scope in left.values():
        yield scope, ()


def _unexpected(partition: Any, scopes: Mapping[str | None, Scope]) -> SettingsError:
    stream = str(next(iter(scopes.values())).stream)
    if None in scopes:
        return SettingsError(
            f"{stream} has no partitions, and its body gave records of the partition {partition!r}. Give the records "
            "alone; a single record stands in a list.",
            stream=stream,
        )
    reason = "twice; give all of its records at once" if partition in scopes else "and this run has it not"
    return SettingsError(
        f"The body of {stream} gave the partition {partition!r} {reason}. The run has {_range(scopes)}.",
        stream=stream,
        partition=str(partition),
    )


def _several(scopes: Mapping[str | None, Scope]) -> SettingsError:
    stream = str(next(iter(scopes.values())).stream)
    return SettingsError(
        f"This run has {amount(len(scopes), 'partition')} of {stream} ({_range(scopes)}), and its body gave "
        "records without saying of which. Yield (partition key, records) pairs, as itertools.groupby does, or return "
        "a dict of them; or let each partition have its own run (without BackfillPolicy.single_run()).",
        stream=stream,
    )


def _range(scopes: Mapping[str | None, Scope]) -> str:
    keys = [str(key) for key in scopes]
    return repr(keys[0]) if len(keys) == 1 else f"{keys[0]!r} to {keys[-1]!r}"


@contextmanager
def opened(
    records: Any, state: ReachedState | None, *, emitted_at: Callable[[], int]
) -> Iterator[Iterable[SourceItem | Batch]]:
    """The items of one scope's records. `emitted_at` (milliseconds since 1970) is asked for those that tell none."""
    if isinstance(records, DeferredRead):
        records = records.open(state)
    if isinstance(records, AbstractContextManager) and not (isinstance(records, Iterable) or is_arrow(records)):
        with records as items:
            yield _items(items, emitted_at)
    else:
        yield _items(records, emitted_at)


def _items(records: Any, emitted_at: Callable[[], int]) -> Iterable[SourceItem | Batch]:
    """Items are left as they are; anything else is made into batches."""
    if not _is_iterated(records):
        return batches(records, emitted_at=emitted_at)
    elements = iter(records)
    first = next(elements, _NOTHING)
    if first is _NOTHING:
        return ()
    _refuse_event(first)
    together = chain([first], elements)
    return together if isinstance(first, _ITEMS) else batches(together, emitted_at=emitted_at)


def _refuse_event(element: Any) -> None:
    """Raises SettingsError for what is said to Dagster, and is no record."""
    if not isinstance(element, _EVENTS):
        return
    name = type(element).__name__
    if isinstance(element, dg.AssetCheckResult):
        raise SettingsError(
            f"The body gave an {name} among its records, and the asset declares no check: name it in "
            'check_specs=[dg.AssetCheckSpec("…", asset="…")].',
            setting="check_specs",
        )
    raise SettingsError(
        f"The body gave a {name} among its records. Return one {name} around all of them (value=records), and add what "
        "is known later with context.add_asset_metadata."
    )


def let_go(handed: Any) -> None:
    """Ends a generator that was not read to its end, so that what it holds is let go now."""
    if isgenerator(handed):
        handed.close()
