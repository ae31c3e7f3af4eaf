"""Conversion is faster for cleaner records, and always produces the results of the rules."""

from __future__ import annotations

import io
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from columns.junk import Taste, comparable, json_schema, record, taste

from s3dest_dagster.batch import JsonBatch, Tally
from s3dest_dagster.columns.conversion_log import tally_of
from s3dest_dagster.columns.converter import RecordConverter, convert_record
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.errors import RecordError

SHOP = {
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "score": {"type": "number"},
        "at": {"type": "string", "format": "date-time"},
        "nums": {"type": "array", "items": {"type": "number"}},
        "address": {"type": "object", "properties": {"zip": {"type": "string"}, "lat": {"type": "number"}}},
        "items": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
    }
}
CLEAN = {
    "id": 1,
    "name": "Ann",
    "score": 1.5,
    "at": "2024-05-06T07:08:09Z",
    "nums": [1, 2.5],
    "address": {"zip": "1", "lat": 2.5},
    "items": [{"sku": "a"}, None],
}


def batch(raws) -> JsonBatch:
    return JsonBatch(raws, np.zeros(len(raws), np.int64), sum(map(len, raws)))


def raw(**fields) -> bytes:
    return json.dumps({**CLEAN, **fields}, separators=(",", ":")).encode()


def converter_of(schema, layout=Layout.NAMED, **options) -> RecordConverter:
    return RecordConverter(record_type(schema, "shop", None), layout=layout, **options)


def by_rules(converter: RecordConverter, raws) -> tuple[pa.Array, Tally]:
    converted = [convert_record(converter.record, text, layout=converter.layout) for text in raws]
    column = pa.array([values for values, _ in converted], pa.struct(list(converter.schema)))
    return column, tally_of(Counter(entry for _, entries in converted for entry in entries))


def assert_as_the_rules_say(converter: RecordConverter, raws) -> pa.RecordBatch:
    converted = converter.convert(batch(raws))
    column, tally = by_rules(converter, raws)
    wanted, got = comparable(column), comparable(converted.data.to_struct_array())
    for text, want, have in zip(raws, wanted, got, strict=True):
        assert have == want, text.decode()
    assert converted.tally == tally
    assert converted.data.schema == converter.schema
    converted.data.validate(full=True)
    return converted.data


def assert_survives_parquet(data: pa.RecordBatch) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_batches([data]), sink)
    back = pq.read_table(sink).to_struct_array().combine_chunks()
    assert comparable(back) == comparable(data.to_struct_array())


@pytest.mark.parametrize("plain", [True, False], ids=["typed", "any"])
@pytest.mark.parametrize("group", range(2))
def test_every_value_of_the_columns_follows_the_rules(group, plain):
    for seed in range(group * 8, group * 8 + 8):
        r = Random(seed)
        schema, how = json_schema(r, plain=plain), taste(r)
        converter = converter_of(schema, r.choice(list(Layout)))
        for number in range(r.choice([2, 3, 36])):
            if r.random() < 0.1:
                how.dirt = r.choice([0, 0.2])
            size = r.choice([1, 30, 200]) if number < 3 else r.choice([1, 9])
            data = assert_as_the_rules_say(converter, [record(r, schema, how) for _ in range(size)])
        assert_survives_parquet(data)


@pytest.mark.parametrize("layout", Layout)
def test_columns_do_not_depend_on_the_batches(layout):
    r = Random(7)
    schema = json_schema(r, plain=False)
    raws = [record(r, schema, Taste(0.1, 0.3, 48, True, True)) for _ in range(300)]
    whole = converter_of(schema, layout).convert(batch(raws))
    converter, parts = converter_of(schema, layout), []
    while len(parts) < len(raws):
        part = raws[len(parts) : len(parts) + r.choice([1, 7, 60])]
        parts += comparable(converter.convert(batch(part)).data.to_struct_array())
    assert parts == comparable(whole.data.to_struct_array())


def test_threads_can_share_a_converter():
    r = Random(3)
    schema = json_schema(r, plain=True)
    batches = [[record(r, schema, Taste(dirt, 0.2, 3, True, True)) for _ in range(80)] for dirt in [0, 0.2] * 20]
    converter = converter_of(schema)
    wanted = [comparable(by_rules(converter, raws)[0]) for raws in batches]
    with ThreadPoolExecutor(8) as pool:
        got = pool.map(lambda raws: comparable(converter.convert(batch(raws)).data.to_struct_array()), batches)
    assert list(got) == wanted


def test_an_empty_batch_produces_no_rows():
    data = converter_of(SHOP).convert(batch([])).data
    assert (data.num_rows, data.schema) == (0, converter_of(SHOP).schema)


