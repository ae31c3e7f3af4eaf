"""Invalid settings are refused immediately, with the name of the setting and its allowed values."""

import math

import pytest

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat

DEFLATE = {"codec": "Deflate"}
KEYS = {"access_key_id": "AKIA"}
AES = {"server_side_encryption": "AES256"}


@pytest.mark.parametrize(
    ("settings", "given", "setting", "message"),
    [
        (S3Destination, {"object_size_mb": "200"}, "object_size_mb", "a number"),
        (S3Destination, {"object_size_mb": math.nan}, "object_size_mb", "a number"),
        (S3Destination, {"object_size_mb": True}, "object_size_mb", "a number"),
        (S3Destination, {"object_size_mb": 0}, "object_size_mb", "above 0"),
        (S3Destination, {"part_size_mb": 4}, "part_size_mb", "at least 5"),
        (S3Destination, {"upload_threads": 1.5}, "upload_threads", "a whole number"),
        (S3Destination, {"upload_threads": None}, "upload_threads", "a whole number"),
        (S3Destination, {"encode_workers": 0}, "encode_workers", "at least 1"),
        (S3Destination, {"s3_bucket_path": None}, "s3_bucket_path", "not a text"),
        (S3Destination, {"on_bad_record": "skip"}, "on_bad_record", "'fail', 'quarantine'"),
        (S3Destination, {"acl": "public"}, "acl", "'private', 'public-read'"),
        (S3Destination, {"server_side_encryption": "AES"}, "server_side_encryption", "'AES256', 'aws:kms'"),
        (S3Destination, {"kms_key_id": "alias/lake"}, "kms_key_id", "needs server_side_encryption"),
        (S3Destination, AES | {"kms_key_id": "alias/lake"}, "kms_key_id", "needs server_side_encryption"),
        (S3Destination, {"storage_class": 1}, "storage_class", "not a text"),
        (S3Destination, {"object_metadata": ["team"]}, "object_metadata", "not a mapping of names to texts"),
        (S3Destination, {"object_metadata": {"team": 12345}}, "object_metadata", "not a mapping of names to texts"),
        (S3Destination, {"object_metadata": {"t eam": "data"}}, "object_metadata", "cannot be a header"),
        (S3Destination, {"object_metadata": {"": "data"}}, "object_metadata", "cannot be a header"),
        (S3Destination, {"object_metadata": {"team": "dátä"}}, "object_metadata", "ASCII"),
        (S3Destination, {"object_metadata": {"team": "data\n"}}, "object_metadata", "ASCII"),
        (S3Destination, {"object_metadata": {"team": " data"}}, "object_metadata", "without blanks at their ends"),
        (S3Destination, {"object_metadata": {"team": "a", "Team": "b"}}, "object_metadata", "one name in two cases"),
        (S3Destination, {"object_metadata": {"S3dest-Sync": "x"}}, "object_metadata", "the library's own"),
        (S3Destination, {"object_metadata": {"team": "x" * 1533}}, "object_metadata", "1,537 bytes"),
        (S3Destination, {"name_style": "camel"}, "name_style", "'connector', 'snake', 'lower', 'keep'"),
        (S3Destination, {"name_style": "keep", "format": AvroFormat()}, "name_style", "Avro: Apache Avro allows only"),
        (S3Destination, {"schema_contract": "never"}, "schema_contract", "'evolve', 'freeze', 'discard'"),
        (S3Destination, {"schema_contract": {"new_colum": "freeze"}}, "schema_contract", "Did you mean 'new_column'?"),
        (S3Destination, {"schema_contract": ["freeze"]}, "schema_contract", "or a mapping of new_column, new_type"),
        (S3Destination, {"format": 5}, "format", "'CSV', 'JSONL', 'Avro', 'Parquet'"),
        (ParquetFormat, {"block_size_mb": 1.5}, "block_size_mb", "a whole number"),
        (ParquetFormat, {"dictionary_encoding": "false"}, "dictionary_encoding", "true or false"),
        (AvroFormat, DEFLATE | {"compression_level": "6"}, "compression_level", "a whole number"),
        (AvroFormat, DEFLATE | {"include_checksum": 1}, "include_checksum", "true or false"),
        (CsvFormat, {"additional_properties_column": "false"}, "additional_properties_column", "true or false"),
        (CsvFormat, {"flattening": "no"}, "flattening", "'No flattening', 'Root level flattening'"),
        (JsonlFormat, {"emitted_at": 1}, "emitted_at", "'text', 'number'"),
        (S3Connection, {"path_style": "false"}, "path_style", "true or false"),
        (S3Connection, {"connect_timeout_s": -1}, "connect_timeout_s", "above 0"),
        (S3Connection, {"max_attempts": 1.5}, "max_attempts", "a whole number"),
        (S3Connection, KEYS | {"secret_access_key": 12345}, "secret_access_key", "not a text"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_and_the_allowed_values(settings, given, setting, message):
    required = {"s3_bucket_name": "lake"} if settings is S3Destination else {}
    with pytest.raises(SettingsError) as refused:
        settings(**required, **given)
    assert refused.value.setting == setting
    assert setting in str(refused.value)
    assert message in str(refused.value)
    assert "12345" not in str(refused.value)


def test_a_level_out_of_range_is_refused_with_the_connectors_message():
    with pytest.raises(SettingsError, match=r"Invalid compression level: 10, expected an integer in range \[0, 9\]"):
        AvroFormat(codec="Deflate", compression_level=10)


def test_integers_are_accepted_as_numbers_and_none_if_it_has_a_meaning():
    destination = S3Destination(s3_bucket_name="lake", object_size_mb=1, abandoned_upload_age_s=0.5)
    assert (destination.object_size_mb, destination.abandoned_upload_age_s) == (1, 0.5)
    assert S3Connection(path_style=None, ca_bundle=None).path_style is None


def test_user_metadata_is_stored_in_lower_case_up_to_its_maximum_size():
    destination = S3Destination(s3_bucket_name="lake", object_metadata={"Team": "x" * 1532})
    assert destination.object_metadata == {"team": "x" * 1532}
    assert S3Destination(s3_bucket_name="lake", object_metadata={}).object_metadata is None


@pytest.mark.parametrize("name", ["acl", "server_side_encryption", "object_metadata"])
def test_a_destination_with_headers_can_be_a_key(name):
    values = {"acl": "private", "server_side_encryption": "aws:kms", "object_metadata": {"team": "data"}}
    assert len({S3Destination(s3_bucket_name="lake", **{name: values[name]}) for _ in range(2)}) == 1


def test_a_choice_can_have_any_case():
    chosen = CsvFormat(flattening="root level FLATTENING", compression="gzip")
    assert (chosen.flattening, chosen.extension) == ("Root level flattening", ".csv.gz")


def test_a_quoted_false_is_not_true_in_a_connectors_config():
    config = {
        "s3_bucket_name": "lake",
        "s3_bucket_path": "",
        "s3_bucket_region": "",
        "format": {"format_type": "Parquet", "dictionary_encoding": "false"},
    }
    with pytest.raises(SettingsError, match=r"dictionary_encoding is 'false'.* true or false"):
        from_connector_config(config)


def test_an_object_that_needs_more_parts_than_s3_allows_is_refused():
    with pytest.raises(SettingsError, match="part_size_mb"):
        S3Destination(s3_bucket_name="lake", object_size_mb=100_000)
    S3Destination(s3_bucket_name="lake", object_size_mb=100_000, part_size_mb=16)


@pytest.mark.parametrize("name", ["lake--euw1-az1--x-s3", "lake--euw1-az1--xa-s3"])
def test_a_directory_bucket_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="directory bucket") as refused:
        S3Destination(s3_bucket_name=name)
    assert refused.value.setting == "s3_bucket_name"
