"""Field rules on JSON records, Arrow columns and schemas: what is excluded is gone in every spelling, what is hashed or
masked is replaced, and everything else means exactly what it meant."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import ArrowBatch, JsonBatch
from s3dest_dagster.columns.arrow_fields import ArrowFieldRules
from s3dest_dagster.columns.field_rules import Action, rules_of, selected_stream, undeclared_paths
from s3dest_dagster.columns.hidden_values import Hasher
from s3dest_dagster.columns.json_fields import JsonFieldRules, new_counts
from s3dest_dagster.columns.left_out_fields import hidden_fields, left_out_paths
from s3dest_dagster.errors import RecordError, SettingsError
from s3dest_dagster.settings.stream_settings import FieldSelection
from s3dest_dagster.stream import Stream

HASHER = Hasher("a key of at least sixteen characters")


def h(text: str) -> str:
    return HASHER.hash(text.encode())


def landed(record: str, **selection: Any) -> str:
    return landed_with_counts(record, **selection)[0]


def landed_with_counts(record: str, **selection: Any) -> tuple[str, dict[str, dict[str, int]]]:
    counts = new_counts()
    rules = JsonFieldRules(rules_of(FieldSelection(**selection)), HASHER.json_hash)
    raw = record.encode()
    batch = rules.apply(JsonBatch([raw], np.zeros(1, np.int64), len(raw)), counts)
    assert batch.nbytes == len(batch.raws[0])
    return bytes(batch.raws[0]).decode(), {action.value: dict(paths) for action, paths in counts.items() if paths}


def frame(columns: dict[str, Any], **selection: Any) -> pa.RecordBatch:
    return frame_with_counts(columns, **selection)[0]


def frame_with_counts(columns: dict[str, Any], **selection: Any) -> tuple[pa.RecordBatch, dict[Action, Any]]:
    counts = new_counts()
    data = pa.record_batch(columns)
    rules = ArrowFieldRules(rules_of(FieldSelection(**selection)), HASHER.hash)
    batch = rules.apply(ArrowBatch(data, np.zeros(data.num_rows, np.int64)), counts)
    assert batch.num_rows == data.num_rows
    return batch.data, counts


# ---------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    ("record", "selection", "expected"),
    [
        ('{"id":1,"mail":"x"}', {"exclude": ["mail"]}, '{"id":1}'),
        ('{"mail":"x","id":1}', {"exclude": ["mail"]}, '{"id":1}'),
        ('{"mail":"x"}', {"exclude": ["mail"]}, "{}"),
        ('{"mail":null}', {"exclude": ["mail"]}, "{}"),
        (r'{"id":1,"\u006dail":"x"}', {"exclude": ["mail"]}, '{"id":1}'),
        ('{"mail":"x","id":1,"mail":{"y":2}}', {"exclude": ["mail"]}, '{"id":1}'),
        ('{ "mail" : "x" ,\t"id":1 }', {"exclude": ["mail"]}, '{"id":1}'),
        ('{"id":1,"id":2,"mail":"x"}', {"exclude": ["mail"]}, '{"id":1,"id":2}'),
        ('{"id":1.10,"big":123456789012345678901234567890,"m":0}', {"exclude": ["m"]}, None),
        (r'{"text":"\u00e9 \"mail\" \/","mail":1}', {"exclude": ["mail"]}, r'{"text":"\u00e9 \"mail\" \/"}'),
        ('{"other":{"mail":"kept"}}', {"exclude": ["mail"]}, '{"other":{"mail":"kept"}}'),
        ('{"a.b":1,"a":{"b":2,"c":3}}', {"exclude": ["a.b"]}, '{"a.b":1,"a":{"c":3}}'),
        ('{"a.b":1,"a":{"b":2}}', {"exclude": [["a.b"]]}, '{"a":{"b":2}}'),
        ('{"l":[{"m":1,"n":2},null,{"m":3}]}', {"exclude": ["l[].m"]}, '{"l":[{"n":2},null,{}]}'),
        ('{"l":[[1],[2,3]]}', {"mask": ["l[][]"]}, '{"l":[["***"],["***","***"]]}'),
        ('{"l":[1,2]}', {"exclude": ["l[]"]}, '{"l":[]}'),
        ('{"id":1,"x":2,"p":{"a":3,"b":4}}', {"include": ["id", "p.a"]}, '{"id":1,"p":{"a":3}}'),
        ('{"id":1,"p":{"a":3,"b":4}}', {"include": ["p"], "exclude": ["p.b"]}, '{"p":{"a":3}}'),
        ('{"id":1}', {"include": ["p"]}, "{}"),
        ('{"m":"x","n":null}', {"mask": ["m", "n"]}, '{"m":"***","n":null}'),
        ('{"m":{"deep":[1]}}', {"mask": ["m"]}, '{"m":"***"}'),
        ('{"é\\"\\\\":1,"m":2}', {"exclude": ["m"]}, '{"é\\"\\\\":1}'),
    ],
)
def test_a_record_without_what_does_not_land(record, selection, expected):
    expected = record.replace(',"m":0', "") if expected is None else expected
    assert landed(record, **selection) == expected


def test_a_value_is_hashed_whatever_its_spelling_and_null_stays_null():
    assert landed('{"m":"Ada","n":null}', hash=["m", "n"]) == f'{{"m":"{h(chr(34) + "Ada" + chr(34))}","n":null}}'
    assert landed(r'{"m":"\u0041da"}', hash=["m"]) == landed('{"m":"Ada"}', hash=["m"])
    assert landed('{"m":{"b":1.0,"a":2}}', hash=["m"]) == landed('{"m":{"a":2,"b":1}}', hash=["m"])
    assert landed('{"m":1}', hash=["m"]) != landed('{"m":"1"}', hash=["m"])


def test_each_value_of_a_repeated_name_is_hashed():
    assert landed('{"m":1,"m":2}', hash=["m"]) == f'{{"m":"{h("1")}","m":"{h("2")}"}}'


@pytest.mark.parametrize("value", ['"text with secret"', "5", "true", '["secret"]', '[{"mail":"secret"}]'])
def test_a_value_of_another_kind_than_the_rules_expect_does_not_land(value):
    text, counts = landed_with_counts(f'{{"id":1,"p":{value}}}', exclude=["p.mail"])
    assert text == '{"id":1}'
    assert counts == {"excluded": {"p": 1}}
    assert landed('{"p":{"mail":"secret"}}', hash=["p[].mail"]) == "{}"


def test_values_are_counted_by_the_path_of_their_rule():
    record = '{"id":1,"a":1,"p":{"m":"x","k":"y"},"l":[1,2],"n":null}'
    _, counts = landed_with_counts(record, include=["id", "p", "l"], exclude=["p.k"], hash=["p.m"], mask=["l[]"])
    assert counts == {"excluded": {"*": 1, "p.k": 1}, "hashed": {"p.m": 1}, "masked": {"l[]": 2}}


def test_a_text_that_is_no_object_is_refused_without_being_shown():
    with pytest.raises(RecordError) as refused:
        landed('{"mail":"secret"', exclude=["mail"])
    assert "secret" not in refused.value.message
    assert refused.value.__cause__ is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "m", "é"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def _without(value: Any, steps: tuple[str | None, ...]) -> Any:
    """The value without what the path leads to; an oracle on Python values."""
    if value is None:
        return value
    if steps[0] is None:
        return [_without(item, steps[1:]) if steps[1:] else None for item in value]
    return {k: _without(v, steps[1:]) if k == steps[0] else v for k, v in value.items() if k != steps[0] or steps[1:]}


@given(st.dictionaries(st.sampled_from(["a", "b", "m"]), _json, max_size=3), st.booleans(), st.booleans())
def test_everything_else_stays_as_it_is(record, ascii_only, spaced):
    inner = {key: value for key, value in record.items() if key != "m"}
    record = {**record, "p": {**inner, "m": ["secret"]}}
    text = json.dumps(record, ensure_ascii=ascii_only, separators=None if spaced else (",", ":"))
    found = json.loads(landed(text, exclude=["m", "p.m"]))
    assert found == _without(_without(record, ("m",)), ("p", "m"))


# ---------------------------------------------------------------------- Arrow


def test_arrow_columns_are_left_out_hashed_and_masked():
    data, counts = frame_with_counts(
        {"id": [1, 2], "mail": ["a", None], "phone": ["1", None], "name": ["x", None]},
        exclude=["phone"],
        hash=["mail"],
        mask=["name"],
    )
    assert data.to_pydict() == {"id": [1, 2], "mail": [h('"a"'), None], "name": ["***", None]}
    assert data.schema.types == [pa.int64(), pa.string(), pa.string()]
    assert counts == {Action.EXCLUDE: {"phone": 1}, Action.HASH: {"mail": 1}, Action.MASK: {"name": 1}}


def test_a_column_that_no_rule_concerns_is_the_same():
    ids = pa.array([1, 2])
    assert frame({"id": ids, "x": [1, 2]}, exclude=["x"]).column("id").equals(ids)


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array(["a", "b"], pa.large_string()), ['"a"', '"b"']),
        (pa.array(["a", "b"]).dictionary_encode(), ['"a"', '"b"']),
        (pa.array([1, 2], pa.int8()), ["1", "2"]),
        (pa.array([1.0, 2.5]), ["1", "2.5"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([{"b": 1, "a": "x"}, {"b": 2, "a": None}]), ['{"a":"x","b":1}', '{"a":null,"b":2}']),
        (pa.array([[1], []]), ["[1]", "[]"]),
    ],
)
def test_a_value_has_the_same_hash_in_arrow_and_in_json(column, texts):
    data = frame({"m": column}, hash=["m"])
    assert data.column("m").to_pylist() == [h(text) for text in texts]
    assert [json.loads(landed(f'{{"m":{text}}}', hash=["m"]))["m"] for text in texts] == data.column("m").to_pylist()


def test_rules_reach_into_structs_and_lists():
    people = pa.array([{"mail": "a", "n": 1}, None, {"mail": None, "n": 3}])
    items = pa.array([[{"m": "x", "k": 1}], None, [{"m": "y", "k": 2}, None]])
    sliced = pa.record_batch({"p": people, "l": items}).slice(0, 3)
    data = frame(dict(zip(sliced.schema.names, sliced.columns, strict=True)), exclude=["p.mail"], hash=["l[].m"])
    assert data.column("p").to_pylist() == [{"n": 1}, None, {"n": 3}]
    hashed = [[{"m": h('"x"'), "k": 1}], None, [{"m": h('"y"'), "k": 2}, None]]
    assert data.column("l").to_pylist() == hashed
    tail = ArrowFieldRules(rules_of(FieldSelection(hash=("l[].m",))), HASHER.hash)  # type: ignore[arg-type]
    part = ArrowBatch(sliced.slice(1), np.zeros(2, np.int64))
    assert tail.apply(part, new_counts()).data.column("l").to_pylist() == hashed[1:]


@pytest.mark.parametrize("kind", [pa.large_list(pa.int64()), pa.list_(pa.int64(), 2)])
def test_lists_of_any_storage_are_reached_into(kind):
    data = frame({"l": pa.array([[1, 2], None], kind)}, mask=["l[]"])
    assert data.column("l").to_pylist() == [["***", "***"], None]


def test_entries_of_a_map_are_reached_by_their_keys():
    kind = pa.map_(pa.string(), pa.string())
    tags = pa.array([[("a", "1"), ("m", "secret")], None, [], [("m", None), ("z", "2")]], kind)
    assert frame({"t": tags}, exclude=["t.m"]).column("t").to_pylist() == [[("a", "1")], None, [], [("z", "2")]]
    masked = frame({"t": tags}, mask=["t.m"]).column("t")
    assert masked.type == kind
    assert masked.to_pylist() == [[("a", "1"), ("m", "***")], None, [], [("m", None), ("z", "2")]]
    assert frame({"t": tags}, include=["t.z"]).column("t").to_pylist() == [[], None, [], [("z", "2")]]


def test_rows_stay_if_no_column_is_left():
    assert frame({"a": [1, 2]}, exclude=["a"]).num_rows == 2
    assert frame({"p": [{"a": 1}, None]}, exclude=["p.a"]).column("p").to_pylist() == [{}, None]
    assert frame({"l": [[1], None]}, exclude=["l[]"]).column("l").to_pylist() == [[], None]


def test_rules_that_lead_into_a_column_without_fields_are_refused():
    with pytest.raises(RecordError, match="Field p has the Arrow type string") as refused:
        frame({"p": ["secret"]}, exclude=["p.mail"])
    assert "secret" not in refused.value.message
    with pytest.raises(RecordError, match=r"Field t\.m is an entry of an Arrow map of int64"):
        frame({"t": pa.array([[("m", 1)]], pa.map_(pa.string(), pa.int64()))}, hash=["t.m"])


# ---------------------------------------------------------------------- schemas

SCHEMA = {
    "type": "object",
    "required": ["id", "mail"],
    "default": {"mail": "secret"},
    "properties": {
        "id": {"type": "integer"},
        "mail": {"type": "string", "format": "email", "description": "Where to write.", "examples": ["secret"]},
        "p": {"anyOf": [{"type": "null"}, {"$ref": "#/definitions/person"}]},
        "l": {"type": ["null", "array"], "items": {"properties": {"m": {"type": "number"}, "n": {"type": "number"}}}},
        "any": {},
    },
    "definitions": {"person": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}},
}


def with_rules(schema: Any = SCHEMA, **selection: Any) -> Stream:
    return Stream(name="users", json_schema=schema, settings={"fields": selection})  # type: ignore[arg-type]


def test_the_schema_has_only_what_lands():
    schema = selected_stream(with_rules(exclude=["mail", "p.b"], hash=["l[].m"])).json_schema
    assert schema is not None
    assert list(schema["properties"]) == ["id", "p", "l", "any"]
    assert schema["required"] == ["id"]
    assert "default" not in schema
    assert list(schema["properties"]["p"]["anyOf"][1]["properties"]) == ["a"]
    assert schema["properties"]["l"]["items"]["properties"] == {
        "m": {"type": ["null", "string"]},
        "n": {"type": "number"},
    }


def test_a_hashed_or_masked_field_is_a_text_and_keeps_its_description():
    schema = selected_stream(with_rules(hash=["mail"], mask=["id"])).json_schema
    assert schema is not None
    assert schema["properties"]["mail"] == {"description": "Where to write.", "type": ["null", "string"]}
    assert schema["properties"]["id"] == {"type": ["null", "string"]}


def test_include_leaves_out_the_other_properties():
    stream = with_rules(include=["id", "p.a"])
    schema = selected_stream(stream).json_schema
    assert schema is not None
    assert list(schema["properties"]) == ["id", "p"]
    assert hidden_fields(stream) == {"excluded": ("mail", "p.b", "l", "any")}


def test_hidden_fields_are_named_by_what_happens_to_them():
    stream = with_rules(exclude=["p.b", "undeclared"], hash=["mail"], mask=["l[].n"])
    assert hidden_fields(stream) == {"excluded": ("p.b", "undeclared"), "hashed": ("mail",), "masked": ("l[].n",)}


def test_paths_that_the_schema_does_not_declare_are_found():
    stream = with_rules(exclude=["mial", "p.c", "p.a", "any.x", "l[].n"])
    assert list(map(str, undeclared_paths(stream))) == ["mial", "p.c", "any.x"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("mail.x", "declares mail as string. Name mail as a whole"),
        ("l.m", r"declares l as array. The items of a list are written l\[\]"),
        ("p[]", "declares p as object"),
    ],
)
def test_a_path_that_contradicts_the_schema_is_refused(path, message):
    with pytest.raises(SettingsError, match=message) as refused:
        selected_stream(with_rules(exclude=[path]))
    assert refused.value.setting == "fields.exclude"


def test_a_stream_without_rules_is_the_same():
    stream = Stream(name="users", json_schema=SCHEMA)
    assert selected_stream(stream) is stream


def test_a_recursive_schema_is_followed_as_far_as_the_path():
    schema = {"properties": {"n": {"$ref": "#"}, "m": {"type": "string"}}, "type": "object"}
    selected = selected_stream(with_rules(schema, exclude=["n.n.m"])).json_schema
    assert selected is not None
    inner = selected["properties"]["n"]["properties"]["n"]["properties"]
    assert list(inner) == ["n"]
    assert list(selected["properties"]) == ["n", "m"]


def _tree(*names: str, repeated: int = 1) -> dict[str, Any]:
    """A schema of nodes with these names, and with further nodes within them."""
    below = {f"n{number}": {"type": "array", "items": {"$ref": "#/definitions/n"}} for number in range(repeated)}
    node = {"type": "object", "properties": {**{name: {"type": "string"} for name in names}, **below}}
    return {"type": "object", "properties": {"n": {"$ref": "#/definitions/n"}}, "definitions": {"n": node}}


def test_what_a_schema_within_itself_leaves_out_is_left_out_at_any_depth():
    paths = list(map(str, left_out_paths(_tree("a", "b"), _tree("a"))))
    inner = "n" + ".n0[]" * 8
    assert paths[:3] == ["n.b", "n.n0[].b", "n.n0[].n0[].b"]
    assert paths[-2:] == [f"{inner}.b", f"{inner}.n0"]
    assert left_out_paths(_tree("a", "b"), _tree("a", "b")) == ()


@pytest.mark.parametrize("repeated", [2, 10, 400])
def test_a_schema_within_itself_in_many_places_gives_few_paths(repeated):
    paths = left_out_paths(_tree("a", "b", repeated=repeated), _tree("a", repeated=repeated))
    assert len(paths) <= 1000
    assert str(paths[0]) == "n.b"
    # A field that is not followed is left out.
    depths = [len(path.steps) for path in paths if path.steps[-1] != "b"]
    assert len(depths) >= repeated
    assert left_out_paths(_tree("a", repeated=repeated), _tree("a", repeated=repeated)) == ()
