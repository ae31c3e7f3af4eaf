"""A schema contract decides about each difference: the stream evolves, the sync fails, or the values have no column."""

from __future__ import annotations

import pytest
from columns.test_evolution import BOOLEAN, INTEGER, NULL, NUMBER, TEXT, changes, history, items, landed, of

from s3dest_dagster.columns.schema_differences import refuse_new_stream, refuse_undeclared
from s3dest_dagster.errors import SchemaContractError
from s3dest_dagster.settings.schema_contract import SchemaContract

KNOWN = {"a": INTEGER, "o": of(x=INTEGER), "n": NULL}


def with_contract(schema: dict, **verdicts: str):
    return history(schema, known=history(KNOWN).columns, contract=SchemaContract(**verdicts))


@pytest.mark.parametrize(
    ("difference", "schema", "field", "message"),
    [
        ("new_column", {**KNOWN, "b": TEXT}, "b", r"the field 'b' \(string\) is new"),
        ("new_column", {**KNOWN, "o": of(x=INTEGER, y=TEXT)}, "o.y", r"the field 'o\.y' \(string\) is new"),
        ("new_type", {**KNOWN, "a": TEXT}, "a", "the field 'a' is string and was integer"),
        ("new_type", {**KNOWN, "a": NUMBER}, "a", "the field 'a' is number and was integer"),
        ("new_type", {**KNOWN, "o": of(x=TEXT)}, "o.x", r"the field 'o\.x' is string and was integer"),
        ("missing_column", {"a": INTEGER, "n": NULL}, "o", r"the field 'o' \(object \(x\)\) is missing"),
        ("missing_column", {**KNOWN, "o": of()}, "o.x", r"the field 'o\.x' \(integer\) is missing"),
    ],
)
def test_a_frozen_difference_fails_with_the_stream_the_field_and_the_cure(difference, schema, field, message):
    with pytest.raises(SchemaContractError, match=message) as failure:
        with_contract(schema, **{difference: "freeze"})
    assert (failure.value.stream, failure.value.field) == ("users", field)
    assert f"set {difference} of the stream's schema_contract to 'evolve'" in str(failure.value)


def test_an_error_names_several_differences():
    with pytest.raises(SchemaContractError) as failure:
        with_contract({**KNOWN, **{f"c{n}": TEXT for n in range(7)}, "a": TEXT}, new_column="freeze", new_type="freeze")
    assert "freezes new_column and new_type" in str(failure.value)
    assert "and 3 more" in str(failure.value)


@pytest.mark.parametrize(
    "schema",
    [
        KNOWN,
        dict(reversed(KNOWN.items())),
        {**KNOWN, "n": BOOLEAN},
        {**KNOWN, "a": NULL},
    ],
)
def test_a_frozen_stream_accepts_what_its_columns_hold(schema):
    frozen = SchemaContract.of("freeze")
    history(schema, known=history(KNOWN).columns, contract=frozen)


def test_the_first_columns_of_a_frozen_stream_are_accepted():
    assert landed(history({"a": TEXT}, contract=SchemaContract.of("freeze"))) == {"a": "string"}


def test_a_property_that_was_missing_before_the_stream_was_frozen_may_stay_so_and_come_back():
    known = history({"a": TEXT, "b": TEXT}, {"a": TEXT}).columns
    frozen = SchemaContract.of("freeze")
    assert landed(history({"a": TEXT}, known=known, contract=frozen)) == {"a": "string"}
    assert landed(history({"a": TEXT, "b": TEXT}, known=known, contract=frozen)) == {"a": "string", "b": "string"}


def test_a_discarded_new_column_is_not_remembered():
    schema = {**KNOWN, "b": TEXT, "o": of(x=INTEGER, y=TEXT)}
    evolution = with_contract(schema, new_column="discard")
    assert landed(evolution) == {"a": "integer", "o": "object (x)"}
    assert evolution.columns == history(KNOWN).columns
    assert evolution.discarded == {"b", "o.y"}
    assert [str(each.verdict) for each in evolution.changes] == ["discard", "discard"]


def test_a_discarded_new_type_leaves_the_column_as_it_is():
    evolution = with_contract({**KNOWN, "a": TEXT, "o": of(x=NUMBER)}, new_type="discard")
    assert landed(evolution) == {"a": "integer", "o": "object (x)"}
    assert evolution.columns == history(KNOWN).columns
    assert changes(evolution) == [("new_type", "a", "integer", "string"), ("new_type", "o.x", "integer", "number")]


def test_a_list_whose_type_is_discarded_keeps_its_columns():
    known = history({"l": items(of(x=INTEGER, y=TEXT))})
    evolution = history({"l": TEXT}, known=known.columns, contract=SchemaContract(new_type="discard"))
    assert evolution.record == known.record


def test_a_frozen_new_stream_is_refused():
    refuse_new_stream("users", SchemaContract())
    with pytest.raises(SchemaContractError, match="'users' has never landed"):
        refuse_new_stream("users", SchemaContract(new_stream="freeze"))


def test_frozen_undeclared_fields_are_refused_except_discarded_columns():
    frozen = SchemaContract(undeclared_field="freeze")
    refuse_undeclared("users", frozen, {}, frozenset())
    refuse_undeclared("users", SchemaContract(), {"a": 1}, frozenset())
    refuse_undeclared("users", frozen, {"a": 1, "a.b": 1}, frozenset({"a"}))
    with pytest.raises(SchemaContractError, match="the field 'ab' and 1 more") as failure:
        refuse_undeclared("users", frozen, {"a": 1, "b": 2, "ab": 1}, frozenset({"a"}))
    assert failure.value.field == "ab"
