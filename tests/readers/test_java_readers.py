"""Apache Avro for Java and Spark read what the formats write."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace

import pytest
from written import USERS, batch_of, stream_of, user, written

from s3dest_dagster.destination import AvroFormat, ParquetFormat

pytestmark = [pytest.mark.readers, pytest.mark.timeout(300)]

STREAM = stream_of()
SPARK_STREAM = stream_of({name: schema for name, schema in USERS.items() if name not in ("nothing", "wakes")})
"""Spark has no type for a column of nulls alone, nor for a time of day."""
BATCHES = [batch_of(map(user, range(2000))), batch_of(map(user, range(2000, 2100)))]
AVRO = [
    AvroFormat(),
    *(AvroFormat(codec="Deflate", compression_level=level) for level in range(10)),
    AvroFormat(codec="bzip2"),
    *(AvroFormat(codec="xz", compression_level=level) for level in (0, 6, 9)),
    *(AvroFormat(codec="zstandard", compression_level=level, include_checksum=True) for level in (-5, 3, 22)),
    AvroFormat(codec="snappy"),
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
def test_spark_reads_every_parquet_codec(spark, tmp_path, codec, layout):
    path = tmp_path / "users.parquet"
    chosen = ParquetFormat(compression_codec=codec, union_layout=layout, block_size_mb=1)
    path.write_bytes(written(chosen, SPARK_STREAM, BATCHES))
    plain = tmp_path / "plain.parquet"
    plain.write_bytes(written(replace(chosen, compression_codec="UNCOMPRESSED"), SPARK_STREAM, BATCHES))
    frame, expected = (spark.read.parquet(str(each)) for each in (path, plain))
    assert frame.count() == 2100
    assert frame.orderBy("id").collect() == expected.orderBy("id").collect()
    first = frame.where("id = 1").first()
    assert first["name"] == 'Zoë "1"\n'
    assert first["tags"] == ["a"]
