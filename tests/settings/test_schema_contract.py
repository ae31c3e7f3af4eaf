"""A schema contract is one word for every difference, or a mapping, and refuses verdicts without a meaning."""

from __future__ import annotations

import pytest

from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.schema_contract import SchemaContract, Verdict

DIFFERENCES = ("new_column", "new_type", "missing_column", "new_stream", "undeclared_field")
CONFIG = {"s3_bucket_name": "b", "s3_bucket_path": "", "s3_bucket_region": "", "format": {"format_type": "JSONL"}}


def test_streams_evolve_by_default():
    assert S3Destination(s3_bucket_name="b").contract == SchemaContract()
    assert SchemaContract().to_mapping() == dict.fromkeys(DIFFERENCES, "evolve")


def test_one_word_stands_for_all_differences():
    assert SchemaContract.of("Freeze").to_mapping() == dict.fromkeys(DIFFERENCES, "freeze")


def test_the_word_discard_lets_new_streams_land():
    assert SchemaContract.of("discard").missing_column is Verdict.DISCARD
    assert SchemaContract.of("discard").new_stream is Verdict.EVOLVE
    assert SchemaContract.of("discard").new_type is Verdict.DISCARD


def test_a_mapping_names_some_differences():
    contract = SchemaContract.of({"new_type": "freeze"})
    assert (contract.new_type, contract.new_column) == (Verdict.FREEZE, Verdict.EVOLVE)


@pytest.mark.parametrize("given", ["freeze", {"new_type": "freeze", "new_column": "freeze"}])
def test_every_way_to_set_a_destination_takes_a_contract(given):
    expected = SchemaContract.of(given)
    assert S3Destination(s3_bucket_name="b", schema_contract=given).contract == expected
    assert from_connector_config({**CONFIG, "s3dest": {"schema_contract": given}}).destination.contract == expected
    assert S3DestinationIOManager(s3_bucket_name="b", schema_contract=given).destination().contract == expected


@pytest.mark.parametrize("given", ["", "ignore", 1, {"new_type": "ignore"}, {"types": "freeze"}])
def test_other_contracts_are_refused(given):
    with pytest.raises(SettingsError) as failure:
        SchemaContract.of(given)
    assert failure.value.setting == "schema_contract"
