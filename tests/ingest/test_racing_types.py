"""Landings of one stream that run at the same time never leave a column with two types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
import pytest
from failing_clients import CountedClient, OvertakenClient
from land_and_read import batch_of, destination, sync, target
from servers import S3Server

from s3dest_dagster.errors import SupersededError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.formats import AvroFormat, JsonlFormat, ParquetFormat
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

STREAM = StreamId(None, "events")
TYPED = pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
CASES = pytest.mark.parametrize(
    ("settings", "again", "retype"),
    [
        (AvroFormat(), "replace", "root"),
        (AvroFormat(), "append", "nested"),
        (AvroFormat(), "append", "list"),
        (AvroFormat(), "replace", "items"),
        (ParquetFormat(), "append", "root"),
        (ParquetFormat(), "replace", "nested"),
        (ParquetFormat(), "replace", "list"),
        (ParquetFormat(), "append", "items"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.format_type.lower(),
)
INTEGER, NUMBER, TEXT, BOOLEAN = ({"type": word} for word in ("integer", "number", "string", "boolean"))
DATE, TIMESTAMP = ({"type": "string", "format": word} for word in ("date", "date-time"))
RETYPES = {
    "root": ({"v": INTEGER}, {"v": 1}, {"v": TEXT}, {"v": "one"}),
    "nested": (
        {"o": {"type": "object", "properties": {"v": INTEGER}}},
        {"o": {"v": 1}},
        {"o": {"type": "object", "properties": {"v": TEXT}}},
        {"o": {"v": "one"}},
    ),
    "items": (
        {"l": {"type": "array", "items": {"type": "object", "properties": {"v": INTEGER}}}},
        {"l": [{"v": 1}]},
        {"l": {"type": "array", "items": {"type": "object", "properties": {"v": TEXT}}}},
        {"l": [{"v": "one"}]},
    ),
    "list": (
        {"v": {"type": "array", "items": INTEGER}},
        {"v": [1]},
        {"v": {"type": "array", "items": BOOLEAN}},
        {"v": [True]},
    ),
}


def decimal(digits: int, scale: int) -> dict[str, Any]:
    return {"type": "number", "x-decimal": {"precision": digits, "scale": scale}}


class Race:
    """A stream whose landings begin when a test says so, and end when it says so."""

    def __init__(self, server: S3Server, settings: Any, again: str = "replace") -> None:
        self.server = server
        self.destination = destination(server.new_bucket(), format=settings, on_rematerialize=again)
        self._stack = ExitStack()
        self._target = self._stack.enter_context(target(server, self.destination))
        self._syncs = 0

    def begin(
        self, partition: str | None, schema: dict[str, Any] | None, record: dict[str, Any], client: Any = None
    ) -> Landing:
        """Begins a landing, which reserves its columns."""
        opened = self._target
        if client is not None:
            bucket = Bucket(client, self.destination.s3_bucket_name)
            opened = self._stack.enter_context(target(self.server, self.destination, bucket))
        self._syncs += 1
        stream = Stream(
            name=STREAM.name,
            json_schema=None if schema is None else {"properties": schema},
            sync_mode=SyncMode.APPEND,
        )
        landing = Landing(opened, stream, sync(f"s{self._syncs}"), scope=Scope(STREAM, partition))
        self._stack.enter_context(landing)
        landing.append_batch(batch_of([record]))
        return landing

    def land(self, partition: str | None, schema: dict[str, Any] | None, record: dict[str, Any]) -> None:
        self.begin(partition, schema, record).commit()

    def refuse(self, landing: Landing) -> str:
        """Commits a landing, which must fail and leave nothing. Returns the message."""
        before = self.rows()
        with pytest.raises(SupersededError) as refused:
            landing.commit()
        landing.abort()
        assert self.rows() == before
        assert (refused.value.stream, refused.value.partition) == (str(STREAM), landing.scope.partition)
        return str(refused.value)

    def rows(self, partitions: str = "12") -> dict[str, list[dict[str, Any]]]:
        """The values of each partition, without nulls."""
        tables = {each: self._table(each) for each in partitions}
        return {each: [_bare(row) for row in table.to_pylist()] for each, table in tables.items() if table is not None}

    def types_by_column(self, partitions: str) -> dict[str, str]:
        """The type of each column, at every level. It is the same in all partitions."""
        types: dict[str, str] = {}
        for each in partitions:
            for path, type_ in _leaves(self._table(each).schema, ""):
                assert types.setdefault(path, str(type_)) == str(type_), path
        return types

    def _table(self, partition: str | None) -> Any:
        bucket = self.server.open(self.destination)
        return read_scope(bucket, self.destination.template, Scope(STREAM, partition))

    def close(self) -> None:
        self._stack.close()


def fails(landing: Landing) -> bool:
    """Commits a landing. Returns whether it fails because of another one."""
    try:
        landing.commit()
    except SupersededError:
        return True
    return False


def _leaves(fields: Iterable[pa.Field], prefix: str) -> Iterator[tuple[str, pa.DataType]]:
    """The path and the type of every column that has no columns in it."""
    for field in fields:
        type_ = field.type
        while pa.types.is_list(type_):
            type_ = type_.value_type
        if pa.types.is_struct(type_):
            yield from _leaves([type_.field(number) for number in range(type_.num_fields)], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field.type


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _bare(each) for name, each in value.items() if each is not None and not name.startswith("_airbyte")}


@contextmanager
def race(server: S3Server, settings: Any, again: str = "replace") -> Iterator[Race]:
    opened = Race(server, settings, again)
    try:
        yield opened
    finally:
        opened.close()


@CASES
def test_a_landing_whose_column_got_another_type_meanwhile_fails_and_says_run_it_again(
    moto_s3: S3Server, settings, again: str, retype: str
) -> None:
    old, old_record, new, new_record = RETYPES[retype]
    with race(moto_s3, settings, again) as running:
        slow = running.begin("2", old, old_record)
        running.land("1", new, new_record)
        message = running.refuse(slow)
        path = {"root": "v", "list": "v", "nested": "o.v", "items": "l[].v"}[retype]
        for part in (f"'{STREAM.name}'", "partition '2'", f"'{path}'", "Run it again", "integer"):
            assert part in message
        assert {"list": "array of boolean"}.get(retype, "string") in message
        running.land("2", old, old_record)
        assert running.types_by_column("12")


@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("ends", [False, True], ids=["begins", "begins-and-ends"])
@pytest.mark.parametrize(
    ("settings", "retype"), [(AvroFormat(), "root"), (ParquetFormat(), "items")], ids=["avro", "parquet"]
)
def test_a_type_that_changes_at_the_moment_of_a_decision_is_noticed_by_one_of_the_two(
    moto_s3: S3Server, settings, retype: str, ends: bool, lost: bool
) -> None:
    """The other landing begins, or begins and ends, just before or just after the decision of the slow one."""
    old, old_record, new, new_record = RETYPES[retype]
    with race(moto_s3, settings) as running:
        other: list[Landing] = []

        def overtake() -> None:
            other.append(running.begin("1", new, new_record))
            if ends:
                other.pop().commit()

        client = OvertakenClient(moto_s3.client(), "put_object", overtake, key="head.json", lost=lost)
        slow = running.begin("2", old, old_record, client)
        failed = [fails(slow), *map(fails, other)]
        # A landing that begins after the decision sees the objects, although they are not visible yet.
        assert any(failed) is not lost
        running.land("2", old, old_record)
        running.land("1", new, new_record)
        assert [len(rows) for rows in running.rows().values()] == [1, 1]
        assert running.types_by_column("12")


@TYPED
def test_of_two_landings_that_change_one_type_the_one_that_reserved_last_lands(moto_s3: S3Server, settings) -> None:
    for first in (0, 1):
        with race(moto_s3, settings) as running:
            both = [
                running.begin("1", {"v": TEXT}, {"v": "one"}),
                running.begin("2", {"v": INTEGER}, {"v": 1}),
            ]
            if first:
                both[1].commit()
                running.refuse(both[0])
            else:
                running.refuse(both[0])
                both[1].commit()
            running.land("1", {"v": TEXT}, {"v": "one"})
            assert running.rows() == {"1": [{"v_string": "one"}], "2": [{"v": 1}]}


@TYPED
@pytest.mark.parametrize(
    ("before", "slow", "fast"),
    [
        ((INTEGER, 1), (INTEGER, 2), (NUMBER, 1.5)),
        ((DATE, "2026-01-05"), (DATE, "2026-01-06"), (TIMESTAMP, "2026-01-05T10:30:00Z")),
        ((decimal(6, 2), 1.25), (decimal(6, 2), 2.25), (decimal(9, 4), 12345.1234)),
        ((TEXT, "a"), (TEXT, "b"), (TEXT, "c")),
    ],
    ids=["integer-number", "date-timestamp", "decimal", "same"],
)
def test_a_column_that_was_widened_meanwhile_still_takes_the_narrower_type(
    moto_s3: S3Server, settings, before, slow, fast
) -> None:
    with race(moto_s3, settings) as running:
        running.land("1", {"v": before[0]}, {"v": before[1]})
        late = running.begin("2", {"v": slow[0]}, {"v": slow[1]})
        running.land("3", {"v": fast[0]}, {"v": fast[1]})
        late.commit()
        found = running.rows("123")
        assert [len(rows) for rows in found.values()] == [1, 1, 1]
        assert {name for rows in found.values() for name in rows[0]} == {"v"}


@TYPED
def test_integers_that_no_double_holds_are_refused_where_the_column_became_a_number_meanwhile(
    moto_s3: S3Server, settings
) -> None:
    big = 2**53 + 1
    with race(moto_s3, settings) as running:
        running.land("1", {"v": INTEGER}, {"v": 1})
        slow = running.begin("2", {"v": INTEGER}, {"v": big})
        running.land("3", {"v": NUMBER}, {"v": 1.5})
        assert "number" in running.refuse(slow)
        running.land("2", {"v": INTEGER}, {"v": big})
        assert running.rows("3") == {"3": [{"v": 1.5}]}


@TYPED
def test_a_column_that_the_rebuilt_registry_does_not_know_is_refused(moto_s3: S3Server, settings) -> None:
    with race(moto_s3, settings) as running:
        running.land("1", {"v": INTEGER}, {"v": 1})
        slow = running.begin("2", {"v": INTEGER, "w": INTEGER}, {"v": 1, "w": 2})
        bucket = moto_s3.open(running.destination)
        bucket.delete(each.key for each in bucket.list_objects("data/_s3dest/~/events/~stream."))
        running.land("3", {"v": INTEGER, "x": TEXT}, {"v": 1, "x": "x"})
        assert "'w'" in running.refuse(slow)
        running.land("2", {"v": INTEGER, "w": INTEGER}, {"v": 1, "w": 2})
        assert running.rows("23") == {"2": [{"v": 1, "w": 2}], "3": [{"v": 1, "x": "x"}]}


@TYPED
def test_of_two_landings_of_a_stream_without_partitions_one_is_superseded(moto_s3: S3Server, settings) -> None:
    with race(moto_s3, settings) as running:
        slow = running.begin(None, {"v": INTEGER}, {"v": 1})
        running.land(None, {"v": TEXT}, {"v": "one"})
        running.refuse(slow)
        assert running._table(None).column("v").to_pylist() == ["one"]


def test_a_format_without_types_lands_whatever_the_registry_says(moto_s3: S3Server) -> None:
    with race(moto_s3, JsonlFormat()) as running:
        slow = running.begin("2", {"v": INTEGER}, {"v": 1})
        running.land("1", {"v": TEXT}, {"v": "one"})
        slow.commit()
        assert running.rows("12") == {"1": [{"v": "one"}], "2": [{"v": 1}]}


@TYPED
def test_once_no_object_has_the_old_type_later_landings_no_longer_look_for_it(moto_s3: S3Server, settings) -> None:
    with race(moto_s3, settings) as running:
        running.land("1", {"v": INTEGER}, {"v": 1})
        costs = []
        for number in range(1, 7):
            client = CountedClient(moto_s3.client())
            running.begin(str(number), {"v": TEXT}, {"v": "one"}, client).commit()
            costs.append(len(client.calls))
        assert len(set(costs[2:])) == 1
        assert costs[2] < costs[1]
        assert running.types_by_column("123456")["v"] == "string"
