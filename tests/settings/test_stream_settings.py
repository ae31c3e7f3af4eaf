"""The settings of one stream: what they accept and refuse, and that every way in leads to the same value."""

from __future__ import annotations

import json
from dataclasses import fields

import dagster as dg
import pytest

from s3dest_dagster import FieldSelection, Stream, StreamSettings, build_stream_assets, stream_asset
from s3dest_dagster.columns import schemas
from s3dest_dagster.columns.names import OVERFLOW_NAMES
from s3dest_dagster.dagster.asset_metadata import stream_of
from s3dest_dagster.dagster.assets import AssetSettings, StreamAssetSettings
from s3dest_dagster.dagster.component.streams import FieldsModel, StreamModel
from s3dest_dagster.dagster.translator import code_version
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.settings.connector_spec import STREAM_FORM, connector_spec
from s3dest_dagster.settings.field_paths import FieldPath
from s3dest_dagster.settings.partition_fields import PartitionField, rule_of_text, rule_text
from s3dest_dagster.settings.schema_contract import SchemaContract
from s3dest_dagster.settings.stream_settings import ENVELOPE_NAMES, RESERVED_NAMES, RULES, STREAM_SETTINGS
from s3dest_dagster.sources.airbyte.connector import AirbyteSource

GIVEN = {
    "owner": "shop/orders",
    "rename": {"person.e-mail": "mail"},
    "fields": {"include": ["id", "person"], "exclude": ["person.phone"], "hash": ["person.e-mail"], "mask": [["id"]]},
    "deselected_fields": "land",
    "schema_contract": {"new_type": "freeze"},
    "partition_by": [
        {"field": "person.born", "as": "day", "tz": "Europe/Berlin"},
        {"field": ["person", "a.b"], "name": "c"},
    ],
    "expire_partitions_after": 30,
}
EXPECTED = StreamSettings(
    owner="shop/orders",
    rename={FieldPath(("person", "e-mail")): "mail"},
    fields=FieldSelection(
        include=(FieldPath(("id",)), FieldPath(("person",))),
        exclude=(FieldPath(("person", "phone")),),
        hash=(FieldPath(("person", "e-mail")),),
        mask=(FieldPath(("id",)),),
    ),
    deselected_fields="land",
    schema_contract=SchemaContract(new_type="freeze"),
    partition_by=(
        PartitionField(FieldPath(("person", "born")), "born_day", "day", "Europe/Berlin"),
        PartitionField(FieldPath(("person", "a.b")), "c"),
    ),
    expire_partitions_after=30,
)
CATALOG = {"streams": [{"name": "orders", "namespace": "shop", "json_schema": {"properties": {"id": {}}}}]}
CONFIG = {
    "s3_bucket_name": "b",
    "s3_bucket_path": "p",
    "s3_bucket_region": "",
    "format": {"format_type": "JSONL"},
}


def settings_of(definition: dg.AssetsDefinition) -> StreamSettings:
    return stream_of(definition.key, definition.metadata_by_key[definition.key]).settings


# ---------------------------------------------------------------------- ways in


def test_a_stream_takes_a_mapping():
    assert Stream(name="orders", settings=GIVEN).settings == EXPECTED  # type: ignore[arg-type]
    assert Stream(name="orders").settings == StreamSettings()


def test_stream_asset_takes_them_beside_the_settings_of_the_asset():
    @stream_asset(group_name="shop", **GIVEN)
    def orders():
        yield {}

    assert settings_of(orders) == EXPECTED
    assert orders.specs_by_key[orders.key].group_name == "shop"


@pytest.mark.parametrize("as_one_run", [False, True])
def test_build_stream_assets_takes_them_beside_the_sync_mode(as_one_run):
    (orders,) = build_stream_assets(
        AirbyteSource("source-shop", {}),
        catalog=CATALOG,
        partitions_def=None,
        streams={"orders": {"sync_mode": "append", **GIVEN}},
        as_one_run=as_one_run,
    )
    assert settings_of(orders) == EXPECTED
    assert stream_of(orders.key, orders.metadata_by_key[orders.key]).sync_mode == "append"


