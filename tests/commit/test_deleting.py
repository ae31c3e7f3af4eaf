"""Many objects are replaced in batches. A key that the server refuses to delete is named, and the next sync finishes
the deletion."""

from __future__ import annotations

from typing import Any

import pytest
from failing_clients import CountedClient
from land_and_read import batches_of, data_keys, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.errors import CommitError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.storage import Bucket

OLD = [f"data/public/users/2022_04_04_1649030400000_{number}.csv.gz" for number in range(2_500)]


class RefusingClient(CountedClient):
    """An S3 client whose server deletes all keys except one, and reports that key in its answer."""

    def __init__(self, client: Any, refused: str) -> None:
        super().__init__(client)
        self._refused = refused

    def delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        kept = [each for each in Delete["Objects"] if each["Key"] != self._refused]
        answer = self._client.delete_objects(Bucket=Bucket, Delete={**Delete, "Objects": kept})
        error = {"Key": self._refused, "Code": "AccessDenied", "Message": "Access Denied"}
        return {**answer, "Errors": [error]} if len(kept) < len(Delete["Objects"]) else answer


def test_thousands_of_objects_are_deleted_a_thousand_at_a_time(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    moto_s3.fill(settings.s3_bucket_name, OLD)
    client = CountedClient(moto_s3.client())
    bucket = Bucket(client, settings.s3_bucket_name)
    assert bucket.with_root("data/_s3dest/").abilities
    client.calls.clear()
    with target(moto_s3, settings, bucket) as opened:
        receipt = land(batches_of(users(1, 1)), opened, stream(), sync("s1"))
    assert len(receipt.removed) == len(OLD)
    assert client.calls.count("delete_objects") == 3
    assert data_keys(moto_s3, settings.s3_bucket_name) == [receipt.objects[0].key]


def test_a_key_that_the_answer_refuses_is_named_and_the_next_sync_finishes(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    moto_s3.fill(settings.s3_bucket_name, OLD[:3])
    refusing = Bucket(RefusingClient(moto_s3.client(), OLD[1]), settings.s3_bucket_name)
    with target(moto_s3, settings, refusing) as opened, pytest.raises(CommitError, match="finishes it") as raised:
        land(batches_of(users(1, 1)), opened, stream(), sync("s1"))
    assert raised.value.key == OLD[1]
    with target(moto_s3, settings) as opened:
        receipt = land(batches_of(users(2, 2)), opened, stream(), sync("s2"))
    assert data_keys(moto_s3, settings.s3_bucket_name) == [receipt.objects[0].key]