def test_a_stream_without_declared_fields_keeps_everything_in_the_overflow():
    data = assert_as_the_rules_say(converter_of({"type": "object"}), [b'{"b":1,"a":"x"}', b"{}", b'{"n":null}'])
    assert data.column(OVERFLOW).to_pylist() == [[("a", "x"), ("b", "1")], None, None]


def test_records_can_be_any_bytes_like_object():
    raws = [raw(), raw(extra=1), raw(id="x")] * 20
    converter = converter_of(SHOP)
    viewed = converter.convert(batch([memoryview(text) for text in raws]))
    assert viewed.data.equals(converter.convert(batch(raws)).data)


class CountingConverter(RecordConverter):
    """Counts which tier converts the records."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tiers = Counter()

    def _strict(self, *args):
        column = super()._strict(*args)
        self.tiers["strict" if column else "strict refused"] += 1
        return column

    def _by_texts(self, raws):
        self.tiers["by texts"] += len(raws)
        return super()._by_texts(raws)

    def _by_rules(self, raws):
        self.tiers["by rules"] += len(raws)
        return super()._by_rules(raws)


def counting_converter() -> CountingConverter:
    return CountingConverter(record_type(SHOP, "shop", None), layout=Layout.AVRO)


def test_clean_records_are_read_by_the_strict_tier():
    converter = counting_converter()
    for _ in range(3):
        assert_as_the_rules_say(converter, [raw(id=i) for i in range(100)])
    assert converter.tiers == {"strict": 3}


@pytest.mark.parametrize(
    "dirty",
    [{"extra": 1}, {"id": "12"}, {"address": {"zip": "1", "x": [1]}}, {"items": [{"sku": "a", "y": 2}]}, {"name": 5}],
    ids=["undeclared", "text in integer", "undeclared inside", "undeclared in items", "number in string"],
)
def test_dirt_in_every_record_is_learned_once_and_read_in_columns(dirty):
    converter = counting_converter()
    for _ in range(3):
        assert_as_the_rules_say(
            converter, [raw(id=i, **dirty) if "id" not in dirty else raw(**dirty) for i in range(100)]
        )
    assert converter.tiers == {"strict refused": 1}


def test_rare_dirt_follows_the_rules_without_affecting_other_records():
    converter = counting_converter()
    assert_as_the_rules_say(converter, [raw(id=i if i % 50 else "n/a") for i in range(200)])
    assert converter.tiers["by rules"] == 4
    assert not converter.tiers["by texts"]


def test_names_that_are_data_are_not_learned():
    converter = counting_converter()
    for _ in range(2):
        assert_as_the_rules_say(converter, [raw(**{f"key {i}": i}) for i in range(200)])
    assert converter.tiers["by texts"] == 400


def test_names_that_are_data_on_an_inner_level_leave_other_fields_typed():
    converter = counting_converter()
    for _ in range(3):
        assert_as_the_rules_say(converter, [raw(address={"zip": "1", f"key {i}": i}) for i in range(200)])
    assert converter.tiers == {"strict refused": 1}


def test_the_strict_tier_is_tried_again_after_the_dirt_ends():
    converter = counting_converter()
    assert_as_the_rules_say(converter, [raw(extra=1)] * 50)
    for _ in range(40):
        assert_as_the_rules_say(converter, [raw()] * 2)
    assert converter.tiers["strict"] > 1


@pytest.mark.parametrize("number", ["9007199254740993", "0.1000000000000000055", "1e-400", "123456789012345678901"])
@pytest.mark.parametrize("share", [1, 50], ids=["every record", "few records"])
@pytest.mark.parametrize("where", ['"score":%s', '"nums":[1,%s]', '"address":{"lat":%s}'])
def test_a_number_that_a_double_cannot_represent_keeps_its_text(number, share, where):
    converter = counting_converter()
    raws = [b'{"id":1,' + (where % (number if i % share == 0 else "1.5")).encode() + b"}" for i in range(51)]
    for _ in range(35):
        data = assert_as_the_rules_say(converter, raws)
    assert number in str(data.to_pylist()[0])


def test_an_inexact_number_in_a_list_that_is_one_of_several_types_keeps_its_text():
    schema = {"properties": {"u": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "boolean"}]}}}
    data = assert_as_the_rules_say(
        converter_of(schema), [b'{"u":[9007199254740993]}', b'{"u":[1]}', b'{"u":true}'] * 20
    )
    assert data.column(OVERFLOW)[0].as_py() == [("u", "[9007199254740993]")]


@pytest.mark.parametrize("ids", ["1234567890123456789", '"4111111111111111"', '"00000000000000000000"'])
def test_long_digits_elsewhere_have_no_effect(ids):
    raws = [b'{"name":%b,"score":0.5}' % ids.encode()] * 100
    assert_as_the_rules_say(converter_of(SHOP), raws)


TWICE = {
    "declared": (b',"id":7}', {"id": 7}, [("id", "1")], Tally(overflowed={"id": 1})),
    "misfit": (b',"id":"x"}', {"id": None}, [(f"{OVERFLOW}.id", "1"), ("id", "x")], Tally(overflowed={"id": 2})),
    "null": (b',"name":null}', {"name": None}, [("name", "Ann")], Tally(overflowed={"name": 1})),
    "after null": (b',"z":null,"z":1}', {}, [("z", "1")], Tally(undeclared={"z": 1})),
    "undeclared": (b',"z":1,"z":{"a":2},"z":3}', {}, None, Tally(undeclared={"z": 3})),
    "spelled otherwise": (rb',"\u0069d":8}', {"id": 8}, [("id", "1")], Tally(overflowed={"id": 1})),
}


@pytest.mark.parametrize("rest", [1, 40, 200], ids=["alone", "among clean ones", "rare"])
@pytest.mark.parametrize("dirt", [b"", b',"more":[1]', b',"tags":"a\\":b"', b',"more" : null'], ids=repr)
@pytest.mark.parametrize("case", TWICE)
def test_the_last_value_of_a_repeated_name_counts_and_nothing_is_lost(case, dirt, rest):
    more, values, over, tally = TWICE[case]
    others = [raw()[:-1] + dirt + b"}"] * (rest - 1)
    converter = converter_of(SHOP)
    for _ in range(2):
        data = assert_as_the_rules_say(converter, [*others, raw()[:-1] + more])
    row = data.to_pylist()[-1]
    assert {name: row[name] for name in values} == values
    assert row[OVERFLOW] == (over or [(f"{OVERFLOW}.{OVERFLOW}.z", '{"a":2}'), (f"{OVERFLOW}.z", "1"), ("z", "3")])
    assert converter_of(SHOP).convert(batch([raw()[:-1] + more])).tally == tally


def test_repeated_names_within_objects_and_lists_are_kept_there():
    twice = b'{"zip":"1","zip":"2","x":1,"x":2}'
    raws = [b'{"address":%b,"items":[%b,{"sku":"a","sku":"b"}]}' % (twice, twice)] * 40
    row = assert_as_the_rules_say(converter_of(SHOP), raws).to_pylist()[0]
    again = f"{OVERFLOW}.x"
    assert row["address"] == {"zip": "2", "lat": None, OVERFLOW: [(again, "1"), ("x", "2"), ("zip", "1")]}
    assert row["items"][0] == {
        "sku": None,
        OVERFLOW: [(again, "1"), (f"{OVERFLOW}.zip", "1"), ("x", "2"), ("zip", "2")],
    }
    assert row["items"][1] == {"sku": "b", OVERFLOW: [("sku", "a")]}


def test_a_repeated_declared_name_is_a_mismatch():
    with pytest.raises(RecordError, match="field 'id' is repeated, but has only one column; its value is 1"):
        converter_of(SHOP, on_mismatch="fail").convert(batch([raw(), raw()[:-1] + b',"id":7}']))
    converter_of(SHOP, on_mismatch="fail").convert(batch([raw(), raw()[:-1] + b',"z":1,"z":2}']))


def test_a_number_beyond_doubles_overflows_between_clean_records():
    raws = [raw()] * 50 + [raw().replace(b'"score":1.5', b'"score":1e400')] + [raw()] * 50
    data = assert_as_the_rules_say(converter_of(SHOP), raws)
    assert data.column("score")[50].as_py() is None
    assert data.column(OVERFLOW)[50].as_py() == [("score", "1e400")]


def test_an_undeclared_object_keeps_the_sources_spelling():
    raws = [raw()[:-1] + b',"more": {"a" : 1.50,  "b":[1e5]}}'] * 100
    data = assert_as_the_rules_say(converter_of(SHOP), raws)
    assert data.column(OVERFLOW)[0].as_py() == [("more", '{"a" : 1.50,  "b":[1e5]}')]


def test_a_records_own_overflow_is_merged_and_loses_nothing():
    own = b',"zip":1,"_airbyte_additional_properties":{"zip":2,"k":"t","n":null},"_ab_additional_properties":"text"}'
    data = assert_as_the_rules_say(converter_of(SHOP), [raw()[:-1] + own] * 100)
    assert data.column(OVERFLOW)[0].as_py() == [
        ("_ab_additional_properties", "text"),
        ("_airbyte_additional_properties.zip", "2"),
        ("k", "t"),
        ("zip", "1"),
    ]


def test_a_field_named_like_an_envelope_column_goes_to_the_overflow():
    schema = {"properties": {"_airbyte_ab_id": {"type": "string"}, "id": {"type": "integer"}}}
    data = assert_as_the_rules_say(converter_of(schema), [b'{"_airbyte_ab_id":"mine","id":1}'] * 30)
    assert data.schema.names == ["id", OVERFLOW]
    assert data.column(OVERFLOW)[0].as_py() == [("_airbyte_ab_id", "mine")]


def test_names_with_quotes_and_escapes_are_read():
    schema = {"properties": {'a"b': {"type": "integer"}, "back\\slash": {"type": "string"}, "ü n": {"type": "integer"}}}
    raws = [json.dumps({'a"b': i, "back\\slash": "x", "ü n": 5}).encode() for i in range(50)]
    data = assert_as_the_rules_say(converter_of(schema), raws)
    assert data.schema.names == ["a_b", "back_slash", "u_n", OVERFLOW]
    assert data.column("u_n")[0].as_py() == 5


def test_the_tally_counts_by_original_dotted_name():
    dirty = raw(id="12", name=True, score="x", extra=1, address={"zip": 5, "more": 2}, items=[{"sku": 1, "z": 1}] * 2)
    tally = converter_of(SHOP).convert(batch([dirty, raw()] * 30)).tally
    assert tally.coerced == {"id": 30, "name": 30, "address.zip": 30, "items.sku": 60}
    assert tally.overflowed == {"score": 30}
    assert tally.undeclared == {"extra": 30, "address.more": 30, "items.z": 60}


def test_a_list_that_overflows_counts_nothing_of_its_items():
    tally = converter_of(SHOP).convert(batch([raw(items=[{"sku": 1, "z": 2}, 5])])).tally
    assert tally == Tally(overflowed={"items": 1})


def test_a_mismatch_fails_on_request_with_field_record_and_value():
    converter = converter_of(SHOP, on_mismatch="fail")
    assert converter.convert(batch([raw(), raw(extra=1, id="12")])).tally.undeclared == {"extra": 1}
    with pytest.raises(RecordError) as error:
        converter.convert(batch([raw()] * 40 + [raw(address={"lat": "x" * 300})]))
    assert "(record 41 of 41 " in str(error.value)
    assert "'address.lat'" in str(error.value)
    assert "x" * 200 + "…" in str(error.value)
    assert "x" * 201 not in str(error.value)
    assert error.value.setting == "on_type_mismatch"


def test_an_inexact_number_is_a_mismatch():
    with pytest.raises(RecordError, match=r"0\.1000000000000000055"):
        converter_of(SHOP, on_mismatch="fail").convert(batch([b'{"score":0.1000000000000000055}']))


def test_a_value_that_is_too_deep_to_read_is_refused():
    with pytest.raises(RecordError, match="too deep to be read"):
        converter_of(SHOP).convert(batch([raw()[:-1] + b',"z":' + b"[" * 200_000 + b"]" * 200_000 + b"}"]))


def test_two_thousand_columns():
    kinds = [{"type": "string"}, {"type": "integer"}, {"type": "number"}]
    schema = {"properties": {f"c{i}": kinds[i % 3] for i in range(2000)}}
    values = {f"c{i}": ["x", i, i / 4][i % 3] for i in range(2000)}
    converter = converter_of(schema)
    for dirty in ({}, {"more": 1}, {"c1": "n/a"}):
        assert_as_the_rules_say(converter, [json.dumps({**values, **dirty}).encode()] * 3)


@pytest.mark.parametrize("depth", [50, 99])
def test_deeply_nested_records(depth):
    schema, clean, dirty = {"type": "string"}, "x", 5
    for _ in range(depth - 1):
        schema = {"type": "object", "properties": {"a": schema}}
        clean, dirty = {"a": clean}, {"a": dirty, "z": 1}
    converter = converter_of({"properties": {"a": schema}})
    for values in (clean, dirty):
        assert_as_the_rules_say(converter, [json.dumps({"a": values}).encode()] * 30)


def test_columns_of_every_layout_have_the_types_of_the_schema():
    schema = {
        "properties": {
            "d": {"type": "string", "format": "date"},
            "u": {"type": ["string", "integer", "object"]},
            "l": {"type": "array", "items": {"type": "string", "format": "time"}},
        }
    }
    raws = [b'{"d":"2024-01-02","u":1,"l":["12:00"]}', b'{"d":"bad","u":{"x":1},"l":["bad"]}', b'{"u":"t"}'] * 20
    for layout in Layout:
        assert_as_the_rules_say(converter_of(schema, layout), raws)
    named = converter_of(schema, Layout.NAMED).convert(batch(raws)).data.to_pylist()
    assert named[1][OVERFLOW] == [("d", "bad"), ("l", '["bad"]')]
    assert named[1]["u"]["object"] == {OVERFLOW: [("x", "1")]}
    members = converter_of(schema, Layout.MEMBER).convert(batch(raws)).data.to_pylist()
    assert members[1]["d"] == {"member0": None, "member1": "bad"}
    assert members[1]["l"] == [{"member0": None, "member1": "bad"}]
    assert members[2]["d"] is None
