"""Groups of records by the values of their directories: all records, in their order, however the fields are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import JsonBatch
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.partition_values import RecordGrouper, in_order
from s3dest_dagster.settings.partition_fields import FieldValues, partition_rule

SCHEMA = {
    "properties": {
        "region": {"type": ["null", "string"]},
        "shop": {"type": ["null", "string"]},
        "a/b": {"type": ["null", "string"]},
        "number": {"type": ["null", "integer"]},
        "address": {"type": "object", "properties": {"country": {"type": "string"}}},
    }
}
RECORD = record_type(SCHEMA, "orders", None)


def grouper(*by: Any) -> RecordGrouper:
    return RecordGrouper(partition_rule(list(by)), RECORD, "orders")


def batch_of(raws: Sequence[bytes]) -> JsonBatch:
    return JsonBatch(raws, np.arange(len(raws), dtype=np.int64), sum(map(len, raws)))


def records_by_values(made: RecordGrouper, batch: JsonBatch) -> list[tuple[FieldValues, list[bytes]]]:
    """The records of each group, which must be next to each other."""
    groups = made.group(batch)
    ordered = batch if groups.order is None else in_order(batch, groups.order)
    assert isinstance(ordered, JsonBatch)
    assert [batch.raws[moment] for moment in ordered.emitted_at.tolist()] == list(ordered.raws)
    starts = [0, *groups.ends[:-1]]
    return [
        (values, list(ordered.raws[start:end]))
        for values, start, end in zip(groups.values, starts, groups.ends, strict=True)
    ]


def expected_groups(records: Sequence[Mapping[str, Any]], *names: str) -> dict[FieldValues, list[bytes]]:
    found: dict[FieldValues, list[bytes]] = {}
    for each in records:
        found.setdefault(tuple(each.get(name) for name in names), []).append(json.dumps(each).encode())
    return found


@pytest.mark.parametrize("distinct", [2, 30, 400])
def test_records_keep_their_order_within_groups_however_many_values_there_are(distinct: int) -> None:
    """Two fields of 400 values each have too many combinations to count them all."""
    random = np.random.default_rng(distinct)
    records = [
        {"region": f"r{region}", "shop": f"s{shop}" if shop else None}
        for region, shop in random.integers(0, distinct, (3_000, 2)).tolist()
    ]
    found = records_by_values(grouper("region", "shop"), batch_of([json.dumps(each).encode() for each in records]))
    assert len(found) == len(dict(found))
    assert dict(found) == expected_groups(records, "region", "shop")


TEXTS = st.one_of(st.none(), st.sampled_from(["eu", "us", 'quo"te', "back\\slash", "Ünï", "\u2028", "1", "null"]))


@given(st.lists(st.fixed_dictionaries({}, optional={"region": TEXTS, "shop": TEXTS}), min_size=1), st.booleans())
def test_fields_of_strings_are_read_with_their_escapes_and_nulls(records: list[Any], ascii_only: bool) -> None:
    raws = [json.dumps(each, ensure_ascii=ascii_only).encode() for each in records]
    found = dict(records_by_values(grouper("region", "shop"), batch_of(raws)))
    by_values = {values: [json.loads(raw) for raw in own] for values, own in found.items()}
    expected = expected_groups(records, "region", "shop")
    assert by_values == {values: [json.loads(raw) for raw in own] for values, own in expected.items()}


ODD = [
    (b'{"region":7}', "7"),
    (b'{"region":true}', "true"),
    (b'{"region":"eu","region":"us"}', "us"),
    (b'{"reg\\u0069on":"eu"}', "eu"),
    (b'{"other":{"region":"us"},"region":"eu"}', "eu"),
    (b'{"other":"\\"region\\":\\"us\\""}', None),
    (b'{ "region" : "eu" }', "eu"),
]


@pytest.mark.parametrize(("raw", "value"), ODD)
@pytest.mark.parametrize("by", [["region"], ["region", "address.country"], ["region", "a/b"]], ids=str)
def test_a_value_that_is_no_string_changes_no_other_values(raw: bytes, value: str | None, by: list[str]) -> None:
    made = grouper(*by)
    plain = [b'{"region":"eu"}', b'{"region":null}', b"{}", b'{"region":"us"}']
    for _ in range(2):
        for raws in (plain, [*plain, raw], plain):
            values = {raw: values[0] for values, own in records_by_values(made, batch_of(raws)) for raw in own}
            expected = dict(zip(plain, ["eu", None, None, "us"], strict=True)) | {raw: value}
            assert values == {raw: expected[raw] for raw in raws}
