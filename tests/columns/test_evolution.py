"""A stream's columns through changes of its schema: names and ids stay, types widen, everything else gets a column."""

from __future__ import annotations

from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schema_differences import Evolution, EvolutionRules
from s3dest_dagster.columns.stream_columns import StreamColumns

INTEGER, NUMBER, TEXT, BOOLEAN, NULL = ({"type": word} for word in ("integer", "number", "string", "boolean", "null"))
DATE, TIMESTAMP = ({"type": "string", "format": word} for word in ("date", "date-time"))


def record(properties: dict):
    return record_type({"properties": properties}, "users", None)


def obj(**properties: dict) -> dict:
    return {"type": "object", "properties": properties}


def history(*schemas: dict, is_live=lambda column: True, **rules) -> Evolution:
    """The outcome of the last schema, after all earlier ones."""
    columns = StreamColumns()
    for schema in schemas:
        evolution = evolve(columns, record(schema), EvolutionRules(stream="users", **rules), is_live=is_live)
        columns = evolution.columns
    return evolution


def columns_of(evolution: Evolution) -> dict[str, str]:
    """Column and type of each landed field."""
    return {field.name: field.kind.words() for field in evolution.record.fields}


def names_of(evolution: Evolution) -> dict[str, str]:
    return {field.source: field.name for field in evolution.record.fields}


def test_two_names_that_become_the_same_keep_their_columns_in_any_order():
    first = history({"+1": INTEGER, "-1": INTEGER})
    second = history({"+1": INTEGER, "-1": INTEGER}, {"-1": INTEGER, "+1": INTEGER})
    assert names_of(first) == names_of(second)
    assert len(set(names_of(first).values())) == 2
    assert names_of(history({"-1": INTEGER, "+1": INTEGER})) == names_of(first)


def test_a_later_name_never_takes_the_name_of_an_earlier_column():
    assert names_of(history({"a-b": TEXT}, {"a_b": TEXT, "a-b": TEXT}))["a-b"] == "a_b"
    assert names_of(history({"a-b": TEXT}, {"a_b": TEXT}))["a_b"] != "a_b"
