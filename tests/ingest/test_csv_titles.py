"""A header of flattened CSV has the names that the user chooses, and readers find the source's fields behind them."""

from __future__ import annotations

from typing import Any

import pytest
from land_and_read import batch_of, data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_tables
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import CsvFormat, Flattening, TextCompression
from s3dest_dagster.stream import Scope, Stream, SyncMode

FLAT = CsvFormat(flattening=Flattening.ROOT, compression=TextCompression.NONE)


def stream(rename: dict[str, str], *names: str) -> Stream:
    properties = {name: {"type": "integer"} for name in names}
    return Stream(
        name="orders", json_schema={"properties": properties}, sync_mode=SyncMode.APPEND, settings={"rename": rename}
    )


def landed(server: S3Server, settings: S3Destination, lands: Stream, record: dict[str, Any], sync_id: str) -> None:
    with target(server, settings) as opened:
        land([batch_of([record])], opened, lands, sync(sync_id))


def headers(server: S3Server, bucket: str) -> list[list[str]]:
    keys = sorted(data_keys(server, bucket))
    texts = [server.client().get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys]
    return [text.split("\r\n")[0].replace('"', "").split(",")[2:] for text in texts]


@pytest.mark.parametrize("order", ["source", "sorted"])
def test_columns_have_the_names_of_the_style_and_of_rename(moto_s3: S3Server, order: str) -> None:
    chosen = CsvFormat(flattening=Flattening.ROOT, compression=TextCompression.NONE, column_order=order)
    settings = destination(moto_s3.new_bucket(), format=chosen, name_style="snake")
    swapped = {"a": "orderId", "orderId": "a"}
    landed(moto_s3, settings, stream(swapped, "userId", "orderId", "a"), {"userId": 1, "orderId": 2, "a": 3}, "1")
    later = stream(swapped, "new One", "userId", "orderId", "a")
    landed(moto_s3, settings, later, {"new One": 5, "userId": 10, "orderId": 20, "a": 30}, "2")

    expected = {
        "source": [["user_id", "a", "orderId"], ["user_id", "a", "orderId", "new_one"]],
        "sorted": [["orderId", "a", "user_id"], ["orderId", "new_one", "a", "user_id"]],
    }
    assert headers(moto_s3, settings.s3_bucket_name) == expected[order]
    tables = read_tables(moto_s3.open(settings), settings.template, Scope(later.id))
    rows = [row for table in tables for row in table.select(["user_id", "a", "orderId"]).to_pylist()]
    assert rows == [{"user_id": 1, "a": 2, "orderId": 3}, {"user_id": 10, "a": 20, "orderId": 30}]


def test_names_that_differ_in_case_only_are_distinct_in_every_style_but_the_connectors(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), format=FLAT, name_style="keep")
    landed(moto_s3, settings, stream({}, "Id", "user id", "id"), {"Id": 1, "user id": 2, "id": 3}, "1")
    assert headers(moto_s3, settings.s3_bucket_name) == [["Id_12156e", "user id", "id_a56145"]]
    tables = read_tables(moto_s3.open(settings), settings.template, Scope(stream({}).id))
    columns = ["Id_12156e", "user id", "id_a56145"]
    assert [row for table in tables for row in table.select(columns).to_pylist()] == [
        dict(zip(columns, (1, 2, 3), strict=True))
    ]


def test_the_connectors_style_keeps_the_names_of_the_source(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), format=FLAT)
    for number in (1, 2):
        landed(moto_s3, settings, stream({"a": "b"}, "user-id", "a"), {"user-id": number, "a": 3}, str(number))
    assert headers(moto_s3, settings.s3_bucket_name) == [["user-id", "b"]] * 2


def test_two_columns_of_a_header_never_have_one_name(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), format=FLAT)
    with pytest.raises(
        SettingsError, match="'a' would get the name 'user-id', which another field of the same object keeps"
    ):
        landed(moto_s3, settings, stream({"a": "user-id"}, "user-id", "a"), {"user-id": 1, "a": 2}, "1")
    assert data_keys(moto_s3, settings.s3_bucket_name) == []
