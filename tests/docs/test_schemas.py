"""The published JSON schemas accept what the pages show and what landings write, and refuse wrong keys."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from land_and_read import DIRECTORIES, batch_of, destination, stream, sync, target, users, users_of_two_names
from servers import S3Server

from docs import pages, schemas
from s3dest_dagster.commit.retirement import retire
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.settings.formats import ParquetFormat
from s3dest_dagster.stream import Scope, SyncMode

RENEW = "Run `make docs`, and look at what changed."


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schemas.path_of(name).read_text("utf-8")))


def problems(name: str, value: Any) -> list[str]:
    return [f"{each.json_path}: {each.message}" for each in validator(name).iter_errors(value)]


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_a_schema_is_valid_and_up_to_date(name):
    assert schemas.path_of(name).read_text("utf-8") == schemas.text_of(name), RENEW
    Draft202012Validator.check_schema(validator(name).schema)
    assert validator(name).schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


# ---------------------------------------------------------------------- what the pages show


def configs() -> list[Any]:
    found = []
    for page in pages.PAGES:
        for block in pages.blocks(page, "json"):
            if '"s3_bucket_name"' in block.text and '"format"' in block.text:
                found.append(pytest.param(json.loads(block.text), id=f"{page}:{block.line}"))
    return found


def components() -> list[Any]:
    found = []
    for page in pages.PAGES:
        for block in pages.blocks(page, "yaml"):
            for each in yaml.safe_load_all(block.text):
                if isinstance(each, dict) and "attributes" in each:
                    # Dates are texts in JSON, and for the component, too.
                    plain = json.loads(json.dumps(each, default=str))
                    found.append(pytest.param(plain, id=f"{page}:{block.line}"))
    return found


@pytest.mark.parametrize("config", configs())
def test_the_schema_accepts_the_configurations_of_the_pages(config):
    assert problems("config", config) == []


@pytest.mark.parametrize("component", components())
def test_the_schema_accepts_the_components_of_the_pages(component):
    assert problems("defs", component) == []


# ---------------------------------------------------------------------- wrong keys and values

CONFIG = {
    "s3_bucket_name": "my-bucket",
    "s3_bucket_path": "lake",
    "s3_bucket_region": "us-east-1",
    "format": {"format_type": "Parquet"},
}


@pytest.mark.parametrize(
    "change",
    [
        {"s3_bucket_pth": "lake"},
        {"s3_bucket_name": 5},
        {"format": {"format_type": "Parquet", "compresion_codec": "ZSTD"}},
        {"format": {"format_type": "Orc"}},
        {"s3dest": {"ownr": "me"}},
        {"s3dest": {"streams": {"users": {"feilds": {}}}}},
        {"s3dest": {"max_attempts": 0}},
    ],
)
def test_a_wrong_setting_is_found_in_a_configuration_and_in_a_component(change):
    source = {"type": "files", "path": "*.jsonl"}
    component = {"type": "s3dest_dagster.S3DestinationComponent", "attributes": {"source": source}}
    for config, is_right in ((CONFIG, True), ({**CONFIG, **change}, False)):
        whole = {**component, "attributes": {"source": source, "destination": config}}
        assert (problems("config", config) == []) is is_right
        assert (problems("defs", whole) == []) is is_right


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "s3dest_dagster.S3DestinationComponent", "attribute": {}},
        {"type": "s3dest_dagster.S3DestinationComponent", "attributes": {"source": {"type": "files", "paht": "x"}}},
        {"type": "s3dest_dagster.S3DestinationComponent", "attributes": {"source": {"type": "files"}}},
        {"type": "somebody.ElsesComponent", "attributes": {"source": {"type": "files", "path": "x"}}},
    ],
)
def test_a_wrong_key_is_found_in_a_component(wrong):
    assert problems("defs", wrong)


# ---------------------------------------------------------------------- real manifests


def test_the_schema_accepts_every_document_of_a_landed_lake(moto_s3: S3Server):
    place = destination(moto_s3.new_bucket(), **DIRECTORIES, format=ParquetFormat())
    with target(moto_s3, place, objects_of_a_list=1) as opened:
        for number, mode in enumerate((SyncMode.APPEND, SyncMode.APPEND, SyncMode.FULL_REFRESH)):
            in_directories = stream(mode=mode, settings=place)
            land([batch_of(users_of_two_names(1, 3))], opened, in_directories, sync(f"sync-{number}"))
    retire(moto_s3.open(place), place, Scope(stream().id), sync("retired"), attempt="0a0a0a0a")
    documents = {key: value for key, value in _documents(moto_s3, place.s3_bucket_name) if "/public/" in key}
    kinds = ("head.json", "~stream", "/segments/", "/~lists/")
    assert all(any(kind in key for key in documents) for kind in kinds), sorted(documents)
    assert {key: found for key, value in documents.items() if (found := problems("manifests", value))} == {}


def test_a_document_of_another_form_is_found(moto_s3: S3Server):
    place = destination(moto_s3.new_bucket())
    with target(moto_s3, place) as opened:
        land([batch_of(users(1, 1))], opened, stream(), sync("one"))
    head = next(value for key, value in _documents(moto_s3, place.s3_bucket_name) if key.endswith("head.json"))
    assert problems("manifests", {**head, "segments": "none"})
    assert problems("manifests", {key: value for key, value in head.items() if key != "location"})


def _documents(server: S3Server, bucket: str) -> list[tuple[str, Any]]:
    client = server.client()
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]]
    found = [key for key in keys if "/_s3dest/" in f"/{key}" and key.endswith(".json")]
    return [(key, json.loads(client.get_object(Bucket=bucket, Key=key)["Body"].read())) for key in found]
