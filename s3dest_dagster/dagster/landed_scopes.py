"""Scopes that were landed, read as tables of the same columns: one by one, or a few at once.

It knows the landing's readers; it must not know what asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import pyarrow as pa

from s3dest_dagster.errors import ObjectNotFoundError, SettingsError
from s3dest_dagster.inspection.read import ScopeSnapshot, snapshot, unified
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope

COLUMNS_KEY = "columns"
_PARALLEL = 8
_ROWS_AT_ONCE = 10_000
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class LandedScopes:
    """Scopes of a stream that hold something, by partition key, each as it was at one moment, and the columns that all
    of them are read as."""

    scopes: Mapping[str | None, ScopeSnapshot]
    schema: pa.Schema
    stream: str

    @classmethod
    def of(
        cls,
        bucket: Bucket,
        destination: S3Destination,
        scopes: Mapping[str | None, Scope],
        *,
        columns: Sequence[str] | None,
        allow_missing: bool,
        hint: str = "",
    ) -> LandedScopes:
        """Looks at the manifests; raises for scopes that were never landed (with the hint), and for columns that are
        not there."""
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3dest-read") as executor:
            looked_at = executor.map(lambda scope: snapshot(bucket, destination.template, scope), scopes.values())
            found = dict(zip(scopes, looked_at, strict=True))
        missing = [scopes[key] for key, each in found.items() if not each.segments]
        if missing and not allow_missing:
            raise _never_landed(missing, hint)
        there = {key: each for key, each in found.items() if each.segments}
        what = str(next(iter(scopes.values())).stream) if scopes else "nothing"
        schema = unified((each for one in there.values() if (each := one.schema) is not None), what)
        return cls(there, _selected(schema, columns, what), what)

    def is_outdated(self) -> bool:
        """Whether another sync of one of the scopes was published since they were looked at."""
        return any(each.is_outdated() for each in self.scopes.values())

    def tables(self, key: str | None) -> Iterator[pa.Table]:
        """One scope's objects, each as a table of all columns."""
        for table in self.scopes[key].tables():
            wanted = table.select([name for name in self.schema.names if name in table.column_names])
            aligned = pa.concat_tables([self.schema.empty_table(), wanted], promote_options="permissive")
            yield aligned.select(self.schema.names).cast(self.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Everything, an object at a time."""
        for key in self.scopes:
            for table in self.tables(key):
                yield from table.to_batches(_ROWS_AT_ONCE)

    def table(self) -> pa.Table:
        """Everything, one object after another."""
        tables = (table for key in self.scopes for table in self.tables(key))
        return pa.concat_tables([self.schema.empty_table(), *tables])

    def each(self, make: Callable[[LandedScopes], Made]) -> dict[str | None, Made]:
        """What `make` makes of each scope by itself, of a few at once."""
        alone = [replace(self, scopes={key: scope}) for key, scope in self.scopes.items()]
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3dest-read") as executor:
            return dict(zip(self.scopes, executor.map(make, alone), strict=True))


def _selected(schema: pa.Schema, columns: Sequence[str] | None, what: str) -> pa.Schema:
    if columns is None:
        return schema
    unknown = [name for name in columns if name not in schema.names]
    if unknown:
        raise SettingsError(
            f"{what} has no column {unknown[0]!r}, which the input's metadata asks for. It has: "
            f"{', '.join(schema.names)}.",
            stream=what,
            setting=COLUMNS_KEY,
        )
    return pa.schema([schema.field(name) for name in columns])


def _never_landed(missing: Sequence[Scope], hint: str) -> ObjectNotFoundError:
    first = missing[0]
    others = len(missing) - 1
    more = f" (and {amount(others, 'more partition')})" if others else ""
    return ObjectNotFoundError(
        f"{first}{more} has not landed here, so there is nothing to load. Materialize it first"
        + ("." if first.partition is None else ", or set allow_missing_partitions in the input's metadata.")
        + (f" {hint}" if hint else ""),
        stream=str(first.stream),
        partition=first.partition,
    )
