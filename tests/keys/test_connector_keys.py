"""The keys of the connector are recognised in all of its spellings, and no others."""

from __future__ import annotations

import pytest
from hypothesis import given
from keys.test_template import UUID, moments, parts, streams, templates, usable

from s3dest_dagster.keys import KeyTemplate, keys_of_connector, prefixes_of_connector, sanitize_name
from s3dest_dagster.stream import Scope, StreamId

USERS = StreamId("public", "users")
KEY = "lake/public/users/2026_01_04_1767484800000_0.csv.gz"


def template(bucket_path: str = "lake", file_name_pattern: str = "") -> KeyTemplate:
    path_format = "${NAMESPACE}/${STREAM_NAME}/${YEAR}_${MONTH}_${DAY}_${EPOCH}_"
    return KeyTemplate(bucket_path, path_format, file_name_pattern)


@given(templates, streams, moments, parts)
def test_every_key_that_a_template_makes_is_one_that_the_connector_makes(made_by, stream, moment, part):
    usable(made_by, stream)
    key = made_by.bind(Scope(stream), now=moment, uuid=UUID, sync_id="7").key(part, ".csv", uploaded_at=moment)
    keys = keys_of_connector(made_by, stream)
    assert keys.matches(key)
    assert keys.matches(f"{key}-1")
    assert key.startswith(prefixes_of_connector(made_by, stream))
    for foreign in (f"{key}.bak", f"{key}-0", f"{key}-", f"{key}/0.csv", f"x/{key}", f"//{key}"):
        assert not keys.matches(foreign)


@pytest.mark.parametrize("key", [KEY, f"{KEY}-1", f"{KEY}-27"])
def test_the_part_number_is_in_every_spelling(key: str) -> None:
    assert keys_of_connector(template(), USERS).part_of(key) == 0


def test_only_an_empty_bucket_path_makes_keys_that_begin_with_a_slash() -> None:
    key = KEY.removeprefix("lake")
    assert keys_of_connector(template(""), USERS).matches(key)
    assert not keys_of_connector(template(), USERS).matches(f"/{KEY}")


def test_a_placeholder_may_stand_as_it_was_written() -> None:
    keys = keys_of_connector(template(file_name_pattern="{timestamp:micros}_{sync_id}{format_extension}"), USERS)
    before = "lake/public/users/2026_01_04_1767484800000_"
    assert keys.matches(f"{before}{{timestamp:micros}}_42.csv")
    assert keys.matches(f"{before}1767484800000000_{{sync_id}}.csv")
    assert not keys.matches(f"{before}{{timestamp}}_42.csv")


def test_a_name_may_have_lost_its_foreign_letters() -> None:
    stream = StreamId("público", "用户表")
    keys = keys_of_connector(template(), stream)
    lost = KEY.replace("public", sanitize_name("público")).replace("users", "___")
    assert keys.matches(lost)
    assert not keys_of_connector(template(), USERS).matches(lost)


def test_a_manifest_is_no_key_of_the_connector() -> None:
    keys = keys_of_connector(template(), StreamId("_s3dest", "users"))
    assert not keys.matches(KEY.replace("public", "_s3dest"))