def test_build_stream_assets_refuses_an_unknown_setting():
    with pytest.raises(SettingsError, match=r"Stream 'orders' has no setting 'field'. Did you mean 'fields'\?"):
        build_stream_assets(
            AirbyteSource("source-shop", {}), catalog=CATALOG, partitions_def=None, streams={"orders": {"field": {}}}
        )


def test_the_metadata_of_an_asset_takes_them():
    @dg.asset(metadata={"s3dest/settings": GIVEN})
    def orders(): ...

    assert settings_of(orders) == EXPECTED


def test_a_config_json_takes_them_by_the_names_of_streams():
    config = from_connector_config({**CONFIG, "s3dest": {"streams": {"shop.orders": GIVEN}, "upload_threads": 2}})
    assert config.streams == {"shop.orders": EXPECTED}
    assert config.destination.upload_threads == 2


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        (
            {"orders": {"fields": {"exlude": ["a"]}}},
            r"'orders': fields has no setting 'exlude'. Did you mean 'exclude'\?",
        ),
        ({"orders": {"owners": "a"}}, r"'orders': A stream has no setting 'owners'. Did you mean 'owner'\?"),
        ({"orders": {"fields": {"exclude": ["a..b"]}}}, "'orders': fields.exclude: the path 'a..b' has an empty name"),
        ({"orders": 1}, "'orders': A stream has settings that are not a mapping: 1"),
        (["orders"], "must map the names of streams to their settings"),
    ],
)
def test_a_wrong_setting_in_a_config_json_is_refused_with_its_stream(streams, message):
    with pytest.raises(SettingsError, match=message) as refused:
        from_connector_config({**CONFIG, "s3dest": {"streams": streams}})
    assert refused.value.setting == "s3dest.streams"


