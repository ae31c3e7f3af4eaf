"""Schemas that declare far more fields than records have: the fields that no record has change no value."""

from __future__ import annotations

import json
from functools import cache
from random import Random

import pytest
from columns.junk import comparable, json_schema, record, taste
from columns.test_converter import (
    CLEAN,
    SHOP,
    CountingConverter,
    assert_as_the_rules_say,
    assert_survives_parquet,
    batch,
    converter_of,
    raw,
)
from hypothesis import settings

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.level_plans import MOST_EXPECTED_FIELDS

SCHEMAS = settings.default.max_examples // 4
"""Schemas of one kind. Their oracle is slow, so that there are few unless more examples are asked for."""
_UNUSED = [
    {"type": "string"},
    {"type": "number"},
    {"type": ["integer", "boolean"]},
    {"type": "object", "properties": {"n": {"type": "number"}, "inner": {"type": "object", "properties": {}}}},
    {"type": "array", "items": {"type": "object", "properties": {"at": {"type": "string", "format": "date"}}}},
]


def with_more_fields(definition, count):
    """The schema with so many more fields in every object."""
    if "items" in definition:
        return {**definition, "items": with_more_fields(definition["items"], count)}
    if "properties" not in definition:
        return definition
    own = {name: with_more_fields(inner, count) for name, inner in definition["properties"].items()}
    return {**definition, "properties": own | {f"more_{n}": _UNUSED[n % len(_UNUSED)] for n in range(count)}}


@cache
def wide_record() -> Record:
    return record_type(with_more_fields(SHOP, MOST_EXPECTED_FIELDS), "shop", None)


def wide_shop() -> CountingConverter:
    return CountingConverter(wide_record(), layout=Layout.NAMED)


@pytest.mark.parametrize("plain", [True, False], ids=["typed", "any"])
@pytest.mark.parametrize("layout", Layout)
def test_every_value_of_the_columns_follows_the_rules(layout, plain):
    for number in range(SCHEMAS):
        r = Random(f"{layout}, {plain}, {number}")
        schema, how = json_schema(r, plain=plain), taste(r)
        converter = converter_of(with_more_fields(schema, MOST_EXPECTED_FIELDS), layout)
        for size in (30, 200, 9, 1, 60):
            how.dirt = r.choice([how.dirt, 0])
            data = assert_as_the_rules_say(converter, [record(r, schema, how) for _ in range(size)])
        assert_survives_parquet(data)


def test_fields_that_no_record_has_leave_the_others_in_the_strict_tier():
    converter = wide_shop()
    for _ in range(4):
        assert_as_the_rules_say(converter, [raw(id=i) for i in range(100)])
    assert converter.tiers["strict"] == 3
    assert not converter.tiers["by texts"]


@pytest.mark.parametrize("value", [0.1000000000000000055, 7, "text", None, {"n": 1.5}, [{"at": "2026-02-03"}]])
@pytest.mark.parametrize("number", range(5))
def test_a_field_that_a_later_record_has_for_the_first_time_gets_its_column(number, value):
    converter = wide_shop()
    texts = [raw(id=i) for i in range(24)]
    late = raw(**{f"more_{number}": value}, address={"zip": "1", "more_0": "x"})
    for _ in range(2):
        assert_as_the_rules_say(converter, texts)
        assert_as_the_rules_say(converter, [*texts[:12], late, *texts[12:]])
    assert converter.tiers["by rules"] <= 4


def test_long_numbers_in_fields_that_appear_later_keep_their_digits():
    converter = wide_shop()
    long = b"0.1000000000000000055"
    texts = [raw(score=1).replace(b'"score":1', b'"score":' + long) for _ in range(50)]
    assert_as_the_rules_say(converter, texts)
    assert_as_the_rules_say(converter, [text[:-1] + b',"more_1":' + long + b"}" for text in texts])


def test_columns_do_not_depend_on_which_fields_came_first():
    schema = with_more_fields(SHOP, MOST_EXPECTED_FIELDS)
    raws = [json.dumps({**CLEAN, f"more_{n % 60}": [n, str(n), None][n % 3]}).encode() for n in range(75)]
    whole = converter_of(schema).convert(batch(raws))
    converter = converter_of(schema)
    parts = [converter.convert(batch([text])) for text in raws]
    assert [row for part in parts for row in comparable(part.data.to_struct_array())] == comparable(
        whole.data.to_struct_array()
    )
