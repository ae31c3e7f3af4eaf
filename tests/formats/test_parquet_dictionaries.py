"""Columns of Parquet whose values repeat have dictionaries, and those whose values hardly repeat do without."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded import EMITTED_AT, written

from s3dest_dagster.batch import ArrowBatch
from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.formats.parquet_dictionaries import dictionary_columns
from s3dest_dagster.settings.formats import ParquetFormat
from s3dest_dagster.stream import Stream

ROWS = 60_000
DICTIONARY_KB = 64
LARGEST = DICTIONARY_KB << 10
NUMBERS = np.arange(ROWS)
RANDOM = np.random.default_rng(7)


def file_of(data: pa.RecordBatch, **settings: object) -> pq.ParquetFile:
    stream = Stream(name="rows", json_schema=json_schema_of_arrow(data.schema))
    # Two batches, so that the rows of the first row group lie in several parts.
    halves = [data.slice(0, data.num_rows // 2), data.slice(data.num_rows // 2)]
    batches = [ArrowBatch(half, np.full(half.num_rows, EMITTED_AT)) for half in halves]
    chosen = ParquetFormat(dictionary_page_size_kb=DICTIONARY_KB, **settings)  # type: ignore[arg-type]
    return pq.ParquetFile(io.BytesIO(written(chosen, stream, batches)))


def with_dictionaries(file: pq.ParquetFile) -> set[str]:
    group = file.metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    return {column.path_in_schema for column in columns if column.has_dictionary_page}


def test_only_columns_whose_values_repeat_have_dictionaries():
    data = {
        "id": pa.array(NUMBERS),
        "moment": pa.array(RANDOM.permutation(NUMBERS)).cast(pa.timestamp("us", "UTC")),
        "email": pa.array([f"user{number}@example.com" for number in NUMBERS]),
        "status": pa.array([("open", "paid", "sent")[number % 3] for number in NUMBERS]),
        "batch": pa.array(NUMBERS // 20),
        "mostly_null": pa.array([number if number % 10 == 0 else None for number in NUMBERS], pa.int64()),
    }
    file = file_of(pa.RecordBatch.from_pydict(data))
    found = with_dictionaries(file)
    assert {"status", "batch", "_airbyte_emitted_at"} <= found
    assert not found & {"id", "moment", "email", "_airbyte_ab_id"}
    assert file.read().select(list(data)).to_pydict() == pa.table(data).to_pydict()


@pytest.mark.parametrize("order", ["in turns", "in runs", "random"])
@pytest.mark.parametrize(("type_", "width"), [(pa.int64(), 8), (pa.float32(), 4)])
def test_a_dictionary_that_fits_is_kept_in_any_order_of_the_values(type_, width, order):
    distinct = LARGEST * 9 // 10 // width
    values = {
        "in turns": NUMBERS % distinct,
        "in runs": np.sort(NUMBERS % distinct),
        "random": RANDOM.permutation(NUMBERS % distinct),
    }[order]
    rows = pa.table({"x": pa.array(values).cast(type_)})
    assert dictionary_columns(rows, LARGEST) == ["x"]


def test_a_dictionary_that_will_not_fit_is_not_begun():
    values = RANDOM.permutation(NUMBERS % (LARGEST * 3 // 8))
    assert dictionary_columns(pa.table({"x": values}), LARGEST) == []


def test_frequent_values_among_many_rare_ones_keep_their_dictionary():
    values = np.where(RANDOM.random(ROWS) < 0.5, 7, NUMBERS)
    assert dictionary_columns(pa.table({"x": values}), LARGEST) == ["x"]


def test_columns_within_others_keep_their_dictionaries():
    item = {"a": 1, "b": ["x"]}
    data = pa.RecordBatch.from_pydict({"id": NUMBERS, "list": [[item]] * ROWS, "struct": [item] * ROWS})
    found = with_dictionaries(file_of(data))
    inner = {"list.list.element.a", "list.list.element.b.list.element", "struct.a", "struct.b.list.element"}
    assert inner <= found
    assert "id" not in found
    overflow = "_airbyte_additional_properties.key_value."
    assert {overflow + "key", overflow + "value"} & found == {overflow + "key", overflow + "value"}


def test_small_files_keep_all_dictionaries_but_that_of_the_ids():
    data = pa.RecordBatch.from_pydict({"id": NUMBERS[:500]})
    assert with_dictionaries(file_of(data)) >= {"id"}
    assert "_airbyte_ab_id" not in with_dictionaries(file_of(data))


def test_no_column_has_a_dictionary_if_dictionaries_are_off():
    data = pa.RecordBatch.from_pydict({"status": ["open"] * ROWS})
    assert not with_dictionaries(file_of(data, dictionary_encoding=False))