def test_every_setting_of_a_stream_has_its_form_in_each_way_in():
    own = {each.name for each in fields(StreamSettings)}
    assert own == set(STREAM_SETTINGS) == set(STREAM_FORM)
    assert own == set(StreamAssetSettings.__annotations__) - set(AssetSettings.__annotations__)
    assert own <= set(StreamModel.model_fields)
    form = connector_spec()["connectionSpecification"]["properties"]["s3dest"]["properties"]["streams"]
    properties = form["additionalProperties"]["properties"]
    assert set(properties) == own
    for_users = {each.name for each in fields(FieldSelection)} - {"deselected"}
    assert for_users == {"include", *RULES} == set(FieldsModel.model_fields) == set(properties["fields"]["properties"])
    json.dumps(form)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"include": []}, "names no field"),
        ({"exclude": "mail"}, "must be a list of paths"),
        ({"exclude": ["person"], "hash": ["person.mail"]}, "fields.hash names person.mail, and fields.exclude person"),
        ({"mask": ["person"], "hash": ["person.mail"]}, "fields.hash names person.mail, and fields.mask person"),
        ({"hash": ["person", "person.mail"]}, "fields.hash names person, and fields.hash person.mail"),
        ({"include": ["id"], "mask": ["mail"]}, "fields.mask names mail, which fields.include leaves out"),
        ({"include": ["a.b"], "hash": ["a"]}, "fields.hash names a, which fields.include leaves out"),
        ({"include": ["a.b"], "exclude": ["a"]}, "fields.include names a.b, and fields.exclude a"),
        ({"deselected": ["a"]}, "fields has no setting 'deselected'"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(selection, message):
    with pytest.raises(SettingsError, match=message):
        StreamSettings(fields=selection)


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"owner": ""}, "owner"),
        ({"owner": 1}, "owner"),
        ({"owner": dg.EnvVar("OWNER")}, "owner"),
        ({"rename": {"a": ""}}, "rename"),
        ({"rename": {"a": "x", "b": "x"}}, "rename"),
        ({"rename": {"a": "x\ny"}}, "rename"),
        ({"rename": {"a": "\x00"}}, "rename"),
        ({"rename": {"a": "x\ud800"}}, "rename"),
        ({"rename": {"a": " x"}}, "rename"),
        ({"rename": {"a": "x" * 256}}, "rename"),
        ({"rename": {"a": "_airbyte_emitted_at"}}, "rename"),
        ({"rename": {"a.b": "_airbyte_additional_properties"}}, "rename"),
        ({"rename": ["a"]}, "rename"),
        ({"fields": ["a"]}, "fields"),
        ({"deselected_fields": "drop"}, "deselected_fields"),
        ({"schema_contract": "drop"}, "schema_contract"),
        ({"partition_by": "region"}, "partition_by"),
        ({"partition_by": {"field": "region"}}, "partition_by"),
        ({"partition_by": [1]}, "partition_by"),
        ({"partition_by": [{"name": "region"}]}, "partition_by"),
        ({"partition_by": [{"field": "at", "as": "week"}]}, "partition_by"),
        ({"partition_by": [{"field": "at", "as": "day", "tz": "Mars/Olympus"}]}, "partition_by"),
        ({"partition_by": [{"field": "at", "tz": "UTC+1"}]}, "partition_by"),
        ({"partition_by": [{"field": "at", "tz": "Europe/Berlin"}]}, "partition_by"),
        ({"partition_by": ["items[].id"]}, "partition_by"),
        ({"partition_by": ["region", {"field": "area", "name": "Region"}]}, "partition_by"),
        ({"partition_by": [{"field": "region", "name": ".r"}]}, "partition_by"),
        ({"partition_by": dg.EnvVar("FIELDS")}, "partition_by"),
        ({"expire_partitions_after": -1}, "expire_partitions_after"),
        ({"expire_partitions_after": "90"}, "expire_partitions_after"),
        ({"expire_partitions_after": True}, "expire_partitions_after"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(settings, setting):
    with pytest.raises(SettingsError) as refused:
        StreamSettings(**settings)
    assert refused.value.setting == setting


def test_an_unknown_part_of_a_partition_field_is_refused_by_its_name():
    with pytest.raises(SettingsError, match=r"A field of partition_by has no setting 'unit'") as refused:
        StreamSettings(partition_by=[{"field": "at", "unit": "day"}])
    assert refused.value.setting == "unit"


def test_a_field_that_names_directories_twice_is_refused():
    with pytest.raises(SettingsError, match="partition_by names region twice"):
        StreamSettings(partition_by=["region", "region"])


def test_a_directory_has_the_name_of_its_column_and_not_if_it_holds_a_part_of_the_value():
    rule = StreamSettings(rename={"area": "region"}, partition_by=["area", {"field": "at", "as": "day"}]).partition_by
    assert [each.name for each in rule] == ["region", "at_day"]
    assert rule_of_text(rule_text(rule)) == rule


def test_fields_of_different_objects_may_have_one_name():
    assert len(StreamSettings(rename={"a.x": "id", "b.y": "id"}).rename) == 2


def test_a_deselected_field_keeps_the_rule_that_names_it():
    selection = FieldSelection(include=("id", "mail", "person"), hash=("mail",))
    paths = [FieldPath.parse(each) for each in ("id", "mail", "person.phone", "other")]
    assert list(map(str, selection.with_deselected(paths).deselected)) == ["person.phone", "other"]


def test_the_code_version_changes_with_what_lands_and_not_with_the_owner():
    def version(**settings):
        return code_version(Stream(name="orders", settings=StreamSettings(**settings)), None)

    assert version() == version(owner="me") != version(fields={"exclude": ["a"]}) != version(fields={"mask": ["a"]})


def test_the_reserved_names_are_those_of_the_columns_that_every_record_can_have():
    assert set(RESERVED_NAMES) == OVERFLOW_NAMES
    assert {*schemas.ENVELOPE_NAMES, schemas.DATA} == set(ENVELOPE_NAMES)


def test_names_of_any_alphabet_and_of_an_inner_envelope_are_accepted():
    given = {"a": "名前", "b": "x" * 255, "c.d": "_airbyte_ab_id", "e": "two words"}
    assert list(StreamSettings(rename=given).rename.values()) == list(given.values())
