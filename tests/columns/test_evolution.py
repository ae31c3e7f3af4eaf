"""A stream's columns through changes of its schema: names and ids stay, types widen, everything else gets a column."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schema_differences import Evolution, EvolutionRules
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.destination import NameStyle
from s3dest_dagster.settings.formats import TypeRules

INTEGER, NUMBER, TEXT, BOOLEAN, NULL = ({"type": word} for word in ("integer", "number", "string", "boolean", "null"))
DATE, TIMESTAMP = ({"type": "string", "format": word} for word in ("date", "date-time"))
FLOAT = {"type": "number", "airbyte_type": "float"}


def of(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def items(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def one_of(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": list(schemas)}


def history(*schemas: dict[str, Any], is_live: bool = True, known: StreamColumns | None = None, **rules) -> Evolution:
    """The outcome of the last schema, after all earlier ones."""
    columns = known or StreamColumns()
    for schema in schemas:
        proposed = record_type({"properties": schema}, "users", None)
        evolution = evolve(columns, proposed, EvolutionRules(stream="users", **rules), is_live=lambda column: is_live)
        columns = evolution.columns
    return evolution


def landed(evolution: Evolution) -> dict[str, str]:
    """Column and type of each field that lands."""
    return {field.name: field.kind.words() for field in evolution.record.fields}


def names(evolution: Evolution) -> dict[str, str]:
    return {field.source: field.name for field in evolution.record.fields}


def changes(evolution: Evolution) -> list[tuple[str, str, str, str]]:
    return [(str(each.difference), each.field, each.before, each.now) for each in evolution.changes]


def suffix(source: str) -> str:
    return f"_{sha256(source.encode()).hexdigest()[:6]}"


# ---------------------------------------------------------------------- names


def test_names_that_become_the_same_keep_their_columns_in_any_order():
    first = history({"+1": INTEGER, "-1": INTEGER})
    assert names(first) == {"+1": "_1" + suffix("+1"), "-1": "_1" + suffix("-1")}
    assert names(history({"-1": INTEGER, "+1": INTEGER})) == names(first)
    assert names(history({"+1": INTEGER, "-1": INTEGER}, {"-1": INTEGER, "+1": INTEGER})) == names(first)


def test_a_later_property_never_gets_the_name_of_an_earlier_one():
    assert names(history({"a-b": TEXT}, {"a_b": TEXT, "a-b": TEXT})) == {"a-b": "a_b", "a_b": "a_b" + suffix("a_b")}


def test_the_name_of_a_dropped_property_stays_reserved():
    assert names(history({"a-b": TEXT}, {"a_b": TEXT})) == {"a_b": "a_b" + suffix("a_b")}


def test_a_property_that_comes_back_has_its_column_again():
    once, again = history({"a-b": TEXT, "c": TEXT}), history({"a-b": TEXT, "c": TEXT}, {"c": TEXT}, {"a-b": TEXT})
    assert again.record.fields[0] == once.record.fields[0]


def test_names_in_nested_objects_and_in_lists_of_objects_are_remembered_alike():
    one = {"o": of(**{"a-b": TEXT}), "l": items(of(**{"a-b": TEXT}))}
    two = {"o": of(**{"a_b": TEXT, "a-b": TEXT}), "l": items(of(**{"a_b": TEXT, "a-b": TEXT}))}
    record = history(one, two).record
    for inner in (record.fields[0].kind, record.fields[1].kind.item):
        assert {f.source: f.name for f in inner.fields} == {"a-b": "a_b", "a_b": "a_b" + suffix("a_b")}


def test_a_name_of_the_envelope_is_a_column_only_without_an_envelope():
    schema, columns, found = {"properties": {"_airbyte_ab_id": TEXT, "id": INTEGER}}, StreamColumns(), []
    for envelope in ("none", "airbyte_0", "none"):
        proposed = record_type(schema, "users", None, TypeRules(envelope=envelope))
        evolution = evolve(columns, proposed, EvolutionRules(stream="users", keeps_missing=True))
        columns = evolution.columns
        found.append(list(landed(evolution)))
    assert found == [["_airbyte_ab_id", "id"], ["id"], ["_airbyte_ab_id", "id"]]


def test_new_columns_come_last():
    assert list(names(history({"b": TEXT, "a": TEXT}, {"c": TEXT, "a": TEXT, "b": TEXT}))) == ["b", "a", "c"]


def test_the_same_schema_changes_nothing():
    schema = {"a": TEXT, "a-b": INTEGER, "o": of(x=items(of(y=TEXT))), "u": one_of(INTEGER, TEXT), "n": NULL}
    once = history(schema)
    again = history(schema, known=once.columns)
    assert again.columns == once.columns
    assert again.record == once.record
    assert changes(again) == []


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (NameStyle.CONNECTOR, {"userId": "userId", "USERID": "USERID"}),
        (NameStyle.SNAKE, {"userId": "user_id", "USERID": "userid"}),
        (NameStyle.LOWER, {"userId": "userid" + suffix("userId"), "USERID": "userid" + suffix("USERID")}),
        (NameStyle.KEEP, {"userId": "userId" + suffix("userId"), "USERID": "USERID" + suffix("USERID")}),
    ],
)
def test_a_style_applies_to_new_names_at_every_level(style, expected):
    both = {"userId": TEXT, "USERID": TEXT}
    record = history({**both, "o": of(**both)}, name_style=style).record
    assert {f.source: f.name for f in record.fields if f.source != "o"} == expected
    assert {f.source: f.name for f in record.fields[-1].kind.fields} == expected


def test_another_style_leaves_the_names_of_columns_alone():
    known = history({"userId": TEXT}).columns
    evolution = history({"userId": TEXT, "orderId": TEXT}, known=known, name_style=NameStyle.SNAKE)
    assert names(evolution) == {"userId": "userId", "orderId": "order_id"}


def test_a_new_name_that_differs_from_an_old_one_in_case_only_gets_a_suffix():
    known = history({"ID": TEXT}).columns
    evolution = history({"ID": TEXT, "id": TEXT}, known=known, name_style=NameStyle.LOWER)
    assert names(evolution) == {"ID": "ID", "id": "id" + suffix("id")}


def test_names_of_the_envelope_and_the_overflow_are_never_given():
    found = names(history({"_airbyte-ab_id": TEXT}, name_style=NameStyle.KEEP, rename={}))
    assert found == {"_airbyte-ab_id": "_airbyte-ab_id"}
    assert names(history({"_airbyte ab_id": TEXT}))["_airbyte ab_id"] != "_airbyte_ab_id"


def test_a_user_names_a_column():
    schema = {"a-b": TEXT, "o": of(x=TEXT), "l": items(of(x=TEXT))}
    given = {("a-b",): "label", ("o", "x"): "inner", ("l", None, "x"): "item"}
    record = history(schema, rename=given).record
    assert record.fields[0].name == "label"
    assert record.fields[1].kind.fields[0].name == "inner"
    assert record.fields[2].kind.item.fields[0].name == "item"


def test_a_user_renames_a_column_that_has_landed():
    known = history({"a": TEXT}).columns
    renamed = history({"a": TEXT}, known=known, rename={("a",): "label"})
    assert names(renamed) == {"a": "label"}
    assert changes(renamed) == [("renamed", "a", "string", "string")]
    back = history({"a": TEXT, "label": TEXT}, known=renamed.columns, rename={("a",): "a"})
    assert names(back) == {"a": "a", "label": "label" + suffix("label")}
    assert back.record.fields[0].id == known.fields[0].id


@pytest.mark.parametrize("name", ["b", "_airbyte_emitted_at", "gone"])
def test_a_user_cannot_give_a_name_that_another_column_has(name):
    known = history({"gone": TEXT, "b": TEXT}).columns
    with pytest.raises(SettingsError, match=f"the column '{name}', which another field has or had"):
        history({"a": TEXT, "b": TEXT}, known=known, rename={("a",): name})


def test_records_in_avro_keep_their_names_and_have_distinct_ones():
    first = history({"a": items(of(x=TEXT))})
    second = history({"a_items": of(x=TEXT), "a": items(of(x=TEXT))}, known=first.columns)
    assert first.record.fields[0].kind.item.name == "a_items"
    by_source = {field.source: field.kind for field in second.record.fields}
    assert by_source["a"].item.name == "a_items"
    assert by_source["a_items"].name == "a_items" + suffix("a_items")


# ---------------------------------------------------------------------- types


@pytest.mark.parametrize(
    ("old", "new", "type_"),
    [
        (INTEGER, NUMBER, "number"),
        (INTEGER, FLOAT, "number"),
        (NUMBER, INTEGER, "number"),
        (FLOAT, FLOAT, "float"),
        (NUMBER, FLOAT, "number"),
        (DATE, TIMESTAMP, "timestamp"),
        (NULL, TEXT, "string"),
        (TEXT, NULL, "string"),
        (items(NULL), items(INTEGER), "array of integer"),
        (items(INTEGER), items(NUMBER), "array of number"),
        (items(INTEGER), items(NULL), "array of integer"),
        (NULL, items(INTEGER), "array of integer"),
        (items(NULL), TEXT, "string"),
        (of(a=TEXT), of(b=TEXT), "object (b)"),
        (one_of(TEXT, INTEGER), INTEGER, "string or integer"),
        (one_of(TEXT, INTEGER), BOOLEAN, "string or integer or boolean"),
        (one_of(TEXT, INTEGER), one_of(INTEGER, BOOLEAN), "string or integer or boolean"),
    ],
)
def test_a_type_that_holds_both_stays_in_the_column(old, new, type_):
    assert landed(history({"a": old}, {"a": new})) == {"a": type_}


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        (INTEGER, TEXT, "a_string"),
        (TEXT, INTEGER, "a_integer"),
        (FLOAT, NUMBER, "a_number"),
        (FLOAT, INTEGER, "a_integer"),
        (DATE, TEXT, "a_string"),
        (TIMESTAMP, DATE, "a_date"),
        (INTEGER, items(INTEGER), "a_array"),
        (items(INTEGER), items(TEXT), "a_array"),
        (TEXT, of(x=TEXT), "a_object"),
        (INTEGER, one_of(INTEGER, TEXT), "a_mixed"),
        (one_of(DATE, INTEGER), BOOLEAN, "a_boolean"),
    ],
)
def test_any_other_type_gets_a_column_beside_the_old(old, new, column):
    evolution = history({"a": old}, {"a": new})
    assert list(landed(evolution)) == [column]
    assert [field.name for field in evolution.columns.fields] == ["a", column]


@pytest.mark.parametrize("rules", [{"is_live": False}, {"is_typed": False}])
def test_a_type_changes_in_place_if_no_object_has_the_old_one(rules):
    assert landed(history({"a": INTEGER}, {"a": TEXT}, **rules)) == {"a": "string"}


def test_text_formats_follow_the_schema_beside_objects_with_types():
    typed = history({"a": INTEGER})
    as_text = history({"a": TEXT}, known=typed.columns, is_typed=False)
    assert landed(as_text) == {"a": "string"}
    assert landed(history({"a": TEXT}, known=as_text.columns)) == {"a_string": "string"}


def test_a_format_without_types_changes_a_type_for_good_if_no_object_has_the_old_one():
    typed = history({"a": INTEGER})
    nested = history({"a": of(**{"x-y": TEXT})}, known=typed.columns, is_typed=False, is_live=False)
    assert [field.kind.words() for field in nested.columns.fields] == ["object (x_y)"]
    assert landed(nested) == {"a": "object (x_y)"}


def test_integers_beyond_doubles_keep_their_column():
    known = history({"a": INTEGER, "o": of(b=INTEGER)}).columns
    ids = {field.source: field.id for field in known.all_fields()}
    evolution = history({"a": NUMBER, "o": of(b=NUMBER)}, known=known.with_big_integers([ids["a"]]))
    assert landed(evolution) == {"o": "object (b)", "a_number": "number"}


def test_a_type_that_comes_back_has_its_column_again():
    evolution = history({"a": INTEGER}, {"a": TEXT}, {"a": INTEGER}, {"a": TEXT}, {"a": INTEGER})
    assert landed(evolution) == {"a": "integer"}
    assert [field.name for field in evolution.columns.fields] == ["a", "a_string"]
    assert landed(history({"a": DATE}, {"a": TIMESTAMP}, {"a": DATE}, {"a": TIMESTAMP})) == {"a": "timestamp"}


def test_a_name_of_another_property_is_not_used_for_a_column_beside():
    assert landed(history({"a": INTEGER, "a_string": TEXT}, {"a": TEXT, "a_string": TEXT})) == {
        "a_string": "string",
        "a_string" + suffix("a\0string"): "string",
    }


def test_a_type_changes_in_nested_objects_alone():
    evolution = history({"o": of(x=INTEGER, y=TEXT)}, {"o": of(x=TEXT, y=TEXT)})
    assert landed(evolution) == {"o": "object (y, x_string)"}
    assert changes(evolution) == [("new_type", "o.x", "integer", "string")]


def test_a_column_of_unknown_type_is_left_out_and_its_name_is_reserved():
    first = history({"a-b": NULL, "c": items(NULL), "d": TEXT})
    assert landed(first) == {"d": "string"}
    then = history({"a_b": TEXT, "a-b": INTEGER, "c": items(TEXT), "d": TEXT}, known=first.columns)
    assert landed(then) == {"a_b": "integer", "c": "array of string", "d": "string", "a_b" + suffix("a_b"): "string"}
    assert ("new_type", "a-b", "unknown", "integer") in changes(then)


def test_a_declared_null_of_avro_is_a_column_of_nulls():
    assert landed(history({"a": NULL}, keeps_unknown=True)) == {"a": "null"}
    assert landed(history({"a": NULL}, {"a": INTEGER}, keeps_unknown=True)) == {"a": "integer"}


def test_an_empty_list_beside_other_values_has_no_branch_of_its_own():
    schema = {"a": {"type": ["string", "array"], "items": NULL}}
    assert landed(history(schema, is_declared=False)) == {"a": "string"}


# ---------------------------------------------------------------------- declared and inferred schemas


def test_a_property_that_a_declared_schema_drops_leaves_new_objects_and_is_reported_once():
    once = history({"a": TEXT, "b": INTEGER}, {"a": TEXT})
    assert landed(once) == {"a": "string"}
    assert changes(once) == [("missing_column", "b", "integer", "")]
    assert changes(history({"a": TEXT}, known=once.columns)) == []


def test_a_dropped_property_can_keep_its_position():
    assert list(landed(history({"a": TEXT, "b": TEXT}, {"b": TEXT}, is_typed=False, keeps_missing=True))) == ["a", "b"]


def test_all_columns_of_an_inferred_stream_stay():
    assert landed(history({"a": TEXT, "o": of(x=TEXT)}, {"b": INTEGER, "o": of(y=TEXT)}, is_declared=False)) == {
        "a": "string",
        "o": "object (x, y)",
        "b": "integer",
    }


@pytest.mark.parametrize(
    ("old", "new", "type_"),
    [
        (INTEGER, one_of(INTEGER, TEXT), "integer"),
        (INTEGER, one_of(TEXT, NUMBER), "number"),
        (items(INTEGER), items({"type": ["string", "integer"]}), "array of integer"),
        (TEXT, INTEGER, "string"),
        (items(TEXT), items(of(x=TEXT)), "array of string"),
    ],
)
def test_a_column_of_an_inferred_stream_stays_if_it_holds_some_values(old, new, type_):
    assert landed(history({"a": old}, {"a": new}, is_declared=False)) == {"a": type_}


def test_values_of_an_inferred_stream_that_the_column_cannot_hold_get_another():
    assert landed(history({"a": INTEGER}, {"a": TEXT}, is_declared=False)) == {"a_string": "string"}


# ---------------------------------------------------------------------- what is reported


def test_the_first_columns_of_a_stream_are_no_change():
    assert changes(history({"a": TEXT})) == []


def test_each_change_names_its_field():
    evolution = history(
        {"a": INTEGER, "l": items(of(x=INTEGER)), "gone": TEXT},
        {"a": TEXT, "l": items(of(x=NUMBER, y=TEXT)), "new": of(z=TEXT)},
    )
    assert changes(evolution) == [
        ("new_type", "a", "integer", "string"),
        ("new_type", "l[].x", "integer", "number"),
        ("new_column", "l[].y", "", "string"),
        ("new_column", "new", "", "object (z)"),
        ("missing_column", "gone", "string", ""),
    ]
