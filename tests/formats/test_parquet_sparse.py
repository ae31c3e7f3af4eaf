"""Files of very many columns, most of them without values, are the files that pyarrow's writer would make."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded import batch_of, stream_of, written
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.formats.parquet_columns import physical_type
from s3dest_dagster.formats.parquet_file import WholeFile
from s3dest_dagster.formats.parquet_lzo import without_lzo
from s3dest_dagster.formats.parquet_sparse import MOST_WHOLE_COLUMNS, SparseFile, SparseSchema
from s3dest_dagster.formats.protocol import Sink
from s3dest_dagster.settings.formats import ParquetFormat

SCALARS = {
    pa.string(): "text",
    pa.binary(): b"bytes",
    pa.bool_(): True,
    pa.int32(): -3,
    pa.int64(): 1 << 60,
    pa.float32(): 0.5,
    pa.float64(): 0.1,
    pa.date32(): 20_000,
    pa.time64("us"): 5,
    pa.timestamp("us", "UTC"): 10**15,
    pa.decimal128(38, 9): None,
}
UNUSED = [pa.string(), pa.list_(pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))])), pa.bool_()]
METADATA = {"key": "välue"}


def random_type(random: Random, levels: int) -> pa.DataType:
    below = random.randrange(6) if levels else 5
    if below == 0:
        return pa.list_(random_type(random, levels - 1))
    if below == 1:
        return pa.map_(pa.string(), pa.string())
    if below < 4:
        return pa.struct([(f"m{n}", random_type(random, levels - 1)) for n in range(1 + random.randrange(3))])
    return random.choice([*SCALARS])


def random_value(random: Random, type_: pa.DataType, nulls: dict[str, float], path: str = "") -> object:
    """A value whose parts are null with a probability of their own: always, never or sometimes."""
    if random.random() < nulls.setdefault(path, random.choice((0, 0.4, 0.97, 1))):
        return None
    if pa.types.is_struct(type_):
        return {field.name: random_value(random, field.type, nulls, f"{path}.{field.name}") for field in type_}
    if pa.types.is_map(type_):
        return [(f"k{n}", random.choice(("v", None))) for n in range(random.randrange(3))]
    if pa.types.is_list(type_):
        return [random_value(random, type_.value_type, nulls, f"{path}[]") for _ in range(random.randrange(4))]
    return SCALARS[type_]


def random_rows(random: Random, count: int) -> pa.Table:
    """Rows in several batches, one of which is a slice, with more columns that never have a value."""
    used = [pa.field("key", pa.string(), nullable=False)]
    used += [pa.field(f"f{n}", random_type(random, 3)) for n in range(1 + random.randrange(4))]
    schema = pa.schema([*used, *(pa.field(f"u{n}", UNUSED[n % 3]) for n in range(MOST_WHOLE_COLUMNS))])
    nulls: dict[str, float] = {"key": 0}
    rows = [{f.name: random_value(random, f.type, nulls, f.name) for f in used} for _ in range(count)]
    data = pa.RecordBatch.from_arrays(
        [
            pa.array([row.get(field.name) for row in rows], field.type)
            if field in used
            else pa.nulls(count, field.type)
            for field in schema
        ],
        schema=schema,
    )
    cut = random.randrange(count + 1)
    return pa.Table.from_batches([data.slice(0, cut), data.slice(cut)])


def sparse_file(sink: Sink, settings: ParquetFormat, schema: pa.Schema, metadata: Mapping[str, str]) -> SparseFile:
    shared = SparseSchema.of(schema)
    assert shared is not None
    return SparseFile(sink, settings, shared, metadata)


def file_bytes(
    make: Callable[..., Any], settings: ParquetFormat, schema: pa.Schema, groups: Iterable[pa.Table]
) -> bytes:
    out = bytearray()
    file = make(out.extend, settings, schema, METADATA)
    for rows in groups:
        file.write(rows)
    file.close()
    return bytes(out)


def column_facts(data: bytes) -> list[tuple[object, ...]]:
    """What the footer says about each column of each row group, save how its values are encoded."""
    metadata = pq.read_metadata(io.BytesIO(data))
    chunks = [
        (metadata.row_group(group).column(number), metadata.schema.column(number))
        for group in range(metadata.num_row_groups)
        for number in range(metadata.num_columns)
    ]
    return [
        (c.path_in_schema, c.physical_type, c.compression, c.num_values, null_count(c, column)) for c, column in chunks
    ]


def null_count(chunk: pq.ColumnChunkMetaData, column: pq.ColumnSchema) -> int | None:
    """The nulls according to the footer, or None where pyarrow's own count is wrong."""
    if column.max_repetition_level and int(pa.__version__.split(".")[0]) < 26:  # null lists were not counted
        return None
    return chunk.statistics and chunk.statistics.null_count


