"""Names, types and the contract of a stream's columns take effect in landings and in plans."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pyarrow.parquet as pq
import pytest
from failing_clients import CountedClient
from land_and_read import batch_of, data_keys, destination, sync, target

from s3dest_dagster.batch import BadRecord, State
from s3dest_dagster.errors import SchemaContractError, SettingsError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.streams import landing_streams
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.settings.destination import NameStyle
from s3dest_dagster.settings.formats import AvroFormat, ParquetFormat
from s3dest_dagster.shards.driver import begin
from s3dest_dagster.storage import Bucket
from s3dest_dagster.storage.bucket import SERVER_FILE
from s3dest_dagster.stream import Stream, SyncMode

INTEGER, TEXT = {"type": "integer"}, {"type": "string"}


def stream(settings: dict[str, Any] | None = None, **properties: dict[str, Any]) -> Stream:
    schema = {"type": "object", "properties": properties}
    return Stream(name="users", json_schema=schema, sync_mode=SyncMode.APPEND, settings=settings or {})


class Lake:
    """A bucket, and the syncs of one stream of Parquet in it."""

    def __init__(self, server, **settings: Any) -> None:
        self.server, self.bucket = server, server.new_bucket()
        self.destination = destination(self.bucket, **{"format": ParquetFormat(), **settings})
        self.syncs = 0

    def land(self, stream: Stream, record: dict[str, Any]) -> None:
        self.syncs += 1
        with target(self.server, self.destination) as opened:
            land([batch_of([record])], opened, stream, sync(f"sync-{self.syncs}"))

    def plan(self, stream: Stream):
        with target(self.server, self.destination) as opened:
            return plan(opened, [stream], sync("plan")).streams[0]

    def keys(self) -> list[str]:
        """All keys, apart from what is known of the server."""
        listed = self.server.client().list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [each["Key"] for each in listed if not each["Key"].endswith(SERVER_FILE)]

    def tables(self) -> list[dict[str, Any]]:
        """The only record of each object, without envelope and nulls."""
        client = self.server.client()
        found = []
        for key in data_keys(self.server, self.bucket):
            content = client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            (row,) = pq.read_table(BytesIO(content)).drop_columns(["_airbyte_ab_id", "_airbyte_emitted_at"]).to_pylist()
            found.append({name: value for name, value in row.items() if value is not None})
        return found


def test_properties_that_swap_their_order_keep_their_columns(moto_s3):
    lake = Lake(moto_s3)
    lake.land(stream(**{"+1": TEXT, "-1": TEXT}), {"+1": "up", "-1": "down"})
    lake.land(stream(**{"-1": TEXT, "+1": TEXT}), {"+1": "up", "-1": "down"})
    first, second = lake.tables()
    assert first == second
    assert len(first) == 2


def test_a_retyped_column_of_an_append_stands_beside_the_old_and_the_plan_says_so(moto_s3):
    lake = Lake(moto_s3)
    lake.land(stream(a=INTEGER), {"a": 1})
    planned = lake.plan(stream(a=TEXT))
    assert [name for name, _, _ in planned.columns] == ["a_string"]
    assert [str(change) for change in planned.column_changes] == ["the field 'a' is string and was integer"]
    lake.land(stream(a=TEXT), {"a": "x"})
    assert lake.tables() == [{"a": 1}, {"a_string": "x"}]
    assert lake.plan(stream(a=TEXT)).column_changes == ()


@pytest.mark.parametrize("as_stream", [False, True])
def test_a_frozen_stream_refuses_a_new_column_and_keeps_what_it_has(moto_s3, as_stream):
    contract = {"schema_contract": {"new_column": "freeze"}}
    own = contract if as_stream else {}
    lake = Lake(moto_s3, **({} if as_stream else contract))
    lake.land(stream(own, a=INTEGER), {"a": 1})
    for attempt in (lake.plan, lambda changed: lake.land(changed, {"a": 2, "b": 2})):
        with pytest.raises(SchemaContractError, match=r"the field 'b' \(integer\) is new"):
            attempt(stream(own, a=INTEGER, b=INTEGER))
    assert lake.tables() == [{"a": 1}]


def test_the_contract_of_a_stream_replaces_that_of_the_destination(moto_s3):
    lake = Lake(moto_s3, schema_contract="freeze")
    own = {"schema_contract": "evolve"}
    lake.land(stream(own, a=INTEGER), {"a": 1})
    lake.land(stream(own, a=INTEGER, b=INTEGER), {"a": 2, "b": 2})
    assert lake.tables() == [{"a": 1}, {"a": 2, "b": 2}]


def test_a_frozen_new_stream_writes_nothing(moto_s3):
    lake = Lake(moto_s3, schema_contract={"new_stream": "freeze"})
    with pytest.raises(SchemaContractError, match="has never landed"):
        lake.land(stream(a=INTEGER), {"a": 1})
    assert lake.tables() == []


def test_a_discarded_new_stream_leaves_nothing_and_lands_from_its_beginning_later(moto_s3):
    lake = Lake(moto_s3, schema_contract={"new_stream": "discard"})
    own = {"schema_contract": {"new_stream": "discard"}}
    assert lake.plan(stream(a=INTEGER)).discards
    for _ in range(2):
        with target(moto_s3, lake.destination) as opened:
            items = [
                batch_of([{"a": 1}, {"a": 2}]),
                State(stream().id, b"{}", b""),
                BadRecord(stream().id, b"?", "no"),
            ]
            receipt = land(items, opened, stream(a=INTEGER), sync("a"))
        assert (receipt.discarded, receipt.rows, receipt.state, receipt.manifest) == (3, 0, None, "")
        assert lake.keys() == []
    lake.land(stream({"schema_contract": "evolve"}, a=INTEGER), {"a": 1})
    lake.land(stream(own, a=INTEGER), {"a": 2})
    assert lake.tables() == [{"a": 1}, {"a": 2}]
    assert not lake.plan(stream(own, a=INTEGER)).discards


def test_a_new_stream_is_not_discarded_if_its_source_has_one_state_for_all(moto_s3):
    lake = Lake(moto_s3)
    new = Stream(name="new", json_schema={"properties": {}}, settings={"schema_contract": {"new_stream": "discard"}})
    with (
        target(moto_s3, lake.destination) as opened,
        landing_streams(opened, [stream(a=INTEGER), new], sync("a")) as landings,
        pytest.raises(SchemaContractError, match=r"'new' has never landed.*one state for all streams"),
    ):
        landings.append(State(None, b"{}", b""))
    assert lake.keys() == []


def test_workers_do_not_stage_a_discarded_stream(moto_s3):
    lake = Lake(moto_s3, schema_contract={"new_stream": "discard"})
    with target(moto_s3, lake.destination) as opened, pytest.raises(SchemaContractError, match="several workers"):
        begin(opened, stream(a=INTEGER), sync("a"))
    assert lake.keys() == []


def test_frozen_undeclared_fields_fail_the_sync(moto_s3):
    lake = Lake(moto_s3, schema_contract={"undeclared_field": "freeze"})
    with pytest.raises(SchemaContractError, match="records have the field 'b'"):
        lake.land(stream(a=INTEGER), {"a": 1, "b": 2})
    assert lake.tables() == []


def test_discarded_undeclared_fields_are_nowhere(moto_s3):
    lake = Lake(moto_s3, schema_contract="discard")
    own = {"schema_contract": {"undeclared_field": "discard", "new_column": "discard"}}
    lake.land(stream(own, a=INTEGER), {"a": 1, "b": 2})
    lake.land(stream(own, a=INTEGER, c=INTEGER), {"a": 2, "c": 3})
    assert lake.tables() == [{"a": 1}, {"a": 2}]


def test_an_object_that_may_have_any_fields_keeps_them(moto_s3):
    lake = Lake(moto_s3, open_objects="map", schema_contract={"undeclared_field": "discard"})
    lake.land(stream(o={"type": "object"}), {"o": {"a": 1}, "b": 2})
    assert lake.tables() == [{"o": {"_airbyte_additional_properties": [("a", "1")]}}]


def test_names_have_the_style_and_what_the_user_gives(moto_s3):
    lake = Lake(moto_s3, name_style=NameStyle.SNAKE)
    users = stream({"rename": {"e-mail": "address"}}, userId=INTEGER, **{"e-mail": TEXT})
    assert [name for name, _, _ in lake.plan(users).columns] == ["user_id", "address"]
    lake.land(users, {"userId": 1, "e-mail": "x"})
    assert lake.tables() == [{"user_id": 1, "address": "x"}]


def test_a_plan_names_renamed_fields_that_are_not_declared(moto_s3):
    lake = Lake(moto_s3)
    users = stream({"rename": {"email": "address", "id.x": "y", "id": "key"}}, id=INTEGER)
    assert lake.plan(users).unknown_paths == ("email", "id.x")
    lake.land(users, {"id": 1})
    assert lake.tables() == [{"key": 1}]


@pytest.mark.parametrize("name", ["9th", "a b", "名前"])
def test_a_name_that_avro_does_not_allow_is_refused(moto_s3, name):
    lake = Lake(moto_s3, format=AvroFormat())
    users = stream({"rename": {"e-mail": name}}, **{"e-mail": TEXT})
    for refused in (lake.plan, lambda users: lake.land(users, {"e-mail": "x"})):
        with pytest.raises(SettingsError, match=f"'{name}', and the format allows only letters"):
            refused(users)
    lake.land(stream(**{"e-mail": TEXT}), {"e-mail": "x"})


def test_a_name_of_parquet_files_that_avro_does_not_allow_is_refused_there(moto_s3):
    lake = Lake(moto_s3, name_style=NameStyle.KEEP)
    lake.land(stream(**{"e-mail": TEXT}), {"e-mail": "x"})
    lake.destination = destination(lake.bucket, format=AvroFormat())
    with pytest.raises(SettingsError, match="'e-mail', and the format allows only letters"):
        lake.land(stream(**{"e-mail": TEXT}), {"e-mail": "y"})
    lake.land(stream({"rename": {"e-mail": "mail"}}, **{"e-mail": TEXT}), {"e-mail": "y"})


def test_a_plan_reads_the_scopes_once_however_many_columns_have_another_type(moto_s3):
    def requests(number: int) -> int:
        lake = Lake(moto_s3)
        names = [f"c{each}" for each in range(number)]
        lake.land(stream(**dict.fromkeys(names, INTEGER)), dict.fromkeys(names, 1))
        client = CountedClient(moto_s3.client())
        with target(moto_s3, lake.destination, Bucket(client, lake.bucket)) as opened:
            planned = plan(opened, [stream(**dict.fromkeys(names, TEXT))], sync("plan")).streams[0]
        assert len(planned.column_changes) == number
        return len(client.calls)

    assert requests(5) == requests(1)
