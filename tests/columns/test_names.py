"""Names that Avro accepts, without duplicates."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.names import original_name_doc, standard_name, standard_namespace
from s3dest_dagster.columns.overflow import OverflowNames


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("plain_Name9", "plain_Name9"),
        ("spécial:chars", "special_chars"),
        ("5field", "_5field"),
        ("a \t b", "a_b"),
        ("a\u00a0b", "a_b"),
        ("用户", "__"),
        ("Ⅷ", "VIII"),
        ("²", "_2"),
        ("", "_"),
    ],
)
def test_the_avro_name_of_a_name(name, standard):
    assert standard_name(name) == standard


@pytest.mark.parametrize(
    ("namespace", "standard"), [(None, None), ("", None), ("a.b c", "a.b_c"), ("a..5", "a._5"), (".", None)]
)
def test_a_namespace_is_standardised_part_by_part(namespace, standard):
    assert standard_namespace(namespace) == standard


@given(st.text())
def test_a_standard_name_is_always_an_avro_name(name):
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", standard_name(name))


def test_the_doc_records_a_changed_name():
    assert original_name_doc("a-b", "a_b") == "_airbyte_original_name:a-b"
    assert original_name_doc("a", "a") is None


def test_a_taken_name_in_an_overflow_map_gets_two_prefixes_and_then_numbers():
    names = OverflowNames(["a"])
    own = "_airbyte_additional_properties"
    assert [names.allocate("a") for _ in range(4)] == [
        f"{own}.a",
        f"{own}.{own}.a",
        f"{own}.{own}.a.2",
        f"{own}.{own}.a.3",
    ]
    assert names.allocate("b") == "b"


@given(st.lists(st.sampled_from(["a", "a.2", "a.2.2", "_airbyte_additional_properties.a"]), max_size=12))
def test_names_of_an_overflow_map_are_unique(sources):
    names = OverflowNames()
    assert len({names.allocate(source) for source in sources}) == len(sources)
