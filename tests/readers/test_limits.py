"""What Spark reads, and what it cannot read, which the pages of the formats say; other readers read all of it."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from encoded import batch_of, stream_of, written
from historic_dates import BATCHES, DAYS, MOMENTS, STREAM

from s3dest_dagster.settings.formats import AvroFormat, ParquetFormat

pytestmark = [pytest.mark.readers, pytest.mark.timeout(600)]

ENVELOPE = ("_airbyte_ab_id", "_airbyte_emitted_at")
OVERFLOW = "_airbyte_additional_properties"


@pytest.fixture
def file_of(tmp_path):
    """Writes a file with these properties and records, and returns its path."""

    def write(properties: dict[str, Any], records: list[Any], **settings: Any) -> str:
        path = tmp_path / "file.parquet"
        path.write_bytes(written(ParquetFormat(**settings), stream_of(properties), [batch_of(records)]))
        return str(path)

    return write


def by_spark(spark, path: str) -> list[dict[str, Any]]:
    return [row.asDict(recursive=True) for row in spark.read.parquet(path).drop(*ENVELOPE).collect()]


def by_other_readers(path: str) -> list[list[dict[str, Any]]]:
    """The rows as pyarrow, DuckDB and Polars return them, with maps as dicts."""
    tables = [pq.read_table(path), duckdb.sql(f"from '{path}'").to_arrow_table(), pl.read_parquet(path).to_arrow()]
    return [table.drop_columns(list(ENVELOPE)).to_pylist(maps_as_pydicts="strict") for table in tables]


@pytest.fixture(params=["EXCEPTION", "LEGACY", "CORRECTED"])
def rebasing_spark(spark, request):
    """Spark with each of its ways to take dates of a file that does not say its calendar: 3's default is the first."""
    setting = "spark.sql.parquet.datetimeRebaseModeInRead"
    spark.conf.set(setting, request.param)
    yield spark
    spark.conf.unset(setting)


class TestAncientDates:
    @pytest.mark.parametrize("codec", ["UNCOMPRESSED", "LZO"])
    @pytest.mark.parametrize("way", BATCHES)
    @pytest.mark.parametrize("dictionary", [True, False])
    def test_spark_finds_them_however_it_is_set(self, rebasing_spark, tmp_path, way, codec, dictionary):
        path = tmp_path / "ancient.parquet"
        chosen = ParquetFormat(compression_codec=codec, dictionary_encoding=dictionary)
        path.write_bytes(written(chosen, STREAM, [BATCHES[way]()]))
        spelled = ["cast(day as string)", "cast(at as string)", "cast(local as string)", "cast(within.day as string)"]
        rows = rebasing_spark.read.parquet(str(path)).orderBy("id").selectExpr(*spelled).collect()
        moments = [at.astimezone(UTC).strftime("%H:%M:%S.%f") for at in MOMENTS]
        assert [tuple(row) for row in rows] == [
            (day.isoformat(), f"{day} {at}", f"{day} {at}", day.isoformat())
            for day, at in zip(DAYS, moments, strict=True)
        ]

    def test_spark_refuses_or_moves_them_without_what_the_file_says(self, rebasing_spark, tmp_path):
        """Else the entry would be there for nothing."""
        said, unsaid = tmp_path / "said.parquet", tmp_path / "unsaid.parquet"
        said.write_bytes(written(ParquetFormat(), STREAM, [BATCHES["texts"]()]))
        pq.write_table(pq.read_table(said).replace_schema_metadata(None), unsaid, store_schema=False)
        days = rebasing_spark.read.parquet(str(unsaid)).orderBy("id").selectExpr("cast(day as string)")
        mode = rebasing_spark.conf.get("spark.sql.parquet.datetimeRebaseModeInRead")
        if mode == "EXCEPTION":
            with pytest.raises(Exception, match="READ_ANCIENT_DATETIME"):
                days.collect()
        else:
            are_right = [row[0] for row in days.collect()] == [day.isoformat() for day in DAYS]
            assert are_right is (mode == "CORRECTED")

    def test_avro_for_java_finds_them(self, compiled, jars, tmp_path):
        for way, batch in BATCHES.items():
            path = tmp_path / "ancient.avro"
            path.write_bytes(written(AvroFormat(), STREAM, [batch()]))
            classpath = os.pathsep.join([str(compiled("PrintDates.java")), f"{jars}/*"])
            command = ["java", "-cp", classpath, "PrintDates", str(path), "day", "at"]
            printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.split()
            expected = [
                (day.isoformat(), at.isoformat().replace("+00:00", "Z")) for day, at in zip(DAYS, MOMENTS, strict=True)
            ]
            assert printed == [text for row in expected for text in row], way


class TestNamesThatDifferInCaseOnly:
    @pytest.mark.parametrize(
        ("properties", "record"),
        [
            ({"id": {"type": "integer"}, "ID": {"type": "integer"}}, {"id": 1, "ID": 2}),
            (
                {"o": {"type": "object", "properties": {"a": {"type": "integer"}, "A": {"type": "integer"}}}},
                {"o": {"a": 1, "A": 2}},
            ),
        ],
    )
    def test_spark_reads_them_only_where_case_counts(self, spark, file_of, properties, record):
        path = file_of(properties, [record])
        with pytest.raises(Exception, match="COLUMN_ALREADY_EXISTS"):
            spark.read.parquet(path)
        spark.conf.set("spark.sql.caseSensitive", "true")
        try:
            (found,) = by_spark(spark, path)
        finally:
            spark.conf.unset("spark.sql.caseSensitive")
        arrow, _, polars = (rows[0] for rows in by_other_readers(path))
        assert found == arrow == polars
        assert found | record == found or found["o"] | record["o"] == found["o"]

    def test_duckdb_renames_the_second(self, file_of):
        path = file_of({"id": {"type": "integer"}, "ID": {"type": "integer"}}, [{"id": 1, "ID": 2}])
        assert duckdb.sql(f"select id, ID_1 from '{path}'").fetchall() == [(1, 2)]


