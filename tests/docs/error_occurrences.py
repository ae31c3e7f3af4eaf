"""How a user meets each error of the tree: a real operation on a real server that raises it.

Each function is named in `OCCURRENCES` under the class that it raises.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from failing_clients import DyingAfterDeciding
from fault_proxy import Fault, FaultProxy
from land_and_read import batch_of, batches_of, destination, stream, sync, target, users
from scripted_source import ScriptedSource
from servers import S3Server

from s3dest_dagster.airbyte.arguments import WrongCallError, parse
from s3dest_dagster.batch import BadRecord
from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CommitError,
    ConnectorError,
    CredentialsError,
    EndpointUnreachableError,
    KeyCollisionError,
    ManifestError,
    MissingExtraError,
    ObjectNotFoundError,
    ObjectReplacedError,
    OwnershipError,
    PreconditionFailedError,
    RecordError,
    S3DestError,
    SchemaContractError,
    SchemaError,
    SettingsError,
    SourceError,
    StorageError,
    SupersededError,
    TemplateError,
    UndecidedError,
    UploadVanishedError,
)
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import ParquetFormat
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Scope, Stream, StreamId

USERS = StreamId("public", "users")


@dataclass(frozen=True)
class Place:
    """Where an error is provoked: two servers, the first one also behind a proxy, and an empty bucket and folder."""

    server: S3Server
    plain: S3Server
    faulty: FaultProxy
    bucket: str
    folder: Path

    def land(self, records: list[dict[str, Any]], /, of: Stream | None = None, **settings: Any) -> None:
        with target(self.server, destination(self.bucket, **settings)) as opened:
            land(batches_of(records), opened, of or stream(), sync(f"sync {len(self.listed())}"))

    def listed(self) -> list[str]:
        listed = self.server.client().list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [each["Key"] for each in listed]

    def open(self, connection: S3Connection | None = None) -> Any:
        return open_bucket(connection or self.server.connection, destination(self.bucket))


def wrong_setting(place: Place) -> None:
    S3Destination(s3_bucket_name=place.bucket, object_size_mb=0)


def unknown_variable(place: Place) -> None:
    S3Destination(s3_bucket_name=place.bucket, s3_path_format="${NAMESPACE}/${STREAM}/")


def verb_of_a_source(place: Place) -> None:
    parse(["discover", "--config", "config.json"])


def codec_without_its_package(place: Place) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "lzallright", None)
        S3DestinationIOManager(s3_bucket_name=place.bucket, format=ParquetFormat(compression_codec="LZO"))


def reference_to_nothing(place: Place) -> None:
    schema = {"properties": {"id": {"$ref": "#/definitions/id"}}}
    place.land([{"id": 1}], Stream(name="users", json_schema=schema), format=ParquetFormat())


def new_field_under_a_frozen_contract(place: Place) -> None:
    for record in ({"id": "1"}, {"id": "1", "email": "1@example.com"}):
        schema = {"properties": {name: {"type": "string"} for name in record}}
        place.land([record], Stream(name="users", json_schema=schema), schema_contract="freeze")


def line_that_is_no_json(place: Place) -> None:
    bad = BadRecord(USERS, b'{"id": NaN}', "NaN is not JSON", 3)
    with target(place.server, destination(place.bucket)) as opened:
        land([batch_of(users(1, 2)), bad], opened, stream(), sync("s1"))


def connector_that_dies(place: Place) -> None:
    source = ScriptedSource(place.folder).on("check").stderr("No module named 'shop'\n").exits(1).source()
    source.check()


def connector_that_reports(place: Place) -> None:
    ScriptedSource(place.folder).on("check").error("The API key has expired.").exits(1).source().check()


def server_that_stays_busy(place: Place) -> None:
    place.faulty.always(Fault.BUSY, "GetObject")
    place.open(place.faulty.connection(max_attempts=2)).get("data/users.csv")


def prefix_outside_the_policy(place: Place) -> None:
    place.server.client(**place.server.admin).create_bucket(Bucket="warehouse")
    open_bucket(place.server.connection, "warehouse").put("users.csv", b"")


def unknown_keys(place: Place) -> None:
    place.open(replace(place.server.connection, secret_access_key="mistyped")).get("data/users.csv")


def missing_bucket(place: Place) -> None:
    open_bucket(place.server.connection, "lake-of-nobody").get("data/users.csv")


def deleted_object(place: Place) -> None:
    place.land(users(1, 1))
    bucket = place.open()
    bucket.delete([key for key in place.listed() if key.endswith(".jsonl")])
    list(read_scope(bucket, destination(place.bucket).template, Scope(USERS)))


def replaced_object(place: Place) -> None:
    place.land(users(1, 1))
    bucket = place.open()
    (key,) = [key for key in place.listed() if key.endswith(".jsonl")]
    bucket.put(key, bucket.get(key)[0].replace(b"user 1", b"user 2"))
    list(read_scope(bucket, destination(place.bucket).template, Scope(USERS)))


def closed_port(place: Place) -> None:
    nowhere = S3Connection(endpoint="http://127.0.0.1:9", access_key_id="a", secret_access_key="b", max_attempts=1)
    open_bucket(nowhere, place.bucket).get("data/users.csv")


def put_of_an_existing_object(place: Place) -> None:
    for body in (b"theirs", b"ours"):
        place.open().put("data/users.csv", body, if_absent=True)


def aborted_upload(place: Place) -> None:
    bucket = open_bucket(place.plain.connection, place.plain.new_bucket())
    upload = bucket.create_upload("data/users.csv", {})
    etag = bucket.upload_part("data/users.csv", upload, 1, b"id")
    bucket.abort_upload("data/users.csv", upload)
    bucket.complete_upload("data/users.csv", upload, [etag])


def land_until_dead(place: Place, at: str) -> None:
    """Lands through a client that is dead from the first call of a method after the decision, or from the decision."""
    dying = Bucket(DyingAfterDeciding(place.server.client(), at=at), place.bucket)
    with target(place.server, destination(place.bucket), dying) as opened:
        land(batches_of(users(1, 1)), opened, stream(), sync("monday"))


def interrupted_publication(place: Place) -> None:
    land_until_dead(place, "complete_multipart_upload")


def two_syncs_of_one_stream(place: Place) -> None:
    with target(place.server, destination(place.bucket)) as opened, Landing(opened, stream(), sync("slow")) as slow:
        slow.append_batch(batch_of(users(1, 1)))
        land(batches_of(users(2, 2)), opened, stream(), sync("quick"))
        slow.commit()


def lost_decision(place: Place) -> None:
    land_until_dead(place, "put_object")


def streams_with_one_directory(place: Place) -> None:
    for namespace in ("public", "archive"):
        place.land(
            users(1, 1),
            stream(namespace=namespace),
            s3_path_format="${STREAM_NAME}/",
            file_name_pattern="latest{format_extension}",
        )


def stream_of_another_owner(place: Place) -> None:
    place.land(users(1, 1), owner="shop/users")
    place.land(users(1, 1), owner="crm/users")


def damaged_head(place: Place) -> None:
    place.land(users(1, 1))
    (head,) = [key for key in place.listed() if key.endswith("head.json")]
    place.open().put(head, b"{")
    verify(place.open(), destination(place.bucket).template, Scope(USERS))


OCCURRENCES: dict[type[S3DestError], Callable[[Place], None]] = {
    SettingsError: wrong_setting,
    TemplateError: unknown_variable,
    WrongCallError: verb_of_a_source,
    MissingExtraError: codec_without_its_package,
    SchemaError: reference_to_nothing,
    SchemaContractError: new_field_under_a_frozen_contract,
    RecordError: line_that_is_no_json,
    SourceError: connector_that_dies,
    ConnectorError: connector_that_reports,
    StorageError: server_that_stays_busy,
    AccessDeniedError: prefix_outside_the_policy,
    CredentialsError: unknown_keys,
    BucketNotFoundError: missing_bucket,
    ObjectNotFoundError: deleted_object,
    ObjectReplacedError: replaced_object,
    EndpointUnreachableError: closed_port,
    PreconditionFailedError: put_of_an_existing_object,
    UploadVanishedError: aborted_upload,
    CommitError: interrupted_publication,
    SupersededError: two_syncs_of_one_stream,
    UndecidedError: lost_decision,
    KeyCollisionError: streams_with_one_directory,
    OwnershipError: stream_of_another_owner,
    ManifestError: damaged_head,
}
