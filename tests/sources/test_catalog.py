"""Catalogs: the streams of a source, and the selection of streams to read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.sources.airbyte.catalog import Catalog, read_catalog
from s3dest_dagster.stream import Stream, StreamId, SyncMode

SCHEMA = {"type": "object", "description": "People", "properties": {"id": {"type": "integer"}}}
USERS = {
    "name": "users",
    "namespace": "public",
    "json_schema": SCHEMA,
    "supported_sync_modes": ["full_refresh", "incremental"],
    "source_defined_cursor": True,
    "default_cursor_field": ["updated_at"],
    "source_defined_primary_key": [["id"]],
    "is_resumable": True,
}


def configured(stream=USERS, **entry) -> dict:
    return {"streams": [{"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"} | entry]}


def requested(catalog: dict, sync_mode: SyncMode) -> dict:
    (stream,) = Catalog(catalog).streams
    chosen = Stream(name=stream.name, namespace=stream.namespace, sync_mode=sync_mode)
    (entry,) = Catalog(catalog).configure([chosen])["streams"]
    return entry


def test_a_discovered_stream_is_a_full_refresh_with_its_schema():
    (stream,) = Catalog({"streams": [USERS]}).streams
    expected = Stream(name="users", namespace="public", json_schema=SCHEMA, description="People")
    assert replace(stream, cursor_field=()) == expected
    assert stream.sync_mode is SyncMode.FULL_REFRESH


def test_a_stream_needs_only_a_name():
    (stream,) = Catalog({"streams": [{"name": "users"}]}).streams
    assert (stream.id, stream.json_schema) == (StreamId(None, "users"), None)


@pytest.mark.parametrize(("destination", "mode"), [("append", "append"), ("overwrite", "full_refresh")])
def test_a_configured_stream_has_the_mode_of_its_destination(destination, mode):
    (stream,) = Catalog(configured(destination_sync_mode=destination)).streams
    assert stream.sync_mode == mode


@pytest.mark.parametrize(
    ("mode", "word"), [("append_dedup", "duplicates"), ("upsert", "not known"), (None, "not known")]
)
def test_other_destination_modes_are_refused_with_the_alternatives(mode, word):
    with pytest.raises(SettingsError, match=f"users.*{word}.*'append' or 'overwrite'") as caught:
        Catalog(configured(destination_sync_mode=mode))
    assert caught.value.setting == "destination_sync_mode"


@pytest.mark.parametrize(
    "raw", [{}, {"streams": {}}, {"streams": ["users"]}, {"streams": [{}]}, {"streams": [{"stream": {}}]}]
)
def test_an_invalid_catalog_is_refused(raw):
    with pytest.raises(SettingsError, match="catalog"):
        Catalog(raw)


def test_a_repeated_stream_is_refused():
    with pytest.raises(SettingsError, match=r"public\.users twice"):
        Catalog({"streams": [USERS, USERS]})


# Requests to the source


def test_the_discovered_stream_is_passed_back_unchanged():
    assert requested({"streams": [USERS]}, SyncMode.FULL_REFRESH)["stream"] == USERS


def test_an_append_stream_is_read_incrementally_with_the_sources_cursor_and_key():
    entry = requested({"streams": [USERS]}, SyncMode.APPEND)
    assert entry["sync_mode"] == "incremental"
    assert entry["destination_sync_mode"] == "append"
    assert entry["cursor_field"] == ["updated_at"]
    assert entry["primary_key"] == [["id"]]


def test_a_full_refresh_is_read_in_full():
    entry = requested({"streams": [USERS]}, SyncMode.FULL_REFRESH)
    assert (entry["sync_mode"], entry["destination_sync_mode"]) == ("full_refresh", "overwrite")


@pytest.mark.parametrize(
    ("changes", "mode"),
    [
        ({"supported_sync_modes": ["full_refresh"]}, "full_refresh"),
        ({"supported_sync_modes": None}, "full_refresh"),
        ({"source_defined_cursor": False, "default_cursor_field": []}, "full_refresh"),
        ({"source_defined_cursor": False}, "incremental"),
        ({"default_cursor_field": []}, "incremental"),
    ],
)
def test_an_append_stream_is_read_incrementally_only_if_the_source_supports_it(changes, mode):
    assert requested({"streams": [USERS | changes]}, SyncMode.APPEND)["sync_mode"] == mode


def test_a_source_without_full_refresh_is_read_incrementally():
    only = USERS | {"supported_sync_modes": ["incremental"]}
    assert requested({"streams": [only]}, SyncMode.FULL_REFRESH)["sync_mode"] == "incremental"


def test_a_configured_catalog_has_its_own_cursor_key_and_mode():
    chosen = configured(sync_mode="incremental", cursor_field=["created"], primary_key=[["email"]])
    entry = requested(chosen, SyncMode.APPEND)
    assert (entry["sync_mode"], entry["cursor_field"], entry["primary_key"]) == (
        "incremental",
        ["created"],
        [["email"]],
    )
    assert requested(configured(sync_mode="full_refresh"), SyncMode.APPEND)["sync_mode"] == "full_refresh"


def test_a_configured_cursor_makes_a_stream_incremental():
    bare = USERS | {"source_defined_cursor": False, "default_cursor_field": []}
    chosen = configured(bare, sync_mode="incremental", cursor_field=["created"])
    assert requested(chosen, SyncMode.APPEND)["sync_mode"] == "incremental"


def test_newer_protocols_receive_the_generation_members():
    entry = requested({"streams": [USERS]}, SyncMode.APPEND)
    assert [entry[name] for name in ("generation_id", "minimum_generation_id", "sync_id")] == [0, 0, 0]


def test_only_the_selected_streams_are_requested_in_their_order():
    catalog = Catalog({"streams": [{"name": name} for name in "abc"]})
    entries = catalog.configure([Stream(name="c"), Stream(name="a")])["streams"]
    assert [entry["stream"]["name"] for entry in entries] == ["c", "a"]


def test_an_unknown_stream_is_refused_with_the_closest_match_or_all_names():
    catalog = Catalog({"streams": [USERS]})
    with pytest.raises(SettingsError, match=r"no stream public\.user\. Did you mean 'public\.users'\?"):
        catalog.configure([Stream(name="user", namespace="public")])
    with pytest.raises(SettingsError, match=r"It has: public\.users\."):
        catalog.configure([Stream(name="zzz")])


# Reading a catalog


@pytest.mark.parametrize("wrap", [lambda raw: raw, lambda raw: {"type": "CATALOG", "catalog": raw}])
def test_a_catalog_is_read_with_or_without_its_message(tmp_path, wrap):
    raw = {"streams": [USERS]}
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps(wrap(raw), indent=2))
    assert read_catalog(path).raw == raw
    assert read_catalog(str(path)).raw == raw
    assert read_catalog(wrap(raw)).raw == raw


def test_a_catalog_is_found_in_the_output_of_discover(tmp_path):
    path = tmp_path / "catalog.json"
    log = json.dumps({"type": "LOG", "log": {"level": "INFO", "message": "x"}})
    path.write_text(f"{log}\n{json.dumps({'type': 'CATALOG', 'catalog': {'streams': [USERS]}})}\n{log}\n")
    assert [stream.name for stream in read_catalog(path).streams] == ["users"]


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]", b'{"a":1}', b"\xff"])
def test_a_file_without_a_catalog_is_refused_by_name(tmp_path, content):
    path = tmp_path / "catalog.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"catalog\.json"):
        read_catalog(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.json"):
        read_catalog(tmp_path / "nowhere.json")


# ---------------------------------------------------------------------- fields that are left out

WIDE = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "mail": {"type": "string"},
        "a.b": {"type": "string"},
        "person": {"type": "object", "properties": {"name": {}, "phone": {}}},
        "open": {"type": "object", "properties": {"x": {}}},
        "items": {"type": "array", "items": {"type": "object", "properties": {"code": {}, "price": {}}}},
        "tags": {"type": "array", "items": {"type": "object", "properties": {"code": {}}}},
    },
}
NARROW = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "person": {"type": "object", "properties": {"name": {}}},
        "open": {"type": "object"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"price": {}}}},
        "tags": {"type": "array"},
    },
}


def test_properties_that_only_the_discovered_catalog_has_are_deselected():
    discovered = {"streams": [{**USERS, "json_schema": WIDE}]}
    (stream,) = read_catalog(configured({**USERS, "json_schema": NARROW}), discovered).streams
    assert list(map(str, stream.deselected)) == ["mail", '["a.b"]', "person.phone", "items[].code"]
    assert stream.selection.hides(stream.deselected[0]) == "deselected"


PERSON = {"type": "object", "properties": {"name": {}, "phone": {}}}
PART = {"type": "object", "properties": {"name": {}}}


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ({"anyOf": [PERSON, {"type": "null"}]}, {"anyOf": [PART, {"type": "null"}]}),
        ({"oneOf": [{"type": "string"}, {"allOf": [PERSON]}]}, {"oneOf": [{"type": "string"}, {"allOf": [PART]}]}),
        ({"$ref": "#/definitions/person"}, {"$ref": "#/definitions/person"}),
        ({"$ref": "#/definitions/person"}, PART),
    ],
    ids=["anyOf", "oneOf", "reference", "reference that is resolved"],
)
def test_properties_are_deselected_behind_references_and_in_combinations(wide, narrow):
    schemas = (
        {"properties": {"p": definition, "ps": {"items": [definition]}}, "definitions": {"person": person}}
        for definition, person in ((wide, PERSON), (narrow, PART))
    )
    discovered, chosen = ({**USERS, "json_schema": schema} for schema in schemas)
    (stream,) = read_catalog(configured(chosen), {"streams": [discovered]}).streams
    assert list(map(str, stream.deselected)) == ["p.phone", "ps[].phone"]


def test_a_schema_that_contains_itself_is_followed():
    def of(*names: str) -> dict:
        person = {"properties": {**{name: {} for name in names}, "friend": {"$ref": "#/definitions/person"}}}
        return {"properties": {"person": {"$ref": "#/definitions/person"}}, "definitions": {"person": person}}

    discovered, chosen = {**USERS, "json_schema": of("a", "b")}, {**USERS, "json_schema": of("a")}
    (stream,) = read_catalog(configured(chosen), {"streams": [discovered]}).streams
    assert list(map(str, stream.deselected))[:3] == ["person.b", "person.friend.b", "person.friend.friend.b"]


def test_nothing_is_deselected_without_a_discovered_catalog_or_in_a_stream_that_it_lacks():
    other = {"streams": [{"name": "users", "json_schema": WIDE}]}
    for discovered in (None, other):
        assert read_catalog(configured({**USERS, "json_schema": NARROW}), discovered).streams[0].deselected == ()


@pytest.mark.parametrize(
    ("entry", "cursor"),
    [
        (configured(cursor_field=["meta", "at"])["streams"][0], ("meta", "at")),
        (configured()["streams"][0], ("updated_at",)),
        (USERS, ("updated_at",)),
        ({"name": "users", "json_schema": SCHEMA}, ()),
        ({"name": "users", "json_schema": SCHEMA, "default_cursor_field": [1]}, ()),
    ],
)
def test_the_cursor_is_the_one_that_is_declared(entry, cursor):
    assert Catalog({"streams": [entry]}).streams[0].cursor_field == cursor


# ---------------------------------------------------------------------- settings of streams

SEVERAL = Catalog({"streams": [USERS, {"name": "users", "namespace": "old"}, {"name": "orders"}]})


def test_settings_are_given_by_the_names_of_streams():
    given = {"orders": StreamSettings(owner="a"), "public.users": StreamSettings(owner="b"), "order": StreamSettings()}
    assert [each.settings.owner for each in SEVERAL.streams_with(given)] == ["b", None, "a"]
    assert SEVERAL.unknown_names(given) == {"order": "The catalog has no stream 'order'. Did you mean 'orders'?"}


def test_settings_of_an_ambiguous_name_are_refused():
    with pytest.raises(SettingsError, match="several streams 'users'"):
        SEVERAL.streams_with({"users": StreamSettings()})


def test_settings_of_one_stream_under_two_names_are_refused():
    catalog = Catalog({"streams": [USERS]})
    with pytest.raises(SettingsError, match=r"'public\.users' and 'users' are the same stream"):
        catalog.streams_with({"users": StreamSettings(), "public.users": StreamSettings()})
