"""Readers find the objects of ten schema versions as one table, in the ways that docs/schema-evolution.md names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from schema_versions import FOUND, WIDENED, values, write_versions


def found(table: pa.Table) -> list[dict[str, Any]]:
    return [values(row) for row in table.sort_by("id").to_pylist()]


def test_duckdb_unites_all_versions_by_name(tmp_path: Path) -> None:
    write_versions(tmp_path)
    table = duckdb.sql(f"from read_parquet('{tmp_path}/*.parquet', union_by_name = true)").to_arrow_table()
    assert found(table) == FOUND


def test_polars_unites_all_versions_with_a_relaxed_concatenation(tmp_path: Path) -> None:
    frames = [pl.scan_parquet(path) for path in write_versions(tmp_path)]
    assert found(pl.concat(frames, how="diagonal_relaxed").collect().to_arrow()) == FOUND


def test_pyarrow_unites_all_versions_under_the_newest_type_of_each_column(tmp_path: Path) -> None:
    paths = write_versions(tmp_path)
    newest = {field.name: field for path in paths for field in pq.read_schema(path)}
    assert found(ds.dataset(paths, schema=pa.schema(list(newest.values()))).to_table()) == FOUND


def test_pyarrow_unifies_the_schemas_of_all_versions_except_those_with_a_moment_that_was_a_date(tmp_path: Path) -> None:
    paths = write_versions(tmp_path)
    schemas = [pq.read_schema(path) for path in paths]
    with pytest.raises(pa.ArrowTypeError, match="day"):
        pa.unify_schemas(schemas, promote_options="permissive")
    del paths[7], schemas[7]
    unified = pa.unify_schemas(schemas, promote_options="permissive")
    expected = [FOUND[number] for number in range(len(FOUND)) if number != 7]
    expected[6] = {"day": "2026-01-07"}
    assert found(ds.dataset(paths, schema=unified).to_table()) == expected


def test_a_column_has_the_same_field_id_in_every_version(tmp_path: Path) -> None:
    ids: dict[str, set[bytes]] = {}
    for path in write_versions(tmp_path):
        for field in pq.read_schema(path):
            ids.setdefault(field.name, set()).add((field.metadata or {}).get(b"PARQUET:field_id", b""))
    own = {name: each for name, each in ids.items() if not name.startswith("_airbyte")}
    assert all(len(each) == 1 for each in own.values())
    assert len(set.union(*own.values())) == len(own)


@pytest.mark.readers
@pytest.mark.timeout(600)
def test_spark_merges_new_columns_and_no_wider_types(spark, tmp_path: Path) -> None:
    paths = write_versions(tmp_path)
    same = [path for number, path in enumerate(paths, 1) if number not in WIDENED]
    rows = spark.read.option("mergeSchema", True).parquet(*same).orderBy("id").collect()
    expected = [each for number, each in enumerate(FOUND, 1) if number not in WIDENED]
    expected[5] = {"day": "2026-01-07"}
    assert [values(row.asDict(recursive=True)) for row in rows] == expected
    with pytest.raises(Exception, match=r"(?i)merge"):
        spark.read.option("mergeSchema", True).parquet(*paths)
