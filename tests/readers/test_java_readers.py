"""Apache Avro for Java and Spark read what the formats write."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from encoded import USERS, batch_of, stream_of, user, written
from source_oracle import lost

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.settings.formats import AvroFormat, ParquetFormat

pytestmark = [pytest.mark.readers, pytest.mark.timeout(600)]

STREAM = stream_of()
SPARK_STREAM = stream_of({name: schema for name, schema in USERS.items() if name != "wakes"})
"""Spark has no type for a time of day."""
LEVELS = {"Deflate": range(10), "xz": range(10), "zstandard": range(-5, 23)}
"""The compression levels that the page on Avro promises."""
BATCHES = [batch_of(map(user, range(2000))), batch_of(map(user, range(2000, 2100)))]
AVRO = [
    AvroFormat(),
    AvroFormat(codec="bzip2"),
    AvroFormat(codec="snappy"),
    *(AvroFormat(codec=codec, compression_level=level) for codec, levels in LEVELS.items() for level in levels),
    *(AvroFormat(codec="zstandard", compression_level=level, include_checksum=True) for level in (-5, 3, 22)),
]


def test_java_reads_every_avro_codec_and_level(compiled, jars, tmp_path):
    for number, chosen in enumerate(AVRO):
        (tmp_path / f"{number}.avro").write_bytes(written(chosen, STREAM, BATCHES))
    paths = [str(tmp_path / f"{number}.avro") for number in range(len(AVRO))]
    classpath = os.pathsep.join([str(compiled("PrintAvro.java")), f"{jars}/*"])
    printed = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", classpath, "PrintAvro", *paths],
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout.split("\n")
    rows = sum(batch.num_rows for batch in BATCHES)
    files = [printed[start : start + rows + 1] for start in range(0, len(AVRO) * (rows + 1), rows + 1)]
    assert all(lines[:-1] == files[0][:-1] for lines in files)
    assert [lines[-1].split()[1] for lines in files] == [_header_name(chosen) for chosen in AVRO]
    records = [json.loads(line) for line in files[0][:-1]]
    assert [record["id"] for record in records] == list(range(rows))
    assert records[0]["name"] == 'Zoë "0"\n'
    assert records[0]["_airbyte_additional_properties"]["beyond"] == '{"deep":[1.5,null]}'


def _header_name(chosen: AvroFormat) -> str:
    return {"no compression": "null"}.get(chosen.codec, chosen.codec.lower())


@pytest.mark.parametrize("layout", ["named", "member"])
@pytest.mark.parametrize("codec", ["UNCOMPRESSED", "SNAPPY", "GZIP", "LZ4", "ZSTD", "LZO"])
def test_spark_finds_every_value_under_every_parquet_codec(spark, tmp_path, codec, layout):
    path = tmp_path / "users.parquet"
    path.write_bytes(written(ParquetFormat(compression_codec=codec, union_layout=layout), SPARK_STREAM, BATCHES))
    rows = [_plain(row) for row in spark.read.parquet(str(path)).orderBy("_airbyte_emitted_at", "id").collect()]
    kind = record_type(SPARK_STREAM.json_schema, SPARK_STREAM.name, None)
    raws = {json.loads(raw)["id"]: raw.decode() for batch in BATCHES for raw in batch.raws}
    expected = {number: _without(raw, "wakes") for number, raw in raws.items()}
    assert sorted(row["id"] for row in rows) == sorted(expected)
    assert [found for row in rows if (found := lost(kind, row, expected[row["id"]]))] == []


def _without(raw: str, left_out: str) -> str:
    kept = {name: value for name, value in json.loads(raw).items() if name != left_out}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> object:
    """Spark's rows as dicts, and its times, which are local ones without a zone, in UTC."""
    if hasattr(value, "asDict"):
        return {name: _plain(member) for name, member in value.asDict().items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytearray):
        return bytes(value)
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def test_spark_reads_an_lzo_file_of_several_row_groups(spark, tmp_path):
    lzo, plain = tmp_path / "lzo.parquet", tmp_path / "plain.parquet"
    chosen = ParquetFormat(compression_codec="LZO", block_size_mb=1, page_size_kb=16)
    batches = [batch_of(map(user, range(start, start + 4000))) for start in range(0, 12_000, 4000)]
    lzo.write_bytes(written(chosen, SPARK_STREAM, batches))
    plain.write_bytes(written(replace(chosen, compression_codec="UNCOMPRESSED"), SPARK_STREAM, batches))
    frame, expected = (spark.read.parquet(str(path)) for path in (lzo, plain))
    assert frame.orderBy("id").collect() == expected.orderBy("id").collect()


@pytest.mark.parametrize(("shape", "levels"), [("lists", 50), ("objects", 50), ("objects", 97)])
def test_spark_reads_what_nests_deep(spark, tmp_path, shape, levels):
    schema, value = {"type": "integer"}, 5
    for _ in range(levels):
        inner = {"items": schema} if shape == "lists" else {"properties": {"a": schema}}
        schema = {"type": "array" if shape == "lists" else "object", **inner}
        value = [value] if shape == "lists" else {"a": value}
    path = tmp_path / "deep.parquet"
    path.write_bytes(written(ParquetFormat(), stream_of({"deep": schema}), [batch_of([{"deep": value}])]))
    found = spark.read.parquet(str(path)).first()["deep"]
    for _ in range(levels):
        found = json.loads(found) if isinstance(found, str) else found
        found = found[0] if shape == "lists" else found["a"]
    assert int(found) == 5
