"""Undeclared fields can be dropped: they are counted as always, and their values are nowhere."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from s3dest_dagster.batch import ArrowBatch, JsonBatch, Tally
from s3dest_dagster.columns.conversion_log import tally_of
from s3dest_dagster.columns.converter import Converted, RecordConverter, convert_record
from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.schema_differences import EvolutionRules
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.settings.schema_contract import SchemaContract

INTEGER = {"type": "integer"}
INNER = {"type": "object", "properties": {"x": INTEGER}}
SCHEMA = {"properties": {"id": INTEGER, "o": INNER, "l": {"type": "array", "items": INNER}}}
RECORD = b'{"id":%d,"SECRET":"S1","o":{"x":1,"SECRET":["S2"]},"l":[{"x":"misfit","SECRET":3.5}]}'
REPEATED = b'{"id":1,"SECRET":"S1","SECRET":"S2","_airbyte_additional_properties":{"own":"S3"}}'


def record(**verdicts: str) -> Record:
    rules = EvolutionRules(contract=SchemaContract(**verdicts))
    return evolve(StreamColumns(), record_type(SCHEMA, "users", None), rules).record


DROPPING = record(undeclared_field="discard")


def converted(raws: list[bytes], type_: Record) -> Converted:
    return RecordConverter(type_, layout=Layout.NAMED).convert(JsonBatch(raws, np.zeros(len(raws), np.int64), 1))


def texts(result: Converted) -> str:
    return json.dumps(result.data.to_pylist())


def test_undeclared_fields_are_kept_by_default():
    assert "S1" in texts(converted([RECORD % 1], record()))
    assert not record().drops_undeclared


@pytest.mark.parametrize("rows", [1, 500])
def test_dropped_fields_are_counted_and_nowhere_in_the_columns(rows):
    raws = [RECORD % number for number in range(rows)]
    dropped, kept = converted(raws, DROPPING), converted(raws, record())
    assert "SECRET" not in texts(dropped)
    assert dropped.tally == kept.tally
    assert dropped.tally.undeclared == {"SECRET": rows, "o.SECRET": rows, "l.SECRET": rows}
    assert dropped.data.column("id") == kept.data.column("id")


def test_values_that_do_not_fit_are_kept_all_the_same():
    (row,) = converted([b'{"id":"misfit","SECRET":1}'], DROPPING).data.to_pylist()
    assert row["_airbyte_additional_properties"] == [("id", "misfit")]


def test_repeated_and_own_entries_are_dropped_too():
    result = converted([REPEATED], DROPPING)
    assert "S" not in texts(result).replace("SECRET", "")
    assert result.tally == converted([REPEATED], record()).tally


def test_one_record_is_converted_alike():
    values, entries = convert_record(DROPPING, RECORD % 1, layout=Layout.NAMED)
    assert "SECRET" not in repr(values)
    assert entries == convert_record(record(), RECORD % 1, layout=Layout.NAMED)[1]


def test_arrow_columns_are_dropped_alike():
    rows: list[dict[str, Any]] = [{"id": 1, "SECRET": "S1", "o": {"x": 1, "SECRET": "S2"}}]
    batch = ArrowBatch(pa.RecordBatch.from_pylist(rows), np.zeros(1, np.int64))
    result = RecordConverter(DROPPING, layout=Layout.NAMED).convert(batch)
    assert "SECRET" not in texts(result)
    assert result.tally.undeclared == {"SECRET": 1, "o.SECRET": 1}


def test_a_stream_without_a_schema_has_no_undeclared_fields():
    rules = EvolutionRules(is_declared=False, contract=SchemaContract(undeclared_field="discard"))
    assert not evolve(StreamColumns(), record_type(SCHEMA, "users", None), rules).record.drops_undeclared


def test_more_names_than_a_tally_has_are_counted_as_the_rules_count_them():
    """Names that never repeat, at two levels, besides one that is called like the tally's entry for the others."""
    levels = [{f"name_{9 - row % 10}_{row}_{each}": each for each in range(3)} | {"…": row} for row in range(200)]
    raws = [json.dumps({"o": level, f"other_{row}": row, "…": 1}).encode() for row, level in enumerate(levels)]
    type_ = record()
    tally = converted(raws, type_).tally
    assert tally == tally_of(Counter(entry for raw in raws for entry in convert_record(type_, raw)[1]))
    assert len(tally.undeclared) == Tally.MAX_NAMES + 1
    assert sum(tally.undeclared.values()) == 200 * 6
