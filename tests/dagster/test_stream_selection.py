"""The streams that a component selects by names, patterns and exclusions, and which entry's settings each has."""

from __future__ import annotations

import dagster as dg
import pytest

from s3dest_dagster import AirbyteSource, FileSource, StreamSettings
from s3dest_dagster.dagster.component.stream_selection import select_streams
from s3dest_dagster.dagster.component.streams import ComponentStream
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte.catalog import Catalog

STREAMS = ("crm.users", "crm.user_notes", "crm.internal_log", "shop.orders", "shop.users", "events [raw]")
DAILY, HOURLY = dg.DailyPartitionsDefinition("2026-01-01"), dg.HourlyPartitionsDefinition("2026-01-01-00:00")


@pytest.fixture
def source() -> AirbyteSource:
    entries = []
    for stream in STREAMS:
        namespace, _, name = stream.rpartition(".")
        entries.append(
            {"name": name, "json_schema": {"type": "object"}, **({"namespace": namespace} if namespace else {})}
        )
    return AirbyteSource("source-crm", catalog=Catalog({"streams": entries}))


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["*"], STREAMS),
        (["crm.*"], ("crm.users", "crm.user_notes", "crm.internal_log")),
        (["user*"], ("crm.users", "crm.user_notes", "shop.users")),
        (["*.user?"], ("crm.users", "shop.users")),
        (["!crm.*"], ("shop.orders", "shop.users", "events [raw]")),
        (["!orders", "!internal_*", "!events [raw]"], ("crm.users", "crm.user_notes", "shop.users")),
        (["shop.*", "!orders"], ("shop.users",)),
        (["!shop.*", "*"], ("crm.users", "crm.user_notes", "crm.internal_log", "events [raw]")),
        # The longer pattern decides, in whichever order they are written.
        (["crm.*", "!crm.user*", "crm.user_*"], ("crm.user_notes", "crm.internal_log")),
        (["crm.user_*", "!crm.user*", "crm.*"], ("crm.user_notes", "crm.internal_log")),
        # A name beats every pattern, and comes first.
        (["!crm.*", "crm.internal_log", "*"], ("crm.internal_log", "shop.orders", "shop.users", "events [raw]")),
        (["events [raw]"], ("events [raw]",)),
        (["events*"], ("events [raw]",)),
        # A pattern that excludes waits for its first stream.
        (["shop.*", "!tmp_*"], ("shop.orders", "shop.users")),
    ],
)
def test_the_selected_streams(source, entries, expected):
    assert tuple(str(stream.id) for _, stream in select_streams(source, entries, None)) == expected


def test_of_all_entries_that_match_the_most_specific_one_wins_setting_by_setting(source):
    entries = [
        ComponentStream("users", namespace="crm", sync_mode="full_refresh"),
        ComponentStream("crm.user*", partitions_def=HOURLY, settings=StreamSettings(owner="notes")),
        ComponentStream(
            "*",
            sync_mode="append",
            partitions_def=DAILY,
            io_manager_key="lake",
            settings=StreamSettings(owner="all", expire_partitions_after=7),
        ),
    ]
    for order in (entries, entries[::-1]):
        found = {str(stream.id): (own, stream) for own, stream in select_streams(source, order, None)}
        assert len(found) == len(STREAMS)
        seen = {
            name: (
                stream.sync_mode.value,
                own.partitions_def,
                own.io_manager_key,
                stream.settings.owner,
                stream.settings.expire_partitions_after,
            )
            for name, (own, stream) in found.items()
        }
        assert seen["crm.users"] == ("full_refresh", HOURLY, "lake", "notes", 7)
        assert seen["crm.user_notes"] == ("append", HOURLY, "lake", "notes", 7)
        assert seen["shop.orders"] == ("append", DAILY, "lake", "all", 7)


def test_a_stated_default_and_no_partitions_replace_those_of_a_pattern(source):
    entries = [
        ComponentStream("*", partitions_def=DAILY, settings=StreamSettings(deselected_fields="land")),
        ComponentStream("shop.users", unpartitioned=True, stated=frozenset({"deselected_fields"})),
    ]
    found = {str(stream.id): (own, stream) for own, stream in select_streams(source, entries, None)}
    own, stream = found["shop.users"]
    assert (own.partitions_def, own.unpartitioned, stream.settings.deselected_fields) == (None, True, "exclude")
    own, stream = found["shop.orders"]
    assert (own.partitions_def, own.unpartitioned, stream.settings.deselected_fields) == (DAILY, False, "land")


def test_a_longer_pattern_wins_and_of_equally_long_ones_the_later(source):
    short, long = ComponentStream("shop.o*", sync_mode="append"), ComponentStream("*.orders", sync_mode="full_refresh")
    assert [mode_of(source, short, long), mode_of(source, long, short)] == ["full_refresh", "full_refresh"]
    first, other = (
        ComponentStream("?hop.orders", sync_mode="append"),
        ComponentStream("shop.order?", sync_mode="full_refresh"),
    )
    assert [mode_of(source, first, other), mode_of(source, other, first)] == ["full_refresh", "append"]


def mode_of(source: AirbyteSource, *entries: ComponentStream) -> str:
    ((_, stream),) = select_streams(source, entries, None)
    return stream.sync_mode.value


def test_attributes_of_the_asset_are_applied_one_after_another(source):
    def group(name):
        return lambda spec, _: spec.replace_attributes(group_name=name).merge_attributes(tags={name: ""})

    entries = [
        ComponentStream("crm.users", translation=group("exact")),
        ComponentStream("*", translation=group("all")),
        ComponentStream("crm.*", translation=group("crm")),
    ]
    own, stream = select_streams(source, entries, None)[0]
    spec = own.translation(dg.AssetSpec("a"), stream)
    assert (spec.group_name, list(spec.tags)) == ("exact", ["all", "crm", "exact"])


@pytest.mark.parametrize("entry", ["sales.*", "!sales", "user?s"])
def test_an_entry_that_matches_nothing_is_refused_with_the_known_streams(source, entry):
    with pytest.raises(SettingsError, match=r"No stream of the source matches .*shop\.orders"):
        select_streams(source, [entry], None)


@pytest.mark.parametrize("entry", ["v*", "!visits"])
def test_patterns_need_a_source_that_lists_its_streams(entry):
    with pytest.raises(SettingsError, match="Patterns and exclusions are for sources that list"):
        select_streams(FileSource("{{ stream_name }}.csv"), [entry], None)
