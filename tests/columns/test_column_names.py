"""Columns get distinct names that do not depend on the order of the source's names."""

from __future__ import annotations

import re
from hashlib import sha256
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.column_names import (
    NameRequest,
    allocate_names,
    is_connectors_name,
    styled_name,
    unique_names,
)
from s3dest_dagster.settings.destination import NameStyle

SOURCES = st.sets(st.text(alphabet="aAbB_-. 2éя名", max_size=4), max_size=8)
STYLES = st.sampled_from(NameStyle)


def suffix(source: str) -> str:
    return f"_{sha256(source.encode()).hexdigest()[:6]}"


def test_a_name_that_needs_no_change_keeps_its_spelling_and_others_get_a_suffix():
    assert unique_names(["a-b", "a_b", "a b"]) == [f"a_b{suffix('a-b')}", "a_b", f"a_b{suffix('a b')}"]


def test_all_names_that_become_the_same_get_a_suffix():
    assert unique_names(["+1", "-1"]) == [f"_1{suffix('+1')}", f"_1{suffix('-1')}"]


def test_names_of_other_alphabets_stay_distinct():
    assert unique_names(["名前", "住所"]) == [f"__{suffix('名前')}", f"__{suffix('住所')}"]


def test_reserved_names_are_never_assigned():
    assert unique_names(["over", "o-k"], reserved=("over", "o_k")) == [f"over{suffix('over')}", f"o_k{suffix('o-k')}"]


def test_a_suffix_that_is_used_gets_longer():
    long = sha256(b"a-b").hexdigest()
    assert unique_names(["a-b"], reserved=["a_b", f"a_b_{long[:6]}"]) == [f"a_b_{long[:7]}"]


@pytest.mark.parametrize(
    ("style", "names"),
    [
        (NameStyle.CONNECTOR, {"userId": "userId", "HTTPCode v2": "HTTPCode_v2", "é": "e"}),
        (NameStyle.SNAKE, {"userId": "user_id", "HTTPCode v2": "http_code_v2", "é": "e"}),
        (NameStyle.LOWER, {"userId": "userid", "HTTPCode v2": "httpcode_v2", "é": "e"}),
        (NameStyle.KEEP, {"userId": "userId", "HTTPCode v2": "HTTPCode v2", "é": "é"}),
    ],
)
def test_the_styles_of_names(style, names):
    assert {source: styled_name(source, style) for source in names} == names


@pytest.mark.parametrize("style", [NameStyle.SNAKE, NameStyle.LOWER])
def test_a_name_without_latin_letters_has_its_suffix_at_once(style):
    assert styled_name("名前", style) == f"_{suffix('名前')}"


@pytest.mark.parametrize("style", NameStyle)
def test_names_that_differ_in_case_only_are_made_distinct_for_readers_that_fold(style):
    names = allocate_names([NameRequest("ID"), NameRequest("id")], (), style)
    distinct = len({name.lower() for name in names.values()})
    assert distinct == (1 if style is NameStyle.CONNECTOR else 2)


@given(SOURCES, SOURCES, STYLES)
def test_names_are_distinct_and_independent_of_the_order(sources, used, style):
    requests = [NameRequest(source) for source in sources]
    names = allocate_names(requests, used, style)
    assert names == allocate_names(requests[::-1], used, style)
    all_names = [*names.values(), *used]
    assert len(set(all_names)) == len(sources) + len(used)
    if style is not NameStyle.CONNECTOR:
        folded = {name.casefold() for name in names.values()}
        assert len(folded) == len(sources)
        assert folded.isdisjoint(name.casefold() for name in used)


@given(SOURCES, st.sampled_from([NameStyle.CONNECTOR, NameStyle.SNAKE, NameStyle.LOWER]))
def test_every_style_but_keep_gives_names_that_avro_accepts(sources, style):
    names = allocate_names([NameRequest(source) for source in sources], (), style)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names.values())


@pytest.mark.parametrize("style", [NameStyle.SNAKE, NameStyle.LOWER, NameStyle.KEEP])
def test_a_very_long_name_is_cut_and_distinct(style):
    requests = [NameRequest("x" * 300), NameRequest("x" * 400), NameRequest("x" * 300, "", "local_timestamp")]
    names = set(allocate_names(requests, (), style).values())
    assert len(names) == 3
    assert max(map(len, names)) <= 255


@pytest.mark.parametrize(
    ("source", "name"), [("", "_"), ("a\x00b", "a_b"), ("a\nb", "a_b"), ("\u2028", "_"), ("é", "é")]
)
def test_kept_names_have_no_control_characters(source, name):
    assert styled_name(source, NameStyle.KEEP) == name


@pytest.mark.parametrize("style", [NameStyle.SNAKE, NameStyle.LOWER, NameStyle.KEEP])
def test_names_that_unicode_composes_in_two_ways_are_distinct_for_readers_that_compose(style):
    names = allocate_names([NameRequest("é"), NameRequest("e\u0301"), NameRequest("É")], (), style).values()
    assert len({normalize("NFC", name).casefold() for name in names}) == 3


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("e_mail", "e-mail", True),
        ("e_mail_0a1b2c", "e-mail", True),
        ("e_mail_string", "e-mail", True),
        ("e_mail_mixed_0a1b2c", "e-mail", True),
        ("mail", "e-mail", False),
        ("e_mail_address", "e-mail", False),
        ("user_id", "userId", False),
    ],
)
def test_the_connectors_names_are_known(name, source, expected):
    assert is_connectors_name(name, source) is expected
