"""The records of several scopes of one stream, as each was at one time, in the forms that readers ask for.

An optional library is imported when its frame is asked for. Must not know: who reads, and how scopes are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import chain
from typing import Any, TypeVar

import pyarrow as pa

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.errors import MissingExtraError, SettingsError
from s3dest_dagster.formats import table_schema
from s3dest_dagster.formats.row_filter import RowFilter
from s3dest_dagster.inspection.portable import PortableObject, portable_objects
from s3dest_dagster.inspection.read import ScopeSnapshot, record_of_scopes
from s3dest_dagster.inspection.record_selection import FILTER_KEY, RecordSelection
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import each_in_parallel

_PARALLEL = 8
_ROWS_AT_ONCE = 10_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LandedScopes:
    """The scopes of a stream that hold something, each as it was at one time."""

    scopes: Mapping[str | None, ScopeSnapshot]
    """The scopes, by partition key. None is the key of an unpartitioned stream."""
    record: Record | None
    """The columns of all of them together. None if none of them has any."""
    schema: pa.Schema
    """The columns to read."""
    stream: str
    """The stream's name, for messages."""
    rows: RowFilter | None = None
    """The records to read. None: all of them."""
    connection: S3Connection | None = None
    """How the workers of an engine reach S3. None: they cannot."""

    @classmethod
    def of(cls, scopes: Mapping[str | None, ScopeSnapshot], stream: str, selection: RecordSelection) -> LandedScopes:
        """The selected records of these scopes.

        Args:
            scopes: The scopes. Those that hold nothing are left out.
            stream: The stream's name, for messages.
            selection: Which records and columns to read. The partitions have been chosen already.

        Raises:
            SettingsError: A column, a directory or a condition is wrong.
            SchemaError: A column has types that no single type can hold.
        """
        landed = {
            key: scope.selected(selection.where, selection.as_of) for key, scope in scopes.items() if scope.segments
        }
        record = record_of_scopes(list(landed.values()), stream)
        schema = table_schema(record) if record is not None else pa.schema([])
        rows = RowFilter.of(selection.filter, schema, stream) if record is not None else None
        return cls(landed, record, selection.schema_of(schema, stream), stream, rows)

    def is_outdated(self) -> bool:
        """Whether another sync of one of the scopes has been published since the manifests were read."""
        return any(each_in_parallel(ScopeSnapshot.is_outdated, self.scopes.values()))

    def tables(self, key: str | None) -> Iterator[pa.Table]:
        """One scope's objects, each as a table of all columns."""
        for table in self.scopes[key].tables(self.record, self.rows):
            yield table.select(self.schema.names)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All records, an object at a time."""
        for key in self.scopes:
            for table in self.tables(key):
                yield from table.to_batches(_ROWS_AT_ONCE)

    def reader(self) -> pa.RecordBatchReader:
        """All records as a stream of batches, which holds one object at a time in memory."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches())

    def table(self) -> pa.Table:
        """All records. The scopes are read in parallel, the objects of a scope one after another."""
        return pa.concat_tables(
            [self.schema.empty_table(), *self.by_partition(LandedScopes._sequential_table).values()]
        )

    def _sequential_table(self) -> pa.Table:
        tables = (table for key in self.scopes for table in self.tables(key))
        return pa.concat_tables([self.schema.empty_table(), *tables])

    def pandas(self) -> Any:
        """All records as a `pandas.DataFrame`. Raises MissingExtraError if pandas is not installed."""
        _installed("pandas")
        return self.table().to_pandas()

    def polars(self) -> Any:
        """All records as a `polars.DataFrame`. Raises MissingExtraError if Polars is not installed."""
        return _installed("polars").from_arrow(self.table())

    def duckdb(self, connection: Any = None) -> Any:
        """All records as a `duckdb.DuckDBPyRelation`. Raises MissingExtraError if DuckDB is not installed.

        Args:
            connection: The connection of the relation. None: one of its own, which the relation keeps alive, because
                DuckDB's default connection is not safe to use in several threads.
        """
        duckdb = _installed("duckdb")
        return (connection or duckdb.connect()).from_arrow(self.table())

    def portable(self, connection: S3Connection) -> list[PortableObject]:
        """All objects, as values that any process can read. `connection` is how these processes reach S3."""
        if self.rows is not None:
            raise SettingsError(
                f"filter has no effect on the dataset of an engine, as which {self.stream} is loaded. Filter it there, "
                "or by `where` if you need whole directories.",
                stream=self.stream,
                setting=FILTER_KEY,
            )
        if self.record is None:
            return []
        names = tuple(self.schema.names)
        of_scopes = (portable_objects(each, self.record, names, connection) for each in self.scopes.values())
        return list(chain.from_iterable(of_scopes))

    def by_partition(self, load: Callable[[LandedScopes], T]) -> dict[str | None, T]:
        """The results of `load` for each scope, a few in parallel."""
        single = [replace(self, scopes={key: scope}) for key, scope in self.scopes.items()]
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3dest-read") as executor:
            return dict(zip(self.scopes, executor.map(load, single), strict=True))


def _installed(library: str) -> Any:
    """An optional library, which has an extra of the same name."""
    try:
        return import_module(library)
    except ImportError as error:
        raise MissingExtraError(
            f"A frame of {library} needs the package {library}, which is not installed. Install "
            f"s3dest-dagster[{library}]."
        ) from error
