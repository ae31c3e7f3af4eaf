"""Diagnostics report which fields of a schema do not arrive as declared, at every level, and why."""

import pytest

from s3dest_dagster.columns.diagnostics import (
    Diagnostic,
    Effect,
    cell_diagnostics,
    column_diagnostics,
    grouped,
    line_diagnostics,
    unknown_type_diagnostics,
)
from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schema_differences import EvolutionRules
from s3dest_dagster.columns.schemas import within_parquet
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.settings.destination import NameStyle
from s3dest_dagster.settings.formats import TypeRules
from s3dest_dagster.settings.schema_contract import SchemaContract

TEXT, MOVED, UTC = Effect.AS_TEXT, Effect.MOVED, Effect.CHANGED
NODE = {"type": "object", "properties": {"next": {"$ref": "#/definitions/node"}, "id": {"type": "integer"}}}


def of_columns(**properties: object) -> dict[str, tuple[Effect, str]]:
    """Effect and new name by field. What the schema does not declare is left out."""
    schema = {"properties": properties, "definitions": {"node": NODE}}
    record = record_type(schema, "users", None)
    diagnostics = list(column_diagnostics(record, within_parquet(record), schema))
    assert diagnostics.pop().field == "*"
    assert all(each.reason for each in diagnostics)
    return {each.field: (each.effect, each.becomes) for each in diagnostics}


