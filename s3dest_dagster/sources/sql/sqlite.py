"""SQLite by Python's own driver: rows as records, whose values have the types that they have in the database.

SQLite has a type for each value, not for each column, so that columns of one type would lose or refuse some. Values
that do not fit a stream's schema land in its overflow column. Must not know: which rows are read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from os.path import abspath
from typing import Any, ClassVar
from urllib.parse import quote

import pyarrow as pa

from s3dest_dagster.batch import TARGET_BATCH_BYTES
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.sql.address import DatabaseAddress
from s3dest_dagster.sources.sql.session import (
    Chunks,
    QueryColumns,
    Session,
    driver_errors,
    refuse_repeated_columns,
    transaction,
)
from s3dest_dagster.sources.sql.statements import select

_FIRST_ROWS = 16
_MOST_ROWS = 2048
_DECLARED = (("INT", pa.int64()), ("CHAR", pa.string()), ("CLOB", pa.string()), ("TEXT", pa.string()))
_DECLARED_REAL = (("REAL", pa.float64()), ("FLOA", pa.float64()), ("DOUB", pa.float64()))
"""The types of columns by a part of what they were declared as (https://www.sqlite.org/datatype3.html, 3.1). The others
(NUMERIC, BLOB, none) hold values of any type."""


@contextmanager
def connected(address: DatabaseAddress) -> Iterator[Session]:
    """A session in a transaction, which sees one snapshot. The file is opened for reading only."""
    if not address.path:
        raise SettingsError("The uri of a SQLite database names its file: sqlite:///shop.db.", setting="uri")
    uri = f"file:{quote(abspath(address.path))}?mode=ro"
    connect = partial(sqlite3.connect, uri, uri=True, isolation_level=None, check_same_thread=False)
    with transaction(address, connect, lambda connection: connection.execute("begin")) as connection:
        yield _SqliteSession(address, connection)


class _SqliteSession:
    has_escapes: ClassVar[bool] = False
    quote_mark: ClassVar[str] = '"'
    binary_collation: ClassVar[str | None] = " collate binary"

    def __init__(self, address: DatabaseAddress, connection: sqlite3.Connection) -> None:
        self._address = address
        self._connection = connection

    def columns(self, query: str) -> QueryColumns:
        with driver_errors(self._address, "describing the query"):
            names = [each[0] for each in self._connection.execute(f"{select(query)} limit 0").description]
            refuse_repeated_columns(names)
            # A view knows the declared types of the columns that it has from tables. It is never stored.
            self._connection.execute(f"create temp view s3dest_columns as {select(query)}")
            declared = self._connection.execute("pragma table_info(s3dest_columns)").fetchall()
            self._connection.execute("drop view temp.s3dest_columns")
        return QueryColumns(pa.schema([pa.field(row[1], _type_of(row[2])) for row in declared]))

    def chunks(self, statement: str, columns: QueryColumns) -> Chunks:
        with driver_errors(self._address, "executing the query"):
            cursor = self._connection.execute(statement)
        names = [each[0] for each in cursor.description]
        rows_at_once = _FIRST_ROWS
        with closing(cursor):
            while True:
                with driver_errors(self._address, "reading rows"):
                    rows = cursor.fetchmany(rows_at_once)
                if not rows:
                    return
                yield [dict(zip(names, row, strict=True)) for row in rows]
                nbytes = sum(len(value) if isinstance(value, str | bytes) else 8 for row in rows for value in row)
                fitting = TARGET_BATCH_BYTES * len(rows) // max(nbytes, 1)
                rows_at_once = max(1, min(fitting, 4 * len(rows), _MOST_ROWS))

    def row(self, statement: str) -> tuple[Any, ...] | None:
        with driver_errors(self._address, "executing a query"), closing(self._connection.execute(statement)) as cursor:
            found: tuple[Any, ...] | None = cursor.fetchone()
            return found


def _type_of(declared: str) -> pa.DataType:
    upper = declared.upper()
    return next((type_ for part, type_ in (*_DECLARED, *_DECLARED_REAL) if part in upper), pa.null())
