"""What `plan` announces is what the landing then does: columns, keys, deletions, and what a contract refuses."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import fastavro
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from land_and_read import batch_of, data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.errors import S3DestError, SchemaContractError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.plan import StreamPlan, plan
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, Flattening, JsonlFormat, ParquetFormat
from s3dest_dagster.stream import Scope, Stream, Sync, SyncMode

T = TypeVar("T")
NUMBER, TEXT = {"type": "integer"}, {"type": "string"}
KINDS = [NUMBER, {"type": "number"}, TEXT, {**TEXT, "format": "date"}, {"type": "array", "items": NUMBER}]
KINDS += [{"type": "object", "properties": {name: kind}} for name in ("x-y", "x y") for kind in (NUMBER, TEXT)]
FORMATS = [AvroFormat(), ParquetFormat(), JsonlFormat(), CsvFormat(flattening=Flattening.ROOT), CsvFormat()]
CONTRACTS = ["evolve", "evolve", "freeze", "discard", {"new_type": "freeze"}, {"new_type": "discard"}]
SETTINGS = st.fixed_dictionaries(
    {
        "format": st.sampled_from(FORMATS),
        "name_style": st.sampled_from(["connector", "snake", "lower"]),
        "envelope": st.sampled_from(["airbyte_0", "airbyte_0", "none"]),
        "schema_contract": st.sampled_from(CONTRACTS),
    }
)
PROPERTIES = st.dictionaries(st.sampled_from(["a-b", "a_b", "a.b", "A_b", "名前"]), st.sampled_from(KINDS), max_size=4)
STEPS = st.tuples(SETTINGS, PROPERTIES, st.sampled_from([SyncMode.APPEND, SyncMode.FULL_REFRESH]))


def planned(server: S3Server, chosen: S3Destination, stream: Stream, of: Sync, partition: str | None) -> StreamPlan:
    with target(server, chosen) as opened:
        return plan(opened, [stream], of, partition=partition).streams[0]


def attempt(do: Callable[[], T]) -> tuple[T | None, str]:
    """The result, and the message if it is refused."""
    try:
        return do(), ""
    except S3DestError as error:
        return None, error.message


def names_in(settings: Any, content: bytes) -> list[str] | None:
    """The columns of an object without the envelope and the overflow, as another library reads them. None if there are
    none in the format."""
    if isinstance(settings, ParquetFormat):
        names = pq.read_schema(io.BytesIO(content)).names
    elif isinstance(settings, AvroFormat):
        names = [field["name"] for field in fastavro.reader(io.BytesIO(content)).writer_schema["fields"]]
    elif settings.flattening is Flattening.ROOT:
        names = next(csv.reader(io.StringIO(gzip.decompress(content).decode(), newline="")))
    else:
        return None
    return [name for name in names if not name.startswith("_airbyte")]


@run(max_examples=max(run().max_examples // 4, 1))
@given(history=st.lists(STEPS, min_size=2, max_size=4), partitions=st.sampled_from([[None], ["p", "q"]]))
def test_a_landing_does_what_its_plan_says(moto_s3: S3Server, history: Any, partitions: list[str | None]) -> None:
    bucket, client = moto_s3.new_bucket(), moto_s3.client()
    for number, (settings, properties, mode) in enumerate(history):
        chosen, partition = destination(bucket, **settings), partitions[number % len(partitions)]
        stream = Stream(name="events", json_schema={"properties": {**properties, "id": NUMBER}}, sync_mode=mode)
        before, of = set(data_keys(moto_s3, bucket)), sync(f"s{number}")
        scope = Scope(stream.id, partition)
        expected, refusal = attempt(partial(planned, moto_s3, chosen, stream, of, partition))
        with target(moto_s3, chosen) as opened:
            _, refused = attempt(partial(land, [batch_of([{"id": number}])], opened, stream, of, scope=scope))
        assert refused == refusal
        if expected is None:
            continue
        after = set(data_keys(moto_s3, bucket))
        assert before - after == set(expected.deletes)
        assert after - before == {expected.first_key}
        content = client.get_object(Bucket=bucket, Key=expected.first_key)["Body"].read()
        names = names_in(chosen.format, content)
        assert names is None or names == [name for name, _, _ in expected.columns]


def test_a_plan_refuses_a_stream_that_the_contract_does_not_let_land(moto_s3: S3Server) -> None:
    chosen = destination(moto_s3.new_bucket(), schema_contract={"new_stream": "freeze"})
    for schema in ({"properties": {"id": NUMBER}}, None):
        with pytest.raises(SchemaContractError, match="never landed"):
            planned(moto_s3, chosen, Stream(name="events", json_schema=schema), sync("plan"), None)


def test_a_plan_announces_that_the_envelope_comes_or_goes(moto_s3: S3Server) -> None:
    bucket, stream = moto_s3.new_bucket(), Stream(name="events", json_schema={"properties": {"id": NUMBER}})
    with target(moto_s3, destination(bucket)) as opened:
        land([batch_of([{"id": 1}])], opened, stream, sync("first"))
    changes = planned(moto_s3, destination(bucket, envelope="none"), stream, sync("plan"), None).column_changes
    assert list(map(str, changes)) == [
        "the column '_airbyte_ab_id' of the envelope is missing",
        "the column '_airbyte_emitted_at' of the envelope is missing",
    ]
    frozen = destination(bucket, envelope="none", schema_contract={"missing_column": "freeze"})
    with pytest.raises(SchemaContractError, match="of the envelope is missing"):
        planned(moto_s3, frozen, stream, sync("plan"), None)
