"""MySQL and MariaDB through ConnectorX: rows as Arrow batches, as they come from the server.

ConnectorX has one type for all decimals, with ten digits after the point, and rounds the others. So the database writes
decimals as text. Must not know: which rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.types as pt

from s3dest_dagster.sources.sql.address import DatabaseAddress
from s3dest_dagster.sources.sql.session import (
    Chunks,
    QueryColumns,
    Session,
    driver_errors,
    imported_driver,
    read_batches,
    refuse_repeated_columns,
    refuse_unknown_types,
)
from s3dest_dagster.sources.sql.statements import ALIAS, quoted_name, select

BATCH_ROWS = 8192


@contextmanager
def connected(address: DatabaseAddress) -> Iterator[Session]:
    """A session in which each statement has a connection of its own, and sees a snapshot of its own."""
    yield _ConnectorxSession(address, imported_driver("connectorx", "connectorx", address))


class _ConnectorxSession:
    has_escapes: ClassVar[bool] = True
    quote_mark: ClassVar[str] = "`"
    binary_collation: ClassVar[str | None] = None

    def __init__(self, address: DatabaseAddress, driver: Any) -> None:
        self._address = address
        self._driver = driver
        self._uri = f"mysql{address.uri.removeprefix(address.scheme)}"

    def columns(self, query: str) -> QueryColumns:
        with driver_errors(self._address, "describing the query"), closing(self._reader(_nothing_of(query))) as reader:
            schema = reader.schema
        refuse_repeated_columns(schema.names)
        texts = frozenset(field.name for field in schema if pt.is_decimal(field.type))
        landed = pa.schema([pa.field(field.name, pa.string()) if field.name in texts else field for field in schema])
        refuse_unknown_types(landed)
        return QueryColumns(landed, texts, ", ".join(_selected(name, as_text=name in texts) for name in schema.names))

    def chunks(self, statement: str, columns: QueryColumns) -> Chunks:
        with driver_errors(self._address, "executing the query"):
            reader = self._reader(statement)
        yield from read_batches(reader, self._address)

    def row(self, statement: str) -> tuple[Any, ...] | None:
        with driver_errors(self._address, "executing a query"), closing(self._reader(statement)) as reader:
            rows = [tuple(row.values()) for row in reader.read_all().slice(0, 1).to_pylist()]
        return rows[0] if rows else None

    def _reader(self, statement: str) -> pa.RecordBatchReader:
        return self._driver.read_sql(self._uri, statement, return_type="arrow_stream", batch_size=BATCH_ROWS)


def _nothing_of(query: str) -> str:
    return select(query, where=["1 = 0"])


def _selected(name: str, *, as_text: bool) -> str:
    quoted = quoted_name(name, mark="`")
    return f"cast({ALIAS}.{quoted} as char) as {quoted}" if as_text else f"{ALIAS}.{quoted}"