EMPTY = {
    "tags": {"type": "array", "items": {"type": "string"}},
    "matrix": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    "home": {
        "type": "object",
        "properties": {
            "doors": {"type": "array", "items": {"type": "integer"}},
            "owner": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    },
    "rooms": {"type": "array", "items": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    "free": {"type": "object"},
    "nothing": {"type": "null"},
    "nothings": {"type": "array", "items": {"type": "null"}},
}


def test_every_reader_tells_empty_from_null_at_every_depth(spark, file_of):
    home, owner = {"doors": None, "owner": None, OVERFLOW: None}, {"name": None, OVERFLOW: None}
    room = {"size": None, OVERFLOW: None}
    path = file_of(
        EMPTY,
        [
            {},
            {"tags": [], "matrix": [], "home": {}, "rooms": [], "free": {}, "nothing": None, "nothings": []},
            {"tags": [None], "matrix": [[], None, [None]], "home": {"doors": [], "owner": {}}, "rooms": [None, {}]},
            {"tags": [""], "matrix": [[1]], "home": {"owner": {"name": ""}}, "free": {"a": {}}, "nothings": [None]},
        ],
    )
    absent = dict.fromkeys([*EMPTY, OVERFLOW])
    expected = [
        absent,
        absent | {"tags": [], "matrix": [], "home": home, "rooms": [], "free": {OVERFLOW: None}, "nothings": []},
        absent
        | {"tags": [None], "matrix": [[], None, [None]], "home": home | {"doors": [], "owner": owner}}
        | {"rooms": [None, room]},
        absent
        | {"tags": [""], "matrix": [[1]], "home": home | {"owner": owner | {"name": ""}}}
        | {"free": {OVERFLOW: {"a": "{}"}}, "nothings": [None]},
    ]
    assert by_spark(spark, path) == expected
    for rows in by_other_readers(path):
        assert rows == expected


@pytest.mark.parametrize(
    ("layout", "names"),
    [("named", ["integer", "string", "boolean"]), ("member", ["member0", "member1", "member2"])],
)
def test_every_reader_finds_the_member_of_a_union(spark, file_of, layout, names):
    values = [1, "x", True, None]
    path = file_of(
        {"code": {"type": ["integer", "string", "boolean"]}}, [{"code": each} for each in values], union_layout=layout
    )
    for rows in (by_spark(spark, path), *by_other_readers(path)):
        for number, row in enumerate(rows[:3]):
            assert row["code"] == dict.fromkeys(names) | {names[number]: values[number]}
        assert rows[3]["code"] is None


def test_every_reader_finds_the_exact_text_of_a_number_that_no_double_is(spark, file_of):
    """The column holds the nearest double. The map holds the exact decimal."""
    texts = ["1.10", "12345678901234567.89", "0.1000000000000000055511151231257827", "9007199254740993"]
    path = file_of({"price": {"type": "number"}}, [f'{{"price":{text}}}'.encode() for text in texts])
    for rows in (by_spark(spark, path), *by_other_readers(path)):
        kept = [(row[OVERFLOW] or {}).get("price") for row in rows]
        assert [row["price"] for row in rows] == [float(text) for text in texts]
        exact = [Decimal(text or repr(row["price"])) for text, row in zip(kept, rows, strict=True)]
        assert exact == [Decimal(text) for text in texts]


def test_every_reader_finds_the_entries_of_the_map(spark, file_of):
    path = file_of(
        {"id": {"type": "integer"}}, [{"id": 1, "plan": {"tier": "gold"}, "Größe": None, "": "x"}, {"id": 2}]
    )
    for rows in (by_spark(spark, path), *by_other_readers(path)):
        assert [row[OVERFLOW] for row in rows] == [{"plan": '{"tier":"gold"}', "": "x"}, None]


class TestWhatSparkCannotRead:
    def test_a_time_of_day(self, spark, file_of):
        path = file_of({"wakes": {"type": "string", "format": "time"}}, [{"wakes": "06:30:00"}])
        with pytest.raises(Exception, match="TIME"):
            spark.read.parquet(path).collect()

    def test_brotli(self, spark, file_of):
        path = file_of({"id": {"type": "integer"}}, [{"id": 1}], compression_codec="BROTLI")
        with pytest.raises(Exception, match=r"(?i)brotli"):
            spark.read.parquet(path).collect()
        for rows in by_other_readers(path):
            assert [row["id"] for row in rows] == [1]


@pytest.mark.parametrize("read", [pq.read_table, pl.read_parquet, lambda path: duckdb.sql(f"from '{path}'").fetchall()])
def test_only_spark_and_hadoop_read_lzo(file_of, read):
    path = file_of({"id": {"type": "integer"}}, [{"id": 1}], compression_codec="LZO")
    with pytest.raises(Exception, match=r"(?i)lzo"):
        read(path)
