"""The path of a field is read the same wherever it stands, and is written so that it reads as the same path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.field_paths import ITEMS, FieldPath


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ("mail", ("mail",)),
        ("person.mail", ("person", "mail")),
        ("tags[]", ("tags", ITEMS)),
        ("items[].mail", ("items", ITEMS, "mail")),
        ("matrix[][]", ("matrix", ITEMS, ITEMS)),
        ("名前.e-mail", ("名前", "e-mail")),
        (["a.b", "mail"], ("a.b", "mail")),
        (["a.b", "[]", "mail"], ("a.b", ITEMS, "mail")),
        (("tags[]", "x"), ("tags[]", "x")),
        ('["a.b", "mail"]', ("a.b", "mail")),
        (["", "x"], ("", "x")),
    ],
)
def test_a_path_is_a_dotted_text_or_a_list_of_names(given, steps):
    assert FieldPath.parse(given).steps == steps


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "empty name"),
        ("a..b", "empty name"),
        ("a.", "empty name"),
        ("[]", "no name"),
        ("a.[].b", "empty name"),
        ("[a", "bracket"),
        ([], "no name"),
        (["a", 1], "not a text"),
        (["[]", "a"], "begins with items"),
        (7, "neither a text nor a list"),
        (None, "neither a text nor a list"),
    ],
)
def test_anything_else_is_refused_with_the_grammar(given, problem):
    with pytest.raises(SettingsError, match=problem) as refused:
        FieldPath.parse(given, "fields.exclude")
    assert refused.value.setting == "fields.exclude"
    assert refused.value.message.startswith("fields.exclude: the path")
    assert "items[].mail" in refused.value.message


_names = st.text(max_size=5) | st.sampled_from(["a.b", "a[]", "[", '["a"]', "[]x", "."])
_paths = st.tuples(_names.filter(lambda name: name != "[]"), st.lists(_names | st.none(), max_size=4))


@given(_paths)
def test_a_path_reads_as_itself(parts):
    first, rest = parts
    path = FieldPath((first, *(ITEMS if step == "[]" else step for step in rest)))
    assert FieldPath.parse(str(path)) == path


def test_a_path_is_written_with_dots_where_that_is_unambiguous():
    assert str(FieldPath.parse(["items", "[]", "mail"])) == "items[].mail"
    assert str(FieldPath.parse(["a.b", "mail"])) == '["a.b", "mail"]'


def test_a_path_starts_with_the_paths_to_what_contains_it():
    path = FieldPath.parse("items[].mail")
    assert path.starts_with(FieldPath.parse("items"))
    assert path.starts_with(path)
    assert not path.starts_with(FieldPath.parse("item"))
    assert not FieldPath.parse("items").starts_with(path)
