"""The benchmark of databases lands the table that it has made."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.postgresql import make_orders
from benchmarks.sql_landing import landed

pytestmark = [pytest.mark.sql, pytest.mark.timeout(300)]


def test_every_row_of_the_table_lands(postgresql, tmp_path: Path):
    uri = postgresql()
    make_orders(uri, {"orders": 200})
    found = landed({"uri": uri, "format": "parquet"}, "orders", tmp_path)
    (file,) = (tmp_path / "objects").rglob("*.parquet")
    rows = pq.ParquetFile(file).read()
    assert found == {"rows": 200, "bytes": file.stat().st_size}
    assert rows["id"].to_pylist() == list(range(1, 201))
    assert rows["amount"].type == pa.decimal128(12, 2)
    assert all(0 <= each < Decimal(1000) for each in rows["amount"].to_pylist())
    assert rows["shipped_at"].null_count == 60