@pytest.mark.parametrize(
    "definition",
    [
        {"type": "integer"},
        {"type": ["null", "string"]},
        {"type": "string", "format": "date"},
        {"type": "array", "items": {"type": "number"}},
        {"type": "array", "items": [{"type": "number"}, {"type": "string"}]},
        {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        {"type": "object", "properties": {"b": {"type": "boolean"}}},
        {"$ref": "WellKnownTypes.json#/definitions/String"},
        {"type": "object", "properties": {"text": {"type": "string"}}},
    ],
)
def test_a_field_that_arrives_as_declared_has_no_diagnostic(definition):
    assert of_columns(a=definition) == {}


@pytest.mark.parametrize(
    ("properties", "diagnostics"),
    [
        ({"a b": {"type": "string"}}, {"a b": (Effect.RENAMED, "a_b")}),
        ({"a-b": {"type": "string"}, "a_b": {"type": "string"}}, {"a-b": (Effect.RENAMED, "a_b_d44362")}),
        ({"o": {"type": "object", "properties": {"1": {"type": "string"}}}}, {"o.1": (Effect.RENAMED, "_1")}),
        (
            {"l": {"type": "array", "items": {"type": "object", "properties": {"x y": {"type": "string"}}}}},
            {"l[].x y": (Effect.RENAMED, "x_y")},
        ),
        (
            {"u": {"oneOf": [{"type": "integer"}, {"type": "object", "properties": {"x y": {"type": "string"}}}]}},
            {"u.x y": (Effect.RENAMED, "x_y")},
        ),
        ({"a.b": {"type": "string"}}, {'["a.b"]': (Effect.RENAMED, "a_b")}),
        ({"": {"type": "string"}}, {'[""]': (Effect.RENAMED, "_")}),
        (
            {"l": {"type": "array", "items": {"properties": {"x y": {"type": "string"}}}}},
            {"l[].x y": (Effect.RENAMED, "x_y")},
        ),
        ({"a": {}}, {"a": (TEXT, "")}),
        ({"a": {"type": "datetime"}}, {"a": (TEXT, "")}),
        ({"a": {"type": ["any"]}}, {"a": (TEXT, "")}),
        ({"a": {"type": ["integer", "any"]}}, {"a": (TEXT, "")}),
        ({"a": {"$ref": "#/nowhere"}}, {"a": (TEXT, "")}),
        ({"a": {"$ref": "other.json"}}, {"a": (TEXT, "")}),
        ({"a": {"type": "object"}}, {"a": (MOVED, "")}),
        ({"a": {"type": "array", "items": {"type": "object"}}}, {"a[]": (MOVED, "")}),
        ({"a": {"oneOf": [{"type": "string"}, {"type": "object"}]}}, {"a": (MOVED, "")}),
        ({"a": {"type": []}}, {"a": (MOVED, "")}),
        ({"a": {"type": "null"}}, {"a": (MOVED, "")}),
        ({"a": {"type": "array"}}, {"a": (TEXT, "")}),
        ({"a": {"type": "array", "items": {}}}, {"a": (TEXT, "")}),
        ({"a": {"$ref": "#/definitions/node"}}, {"a.next": (TEXT, "")}),
        ({"at": {"type": "string", "format": "date-time"}}, {"at": (UTC, "")}),
        ({"at": {"type": ["integer", "string"], "format": "time"}}, {}),
        ({"at": {"type": "array", "items": {"type": "string", "format": "time"}}}, {"at[]": (UTC, "")}),
        ({"_airbyte_emitted_at": {"type": "string"}}, {"_airbyte_emitted_at": (MOVED, "")}),
        ({"_ab_additional_properties": {"type": "object"}}, {"_ab_additional_properties": (MOVED, "")}),
    ],
)
def test_each_field_that_differs_is_named_with_its_effect(properties, diagnostics):
    assert of_columns(**properties) == diagnostics


@pytest.mark.parametrize(
    "properties",
    [{"ID": {"type": "string"}, "id": {"type": "string"}}, {"Ü": {"type": "string"}, "u": {"type": "string"}}],
)
def test_columns_that_differ_in_case_only_are_named_with_the_readers_that_fold_them(properties):
    schema = {"properties": {"o": {"type": "object", "properties": properties}, **properties}}
    record = record_type(schema, "users", None)
    found = [each for each in column_diagnostics(record, record, schema) if each.effect is Effect.AMBIGUOUS]
    assert [each.field for each in found] == [*(f"o.{name}" for name in properties), *properties]
    assert all("Spark, DuckDB, Hive, Athena and Glue" in each.reason for each in found)


@pytest.mark.parametrize("style", [NameStyle.SNAKE, NameStyle.LOWER, NameStyle.KEEP])
def test_no_columns_differ_in_case_only_in_another_name_style(style):
    schema = {"properties": {"ID": {"type": "string"}, "id": {"type": "string"}, "iD": {"type": "string"}}}
    record = evolve(StreamColumns(), record_type(schema, "users", None), EvolutionRules(name_style=style)).record
    effects = {each.effect for each in column_diagnostics(record, record, schema)}
    assert Effect.AMBIGUOUS not in effects


def test_a_column_whose_type_is_unknown_is_named():
    schema = {"properties": {"n": {"type": "null"}, "id": {"type": "string"}}}
    record = evolve(StreamColumns(), record_type(schema, "users", None)).record
    (found, _) = column_diagnostics(record, record, schema)
    assert (found.field, found.effect) == ("n", MOVED)
    assert "it gets a column when a value shows another one" in found.reason


def test_fields_of_text_formats_that_differ_in_case_only_are_named():
    schema = {"properties": {"ID": {}, "id": {}, "x": {}}}
    record = record_type(schema, "users", None)
    for found in (line_diagnostics(record, schema), cell_diagnostics(record, schema, keeps_undeclared=True)):
        assert [each.field for each in found if each.effect is Effect.AMBIGUOUS] == ["ID", "id"]


def test_fields_too_deep_for_parquet_are_named_at_the_position_of_the_text():
    deep: dict = {"type": "integer"}
    for _ in range(50):
        deep = {"type": "array", "items": deep}
    assert of_columns(deep=deep) == {"deep" + "[]" * 49: (TEXT, "")}


def test_fields_too_deep_for_any_format_are_named_at_the_position_of_the_text():
    deep: dict = {"type": "integer"}
    for _ in range(101):
        deep = {"type": "object", "properties": {"a": deep}}
    record = record_type({"properties": {"f": deep}}, "s", None)
    found = {each.field: each.effect for each in column_diagnostics(record, record, {"properties": {"f": deep}})}
    assert found["f" + ".a" * 100] == TEXT


def test_a_circular_reference_ends():
    assert of_columns(a={"$ref": "#/properties/b"}, b={"$ref": "#/properties/a"}) == {}


@pytest.mark.parametrize(("kept", "effect"), [(False, Effect.NOT_LANDED), (True, MOVED)])
def test_flattened_csv_reports_fields_without_cells(kept, effect):
    schema = {"properties": {"id": {"type": "integer"}, "o": {"type": "object"}, "_airbyte_ab_id": {}}}
    record = record_type(schema, "users", None)
    found = {each.field: each.effect for each in cell_diagnostics(record, schema, keeps_undeclared=kept)}
    assert found == {"_airbyte_ab_id": effect, "o": TEXT, "*": effect}


def test_flattened_json_lines_keep_everything_and_rename_fields_with_a_taken_name():
    schema = {"properties": {"id": {}, "_airbyte_ab_id": {}, "_airbyte_emitted_at": {}}}
    found = {each.field: each.effect for each in _line_diagnostics(schema)}
    assert found == {"_airbyte_ab_id": MOVED, "_airbyte_emitted_at": MOVED}
    bare = record_type(schema, "users", None, TypeRules(envelope="none"))
    assert list(line_diagnostics(bare, schema)) == []


def _line_diagnostics(schema):
    return line_diagnostics(record_type(schema, "users", None), schema)


@pytest.mark.parametrize("diagnostics", [_line_diagnostics, unknown_type_diagnostics])
@pytest.mark.parametrize("definition", [{"type": "datetime"}, {"$ref": "#/nowhere"}, {"$ref": "other.json"}])
def test_text_formats_keep_and_report_a_value_of_an_unknown_type(diagnostics, definition):
    schema = {"properties": {"a": definition, "b": {"type": "string"}, "c": {"$ref": "#/properties/b"}}}
    assert [(each.field, each.effect) for each in diagnostics(schema)] == [("a", Effect.KEPT)]


def test_diagnostics_are_grouped_by_message_with_value_changes_first():
    diagnostics = [
        Diagnostic("a b", Effect.RENAMED, "signs", "a_b"),
        Diagnostic("at", Effect.CHANGED, "in UTC"),
        Diagnostic("c d", Effect.RENAMED, "signs", "c_d"),
        Diagnostic("x", Effect.NOT_LANDED, "no cell"),
        Diagnostic("until", Effect.CHANGED, "in UTC"),
    ]
    found = [(group.effect, [each.field for each in group.diagnostics]) for group in grouped(diagnostics)]
    assert found == [
        (Effect.NOT_LANDED, ["x"]),
        (Effect.CHANGED, ["at", "until"]),
        (Effect.RENAMED, ["a b", "c d"]),
    ]


@pytest.mark.parametrize(
    ("definition", "contract", "why"),
    [
        ({"type": ["null", "null"]}, SchemaContract(), "null is its only type"),
        ({"type": []}, SchemaContract(), "null is its only type"),
        ({"type": "number", "multipleOf": 0.01}, SchemaContract(), "digits are not known yet"),
        ({"$ref": "#/definitions/price"}, SchemaContract(), "digits are not known yet"),
        ({"type": "string"}, SchemaContract(new_column="discard"), "contract discards new columns"),
    ],
)
def test_a_field_without_a_column_is_told_with_its_reason(definition, contract, why):
    known = evolve(StreamColumns(), record_type({"properties": {"id": {"type": "integer"}}}, "users", None)).columns
    schema = {
        "properties": {"id": {"type": "integer"}, "new": definition},
        "definitions": {"price": {"type": "number", "multipleOf": 0.01}},
    }
    record = evolve(known, record_type(schema, "users", None), EvolutionRules(contract=contract)).record
    first, *_ = column_diagnostics(record, record, schema)
    assert (first.field, first.effect) == ("new", MOVED)
    assert why in first.reason
