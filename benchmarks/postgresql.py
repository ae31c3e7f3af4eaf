"""PostgreSQL on loopback with a table of orders, for measurements: a child process in a folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.messages import ROOT

FEW = 1_000
"""Rows of the table `few_orders`, which warms a process up."""
_ORDERS = """
create table {table} as
select i::bigint as id,
    (hashint8(i)::bigint + 2147483648) * 256 as customer_id,
    'Customer ' || i % 9973 as name,
    'user' || i || '@example.com' as email,
    (array['open', 'paid', 'shipped', 'returned'])[1 + abs(hashint8(i)) % 4] as status,
    (abs(hashint8(i)) % 100000 / 100.0)::numeric(12, 2) as amount,
    timestamptz '2023-11-14 22:13:20Z' + abs(hashint8(i)) * interval '47 milliseconds' as created_at,
    case when i % 10 < 7 then timestamp '2023-11-15' + abs(hashint8(i)) * interval '47 milliseconds' end as shipped_at,
    date '2011-01-26' + abs(hashint8(i)) % 5000 as day,
    hashint8(i) % 2 = 0 as active,
    case when i % 10 > 0 then 'alpha beta ' || md5(i::text) end as note
from generate_series(1, {rows}) as i
"""


@contextmanager
def orders_of_postgresql(rows: int, folder: Path) -> Iterator[str]:
    """A server with so many rows in its table `orders`. Yields its URI; the log goes to `folder`."""
    # The tests start PostgreSQL, too.
    sys.path.append(str(ROOT / "tests"))
    from scale.deployment import postgres  # type: ignore[import-not-found]

    with postgres(folder) as server:
        named = {name.removeprefix("DAGSTER_PG_").lower(): value for name, value in server.items()}
        uri = "postgresql://{username}:{password}@{host}:{port}/{db}".format(**named)
        make_orders(uri, {"few_orders": FEW, "orders": rows})
        yield uri


def make_orders(uri: str, tables: Mapping[str, int]) -> None:
    """Makes tables with so many rows."""
    import adbc_driver_postgresql.dbapi as adbc

    with adbc.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        for table, rows in tables.items():
            cursor.execute(_ORDERS.format(table=table, rows=rows))
        cursor.execute("vacuum analyze")