@given(seed=st.integers(0, 2**32), codec=st.sampled_from(["SNAPPY", "UNCOMPRESSED", "GZIP", "ZSTD", "LZ4", "BROTLI"]))
def test_a_file_of_many_columns_is_the_one_that_pyarrow_writes(seed, codec):
    random = Random(seed)
    rows = random_rows(random, 1 + random.randrange(40))
    settings = ParquetFormat(compression_codec=codec)
    groups = [rows, rows.slice(len(rows) // 2)]
    ours = file_bytes(sparse_file, settings, rows.schema, groups)
    pyarrows = file_bytes(WholeFile, settings, rows.schema, groups)
    read = pq.ParquetFile(io.BytesIO(ours))
    assert read.read().equals(pa.concat_tables(groups))
    assert read.schema.equals(pq.ParquetFile(io.BytesIO(pyarrows)).schema)
    assert read.metadata.metadata == {key.encode(): value.encode() for key, value in METADATA.items()}
    assert column_facts(ours) == column_facts(pyarrows)


def test_only_files_of_many_columns_are_written_in_this_way():
    assert SparseSchema.of(pa.schema([("a", pa.string())])) is None
    assert SparseSchema.of(random_rows(Random(1), 1).schema) is not None


def test_duckdb_reads_the_same_values(tmp_path):
    for seed in range(5):
        rows = random_rows(Random(seed), 300)
        tables = []
        for make in (sparse_file, WholeFile):
            path = tmp_path / f"{seed}-{make.__name__}.parquet"
            path.write_bytes(file_bytes(make, ParquetFormat(), rows.schema, [rows]))
            tables.append(duckdb.connect().execute(f"SELECT * FROM read_parquet('{path}')").fetchall())
        assert tables[0] == tables[1]


@pytest.mark.parametrize("type_", [*SCALARS, pa.null(), pa.float16(), pa.time32("ms"), pa.decimal256(50)], ids=str)
def test_the_physical_types_are_those_of_pyarrow(type_):
    out = io.BytesIO()
    pq.write_table(pa.table({"a": pa.nulls(1, type_)}), out)
    names = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
    assert names[physical_type(type_)] == pq.read_metadata(out).row_group(0).column(0).physical_type


def test_pages_without_values_end_at_the_page_size_and_between_records():
    count = 30_000
    schema = pa.schema([("lists", pa.list_(pa.struct([("a", pa.int64()), ("b", pa.string())]))), *_unused()])
    lists = [[{"a": n, "b": None}] * (n % 4) if n % 5 else None for n in range(count)]
    rows = pa.table([pa.array(lists, schema[0].type), *(pa.nulls(count, f.type) for f in _unused())], schema)
    data = file_bytes(sparse_file, ParquetFormat(page_size_kb=1), schema, [rows])
    column = pq.read_metadata(io.BytesIO(data)).row_group(0).column(1)
    assert column.path_in_schema == "lists.list.element.b"
    # 41,000 entries have a repetition level of 1 bit and a definition level of 3.
    assert column.total_uncompressed_size > 20 * 1024
    assert pq.read_table(io.BytesIO(data)).equals(rows)
    one_page = file_bytes(sparse_file, ParquetFormat(), schema, [rows])
    assert pq.read_table(io.BytesIO(one_page)).equals(rows)
    assert (
        column.total_uncompressed_size
        > pq.read_metadata(io.BytesIO(one_page)).row_group(0).column(1).total_uncompressed_size
    )


def _unused() -> list[pa.Field]:
    return [pa.field(f"u{n}", pa.string()) for n in range(MOST_WHOLE_COLUMNS)]


@pytest.mark.parametrize("groups", [0, 2])
def test_a_file_may_have_no_value_at_all(groups):
    schema = pa.schema([*_unused(), pa.field("s", pa.struct([("a", pa.int64())]))])
    rows = pa.table(
        [*(pa.nulls(3, field.type) for field in _unused()), pa.array([{}, None, {"a": None}], schema[-1].type)], schema
    )
    data = file_bytes(sparse_file, ParquetFormat(), schema, [rows] * groups)
    assert pq.read_table(io.BytesIO(data)).equals(pa.concat_tables([rows] * groups or [schema.empty_table()]))


def test_lzo_compresses_the_pages_without_values():
    properties = {f"u{n}": {"type": "array", "items": {"type": "string"}} for n in range(MOST_WHOLE_COLUMNS)}
    stream = stream_of({"text": {"type": "string"}, **properties})
    batch = batch_of([{"text": f"row {n}"} for n in range(100)])
    data = written(ParquetFormat(compression_codec="LZO"), stream, [batch])
    table = pq.read_table(io.BytesIO(without_lzo(data)))
    assert table.column("text").to_pylist() == [f"row {n}" for n in range(100)]
    assert table.column("u7").null_count == 100


def test_a_discarded_file_stays_incomplete():
    rows = random_rows(Random(3), 50)
    out = bytearray()
    file = sparse_file(out.extend, ParquetFormat(), rows.schema, METADATA)
    file.write(rows)
    before = bytes(out)
    del file
    gc.collect()
    assert bytes(out) == before
    assert not before.endswith(b"PAR1")
