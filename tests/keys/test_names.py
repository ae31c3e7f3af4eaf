"""Names in keys: sanitised in data keys, percent-encoded in manifest keys."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.keys import KeyTemplate, key_name, manifest_root, sanitize_name, scope_root, stream_root
from s3dest_dagster.keys.names import (
    KEY_CHARACTERS,
    SEPARATORS,
    decode_name,
    encode_name,
    is_kept_apart,
    sanitize_segment,
)
from s3dest_dagster.stream import Scope, StreamId

LAKE = KeyTemplate("lake/raw", "${NAMESPACE}/${STREAM_NAME}/${EPOCH}_")
anything = st.text(st.characters(), max_size=300)


@pytest.mark.parametrize(
    ("name", "in_keys"),
    [
        ("date=2022-03-15", "date=2022-03-15"),
        ("a/b", "a/b"),
        ("Größe", "Große".replace("ß", "_")),
        ("e\u0301te\u0301", "ete"),
        ("😀", "_"),
        ("a~b", "a_b"),
        ("\ud800", "_"),
        ("", ""),
    ],
)
def test_sanitize_name(name, in_keys):
    assert sanitize_name(name) == in_keys


@given(anything)
def test_a_sanitised_name_has_only_key_characters_and_stays_unchanged(name):
    once = sanitize_name(name)
    assert set(once) <= KEY_CHARACTERS
    assert sanitize_name(once) == once


@pytest.mark.parametrize(
    ("names", "beginning"),
    [
        (["名前", "住所", "__"], "_"),
        (["50%", "50#", "50_", "50 "], "50"),
        (["café", "cafe", "cafe\u0301"], "cafe"),
        (["a~b", "a_b", "a^b"], "a_b"),
        (["😀", "_", "\ud800"], "_"),
    ],
)
def test_names_that_the_connector_makes_equal_have_different_keys(names, beginning):
    made = [key_name(each) for each in names]
    assert len(set(made)) == len({each.replace(" ", "_") for each in names})
    assert all(each.startswith(beginning) for each in made)
    KeyTemplate("", "${STREAM_NAME}/").check_streams(StreamId(None, each) for each in names if " " not in each)
    KeyTemplate("", "${NAMESPACE}/x/").check_streams(StreamId(each, "x") for each in names if " " not in each)
    assert len({sanitize_segment(each) for each in names}) == len(set(made))


@pytest.mark.parametrize(
    "name", ["users", "My Stream", "a\\b", "2021-05-27|eu", "a/b.c:d-e_f", "{date}", "[dbo].[users]"]
)
def test_an_unchanged_name_or_one_with_replaced_separators_has_the_connectors_key(name):
    assert key_name(name) == sanitize_name(name)


def test_a_hash_depends_only_on_the_name_and_is_readable():
    digest = hashlib.sha256(b"50%").hexdigest()
    assert key_name("50%") == f"50_{digest[:10]}"


@given(anything, anything)
def test_two_hashed_names_never_share_a_key_and_none_leaves_its_directory(one, other):
    made = key_name(one)
    assert set(made) <= KEY_CHARACTERS
    assert made.count("/") == sanitize_name(one).count("/")
    if is_kept_apart(one) and is_kept_apart(other):
        assert (made == key_name(other)) == (one == other)
    assert is_kept_apart(one) or set(one) & SEPARATORS


@given(anything)
def test_a_segment_is_one_directory_name_that_does_not_climb(text):
    segment = sanitize_segment(text)
    assert segment.strip(".")
    assert "/" not in segment


@pytest.mark.parametrize(
    ("scope", "root"),
    [
        (Scope(StreamId("public", "users")), "lake/raw/_s3dest/public/users/~/"),
        (Scope(StreamId(None, "users"), "2024-01-01"), "lake/raw/_s3dest/~/users/2024-01-01/"),
        (Scope(StreamId("", "users"), "2024-01-01|eu"), "lake/raw/_s3dest/~/users/2024-01-01%7Ceu/"),
        (Scope(StreamId("~", "a/b"), "~"), "lake/raw/_s3dest/%7E/a%2Fb/%7E/"),
        (Scope(StreamId(".", ".."), "..."), "lake/raw/_s3dest/%2E/%2E%2E/%2E%2E%2E/"),
        (Scope(StreamId("a b", "用"), ""), "lake/raw/_s3dest/a%20b/%E7%94%A8/~~/"),
    ],
)
def test_scope_root_keeps_raw_names_apart(scope, root):
    assert scope_root(LAKE.literal_root, scope) == root
    assert root.startswith(stream_root(LAKE.literal_root, scope.stream))
    assert stream_root(LAKE.literal_root, scope.stream).startswith(manifest_root(LAKE.literal_root))


@pytest.mark.parametrize(
    ("bucket_path", "root"),
    [
        ("", "_s3dest/"),
        ("/", "_s3dest/"),
        ("/data//x/", "data/x/_s3dest/"),
        ("data/${NAMESPACE}/x", "data/_s3dest/"),
        ("data/x${NAMESPACE}", "data/_s3dest/"),
        ("${NAMESPACE}", "_s3dest/"),
        ("data", "data/_s3dest/"),
    ],
)
def test_manifests_are_under_the_literal_part_of_the_bucket_path(bucket_path, root):
    assert manifest_root(KeyTemplate(bucket_path, "${STREAM_NAME}/").literal_root) == root


@given(st.one_of(st.none(), anything), st.one_of(st.none(), anything))
def test_two_names_never_have_the_same_encoding(one, other):
    assert (encode_name(one) == encode_name(other)) == (one == other)


@given(st.one_of(st.none(), anything))
def test_an_encoded_name_is_one_short_directory_name(name):
    encoded = encode_name(name)
    assert 0 < len(encoded.encode()) <= 180
    assert "/" not in encoded
    assert encoded.strip(".")


@given(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=15)))
def test_a_short_name_can_be_decoded(name):
    assert decode_name(encode_name(name)) == name


def test_a_long_name_is_shortened_but_stays_unique():
    one, other = "用" * 300, "用" * 299 + "户"
    assert encode_name(one) != encode_name(other)
    assert encode_name(one).startswith("%E7%94%A8")
