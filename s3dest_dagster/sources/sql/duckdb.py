"""DuckDB: rows as Arrow batches, which the database makes as they are read.

Without `arrow_lossless_conversion`, DuckDB would hand over the largest UHUGEINT as -1. With it, some types have no
plain Arrow type, and the database writes them as text. Must not know: which rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa

from s3dest_dagster.sources.sql.address import DatabaseAddress
from s3dest_dagster.sources.sql.session import (
    Chunks,
    QueryColumns,
    Session,
    driver_errors,
    imported_driver,
    read_batches,
    refuse_infinite_moments,
    refuse_repeated_columns,
    refuse_unknown_types,
    transaction,
)
from s3dest_dagster.sources.sql.statements import ALIAS, quoted_name, select

BATCH_ROWS = 8192
_AS_TEXT = frozenset(
    {"HUGEINT", "UHUGEINT", "BIGNUM", "VARINT", "BIT", "INTERVAL", "TIME WITH TIME ZONE", "VARIANT"},
)
"""Types that Arrow has in another form, or not at all."""
_INFINITE = {"date": 2**31 - 1, "timestamp": 2**63 - 1}


@contextmanager
def connected(address: DatabaseAddress) -> Iterator[Session]:
    """A session in a transaction that sees one snapshot. The file is opened for reading only."""
    driver = imported_driver("duckdb", "duckdb", address)
    path = address.path
    connect = partial(driver.connect, path or ":memory:", read_only=bool(path), config=address.options)
    with transaction(address, connect, _begin) as connection:
        yield _DuckDbSession(address, connection)


def _begin(connection: Any) -> None:
    connection.execute("set arrow_lossless_conversion = true").fetchall()
    connection.execute("begin transaction").fetchall()


class _DuckDbSession:
    has_escapes: ClassVar[bool] = False
    quote_mark: ClassVar[str] = '"'
    binary_collation: ClassVar[str | None] = " collate c"

    def __init__(self, address: DatabaseAddress, connection: Any) -> None:
        self._address = address
        self._connection = connection

    def columns(self, query: str) -> QueryColumns:
        with driver_errors(self._address, "describing the query"):
            described = self._connection.execute(f"describe\n{query}").fetchall()
        names = [row[0] for row in described]
        refuse_repeated_columns(names)
        texts = frozenset(row[0] for row in described if row[1] in _AS_TEXT)
        columns = ", ".join(_selected(name, as_text=name in texts) for name in names)
        with driver_errors(self._address, "describing the query"):
            schema = self._reader(select(query, columns, where=["false"])).read_all().schema
        refuse_unknown_types(schema)
        return QueryColumns(schema, texts, columns)

    def chunks(self, statement: str, columns: QueryColumns) -> Chunks:
        with driver_errors(self._address, "executing the query"):
            reader = self._reader(statement)
        with closing(read_batches(reader, self._address)) as batches:
            for batch in batches:
                refuse_infinite_moments(batch, _is_infinite)
                yield batch

    def row(self, statement: str) -> tuple[Any, ...] | None:
        with driver_errors(self._address, "executing a query"):
            rows = self._connection.execute(f"{statement} limit 1").fetchall()
        return rows[0] if rows else None

    def _reader(self, statement: str) -> pa.RecordBatchReader:
        relation = self._connection.sql(statement)
        # The older name, which DuckDB 1 has.
        read = getattr(relation, "to_arrow_reader", None) or relation.fetch_record_batch
        return read(BATCH_ROWS)


def _selected(name: str, *, as_text: bool) -> str:
    quoted = quoted_name(name)
    return f"{ALIAS}.{quoted}::varchar as {quoted}" if as_text else f"{ALIAS}.{quoted}"


def _is_infinite(kind: str, stored: int) -> bool:
    return abs(stored) == _INFINITE[kind]
