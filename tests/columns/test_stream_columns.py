"""What a stream remembers of its columns survives as compact JSON, and holds through any history of schemas."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import schemas

from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.record import Field
from s3dest_dagster.columns.record_json import record_from_json, record_to_json
from s3dest_dagster.columns.schema_differences import Evolution, EvolutionRules
from s3dest_dagster.columns.stream_columns import StreamColumns, records_in
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.settings.destination import NameStyle

SOURCES = st.sampled_from(["id", "ID", "a-b", "a_b", "a b", "+1", "-1", "名前", "住所", "é", "_1", "a_b_string", "x.y"])
PROPERTIES = st.dictionaries(SOURCES, schemas(), max_size=6)
RULES = st.builds(
    EvolutionRules,
    is_declared=st.booleans(),
    is_typed=st.booleans(),
    keeps_unknown=st.booleans(),
    name_style=st.sampled_from(NameStyle),
)


def step(known: StreamColumns, properties: dict[str, Any], rules: EvolutionRules, is_live: bool) -> Evolution:
    proposed = record_type({"properties": properties}, "users", None)
    return evolve(known, proposed, rules, is_live=lambda column: is_live)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def owners(fields: tuple[Field, ...], path: str = "") -> dict[tuple[str, str], str]:
    """The source of each name at each level. A name that two columns share fails."""
    found: dict[tuple[str, str], str] = {}
    for field in fields:
        assert (path, field.name) not in found
        found[path, field.name] = field.source
        for number, record in enumerate(records_in(field.kind)):
            found |= owners(record.fields, f"{path}/{field.id}.{number}")
    return found


@given(st.lists(st.tuples(PROPERTIES, RULES, st.booleans()), min_size=1, max_size=5))
def test_names_and_ids_hold_through_any_history_of_schemas(history):
    columns = StreamColumns()
    for properties, rules, is_live in history:
        before = {field.id: field for field in columns.all_fields()}
        evolution = step(columns, properties, rules, is_live)
        columns = evolution.columns
        owners(columns.fields)
        ids = [field.id for field in columns.all_fields()]
        assert len(set(ids)) == len(ids)
        assert all(0 < number < columns.next_id for number in ids)
        for field in columns.all_fields():
            if field.id in before:
                assert (field.name, field.source) == (before[field.id].name, before[field.id].source)
        if rules.is_typed:
            remembered = {field.id: field for field in columns.all_fields()}
            assert all(remembered[field.id].name == field.name for field in evolution.record.fields)
        assert {field.source for field in columns.current()} >= properties.keys()
        assert step(columns, properties, rules, is_live).columns == columns
        assert StreamColumns.from_json(through_json(columns.to_json())) == columns
        assert record_from_json(through_json(record_to_json(evolution.record))) == evolution.record


@given(PROPERTIES, PROPERTIES, RULES, st.randoms())
def test_names_do_not_depend_on_the_order_of_properties(first, second, rules, random):
    def names(shuffled: bool) -> dict[str, tuple[str, str]]:
        columns = StreamColumns()
        for properties in (first, second):
            pairs = list(properties.items())
            if shuffled:
                random.shuffle(pairs)
            columns = step(columns, dict(pairs), rules, is_live=True).columns
        return {field.source: (field.name, field.kind.words()) for field in columns.current()}

    ordered, shuffled = names(shuffled=False), names(shuffled=True)
    assert {source: name for source, (name, _) in ordered.items()} == {s: name for s, (name, _) in shuffled.items()}


@given(PROPERTIES)
def test_any_record_type_survives_as_json(properties):
    record = record_type({"properties": properties}, "a-b", "n s")
    for each in (record, replace(record, envelope="none")):
        assert record_from_json(through_json(record_to_json(each))) == each


def test_two_thousand_columns_need_less_than_200_kb():
    names = [f"Some property with a rather long name, number {number:04}" for number in range(2_000)]
    properties = {name: {"type": "string", "format": "date-time"} for name in names}
    columns = step(StreamColumns(), properties, EvolutionRules(), is_live=True).columns
    assert len(json.dumps(columns.to_json(), separators=(",", ":")).encode()) < 200_000


def test_a_memory_says_in_few_words_what_each_column_is():
    properties = {
        "id": {"type": "integer"},
        "a-b": {"type": "string"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"x y": {"type": "number"}}}},
        "u": {"type": ["integer", "string"]},
    }
    columns = step(StreamColumns(), properties, EvolutionRules(), is_live=True).columns
    columns = step(columns, {**properties, "id": {"type": "string"}}, EvolutionRules(), is_live=True).columns
    assert columns.with_big_integers([1]).to_json() == {
        "fields": [
            ["id", 1, "integer"],
            ["a-b", 2, "string", None],
            ["lines", 3, ["array", ["object", [["x y", 4, "number", None]]]]],
            ["u", 5, ["union", "integer", "string"]],
            ["id", 6, "string", "id_string"],
        ],
        "next_id": 7,
        "retired": [1],
        "big_integers": [1],
        "is_typed": True,
        "envelope": "airbyte_0",
    }


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"fields": [["a", 1]], "next_id": 2},
        {"fields": [["a", 1, "hologram"]], "next_id": 2},
        {"fields": [["a", 1, ["hologram", "string"]]], "next_id": 2},
    ],
)
def test_a_memory_of_a_newer_version_is_refused(value):
    with pytest.raises(ManifestError, match="use that version or a newer one"):
        StreamColumns.from_json(value)
