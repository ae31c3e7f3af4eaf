"""Nothing that a landing leaves has a value of an excluded, hashed or masked field: objects of every format, manifests,
the registry, quarantined lines, logs and errors are searched for them. Every stream lands twice."""

from __future__ import annotations

import gzip
import io
import json
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from land_and_read import PLAIN_JSONL, data_keys, destination, sync, target
from secret_scan import found, objects_of
from servers import S3Server

from s3dest_dagster.batch import Batch, JsonBatch
from s3dest_dagster.columns.hidden_values import Hasher
from s3dest_dagster.columns.left_out_fields import left_out_paths
from s3dest_dagster.errors import RecordError, S3DestError, SettingsError, SourceError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.streams import landing_streams
from s3dest_dagster.inspection.check import check_streams
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.sources.files import FileSource
from s3dest_dagster.sources.python import batches
from s3dest_dagster.stream import Stream, SyncMode

KEY = "hush key of the hashes/+="
SECRETS = {
    "phone": "hush-phone-0815",
    "mail": "hush-mail@example.org",
    "name": "hush name/+é",
    "ssn": "hush-078-05-1120",
    "item": "hush-item-code",
    "extra": "hush-undeclared",
    "hash key": KEY,
}
RULES = {
    "exclude": ["phone", "person.mail", "extra"],
    "hash": ["ssn"],
    "mask": ["person.name", "items[].code"],
}
SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "phone": {"type": "integer"},
        "ssn": {"type": "integer"},
        "person": {
            "type": "object",
            "properties": {"mail": {"type": "string"}, "name": {"type": "string"}, "city": {"type": "string"}},
        },
        "items": {
            "type": "array",
            "items": {"type": "object", "properties": {"code": {"type": "number"}, "price": {"type": "number"}}},
        },
    },
}
RECORD = {
    "id": 1,
    "phone": SECRETS["phone"],
    "ssn": SECRETS["ssn"],
    "person": {"mail": SECRETS["mail"], "name": SECRETS["name"], "city": "Ulm"},
    "items": [{"code": SECRETS["item"], "price": 1.5}, None],
}
FORMATS = {
    "jsonl": PLAIN_JSONL,
    "jsonl.gz": JsonlFormat(compression=TextCompression.GZIP),
    "csv": CsvFormat(compression=TextCompression.NONE),
    "csv.gz": CsvFormat(flattening="Root level flattening", compression=TextCompression.GZIP),
    "avro": AvroFormat(),
    "avro.zst": AvroFormat(codec="zstandard"),
    "parquet": ParquetFormat(),
    "parquet.zst": ParquetFormat(compression_codec="ZSTD"),
}


def texts() -> Iterator[str]:
    """Records in every spelling that JSON allows, and with values of another type than declared."""
    plain = json.dumps(RECORD, ensure_ascii=False)
    yield plain
    yield json.dumps({**RECORD, "extra": SECRETS["extra"], "more": {"undeclared": 1}})
    yield json.dumps(RECORD, indent=1).replace("\n", " ")
    yield plain.replace('"phone"', r'"\u0070hone"').replace('"mail"', r'"m\u0061il"').replace('"ssn"', r'"\u0073sn"')
    yield plain.replace('"id": 1', '"phone": "hush-phone-0815", "id": 1, "id": 2, "ssn": "hush-078-05-1120"')
    yield json.dumps({**RECORD, "id": "text in place of a number", "person": SECRETS["mail"], "items": SECRETS["item"]})
    yield json.dumps({**RECORD, "person": [RECORD["person"]], "items": {"code": SECRETS["item"]}})
    yield json.dumps({**RECORD, "person": json.dumps(RECORD["person"]), "items": [[{"code": SECRETS["item"]}]]})
    yield json.dumps({**RECORD, "phone": {"deep": [SECRETS["phone"]]}, "ssn": {"deep": [SECRETS["ssn"]]}})
    yield '{"id":4,"phone":null,"ssn":null,"person":null,"items":null}'


def json_records() -> list[Batch]:
    raws = [each.encode() for each in texts()]
    return [JsonBatch(raws, np.full(len(raws), 1_767_609_000_000, np.int64), sum(map(len, raws)))]


def bad_lines() -> Iterator[bytes]:
    for record in (json.dumps(RECORD)[:-1], json.dumps(RECORD).replace("Ulm", "\\ud800")):
        yield b'{"type":"RECORD","record":{"stream":"users","emitted_at":1,"data":%b}}' % record.encode()
    yield b'{"type":"RECORD","record":{"stream":1,"emitted_at":1,"data":%b}}' % json.dumps(RECORD).encode()
    # The rest of a record with a raw line break.
    yield json.dumps(RECORD).encode()[20:]


def messages() -> bytes:
    lines = [
        b'{"type":"RECORD","record":{"stream":"users","emitted_at":1,"data":%b}}' % each.encode() for each in texts()
    ]
    return b"\n".join([*lines, *bad_lines(), b""])


def users(**settings: Any) -> Stream:
    given = {"json_schema": SCHEMA, "settings": {"fields": RULES}, "sync_mode": SyncMode.APPEND}
    return Stream(name="users", **{**given, **settings})


def contents(server: S3Server, bucket: str) -> Iterator[tuple[str, bytes]]:
    """Every object as it is, decompressed, and decoded."""
    for key, content in objects_of(server, bucket):
        yield key, content
    for key in data_keys(server, bucket):
        body = server.client().get_object(Bucket=bucket, Key=key)["Body"].read()
        if key.endswith(".gz"):
            yield f"{key} (unpacked)", gzip.decompress(body)
        elif key.endswith(".avro"):
            reader = fastavro.reader(io.BytesIO(body))
            yield f"{key} (read)", "\n".join(map(str, [reader.metadata, *reader])).encode()
        elif key.endswith(".parquet"):
            file = pq.ParquetFile(io.BytesIO(body))
            described = [str(file.read().to_pylist()), str(file.schema_arrow), str(file.metadata.to_dict())]
            yield f"{key} (read)", "\n".join(described).encode()


def landed_rows(server: S3Server, bucket: str) -> list[dict[str, Any]]:
    bodies = [server.client().get_object(Bucket=bucket, Key=key)["Body"].read() for key in data_keys(server, bucket)]
    return [json.loads(line)["_airbyte_data"] for body in bodies for line in body.splitlines()]


def secrets_in(places: Iterable[tuple[str, bytes]]) -> set[tuple[str, str]]:
    # A JSON text within a JSON text has its escapes escaped again.
    twice = {f"{name} as JSON": json.dumps(text)[1:-1] for name, text in SECRETS.items()}
    return found({**SECRETS, **twice}, places)


def logged(caplog: pytest.LogCaptureFixture) -> tuple[str, bytes]:
    return "log", caplog.text.encode()


# ---------------------------------------------------------------------- the search


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_nothing_that_json_records_leave_has_a_hidden_value(moto_s3: S3Server, caplog, name, declared):
    caplog.set_level(logging.DEBUG)
    settings = destination(moto_s3.new_bucket(), format=FORMATS[name], hash_key=KEY, on_bad_record="quarantine")
    stream = users() if declared else users(json_schema=None)
    seen: list[Batch] = []
    receipts: list[Receipt] = []
    for sync_id in ("first", "second"):
        with target(moto_s3, settings) as opened:
            receipts.append(land(json_records(), opened, stream, sync(sync_id), on_batch=seen.append))
    places = [
        *contents(moto_s3, settings.s3_bucket_name),
        logged(caplog),
        ("receipts", repr(receipts).encode()),
        ("seen", repr(seen).encode() + b"\n".join(raw for each in seen for raw in each.raws)),  # type: ignore[union-attr]
    ]
    assert secrets_in(places) == set()
    assert receipts[0].rows == len(list(texts()))
    tally = receipts[0].counts.tally
    assert set(tally.excluded) >= {"phone", "person.mail", "extra", "person", "items"}
    assert set(tally.hashed) == {"ssn"}
    assert set(tally.masked) == {"person.name", "items[].code"}


def test_the_search_would_find_the_values(moto_s3: S3Server):
    for name, format_ in FORMATS.items():
        settings = destination(moto_s3.new_bucket(), format=format_)
        with target(moto_s3, settings) as opened:
            land(json_records(), opened, users(settings={}), sync("first"))
        missing = (
            set(SECRETS)
            - {"hash key"}
            - {secret.removesuffix(" as JSON") for secret, _ in secrets_in(contents(moto_s3, settings.s3_bucket_name))}
        )
        assert missing <= ({"extra"} if name == "csv.gz" else set()), name


@pytest.mark.parametrize("on_bad_record", ["quarantine", "fail"])
def test_bad_lines_of_a_connector_are_not_quoted(moto_s3: S3Server, tmp_path, caplog, on_bad_record):
    caplog.set_level(logging.DEBUG)
    settings = destination(moto_s3.new_bucket(), hash_key=KEY, on_bad_record=on_bad_record)
    other = Stream(name="other", json_schema=SCHEMA)
    (tmp_path / "messages").write_bytes(messages())
    errors: list[tuple[str, bytes]] = []
    for sync_id in ("first", "second"):
        try:
            with (
                target(moto_s3, settings) as opened,
                landing_streams(opened, [other, users()], sync(sync_id)) as landings,
                (tmp_path / "messages").open("rb") as file,
            ):
                for item in read_messages(file, [other.id, users().id], hides_text=True):
                    landings.append(item)
                receipts = list(landings.publish())
        except S3DestError as error:
            errors.append(("error", "".join(traceback.format_exception(error)).encode()))
    places = [*contents(moto_s3, settings.s3_bucket_name), logged(caplog), *errors]
    assert secrets_in(places) == set()
    assert (len(errors) == 2) == (on_bad_record == "fail")
    if on_bad_record == "quarantine":
        assert sum(each.counts.quarantined for each in receipts) == 3
        quarantined = [json.loads(line) for key, body in quarantines(moto_s3, settings.s3_bucket_name) for line in body]
        lines = list(bad_lines())
        assert {each["hidden_bytes"] for each in quarantined} == {len(line) for line in lines[:3]}
        assert all(set(each) == {"reason", "line_number", "hidden_bytes"} for each in quarantined)


def quarantines(server: S3Server, bucket: str) -> Iterator[tuple[str, list[bytes]]]:
    for each in server.client().list_objects_v2(Bucket=bucket)["Contents"]:
        if "/quarantine/" in each["Key"]:
            body = server.client().get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            yield each["Key"], body.splitlines()


def python_dicts() -> Iterator[Any]:
    yield from (RECORD for _ in range(3))


def arrow_frame() -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([RECORD, {**RECORD, "person": None, "items": None, "ssn": None}])


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("records", [python_dicts, arrow_frame])
@pytest.mark.parametrize("name", ["jsonl", "csv.gz", "avro", "parquet"])
def test_nothing_that_python_records_and_frames_leave_has_a_hidden_value(moto_s3, caplog, name, records, declared):
    caplog.set_level(logging.DEBUG)
    settings = destination(moto_s3.new_bucket(), format=FORMATS[name], hash_key=KEY)
    stream = users() if declared else users(json_schema=None)
    for sync_id in ("first", "second"):
        with target(moto_s3, settings) as opened:
            land(batches(records(), emitted_at=lambda: 1), opened, stream, sync(sync_id))
    assert secrets_in([*contents(moto_s3, settings.s3_bucket_name), logged(caplog)]) == set()


def write_files(folder: Any) -> None:
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join([*texts(), json.dumps(RECORD)[:-1], json.dumps(RECORD)[30:]]))
    header, cells = "id,phone,ssn,city", f"1,{SECRETS['phone']},{SECRETS['ssn']},"
    (folder / "b.csv").write_text(f"{header}\n{cells}\n{cells},{SECRETS['mail']}\n")
    pq.write_table(pa.Table.from_batches([arrow_frame()]), folder / "c.parquet")


def test_nothing_that_files_leave_has_a_hidden_value(moto_s3: S3Server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    write_files(tmp_path / "inbox")
    settings = destination(moto_s3.new_bucket(), hash_key=KEY, on_bad_record="quarantine")
    for sync_id in ("first", "second"):
        with target(moto_s3, settings) as opened:
            items = FileSource(str(tmp_path / "inbox" / "*")).read()
            receipt = land(items, opened, users(), sync(sync_id))
    assert secrets_in([*contents(moto_s3, settings.s3_bucket_name), logged(caplog)]) == set()
    assert receipt.counts.quarantined == 3


def test_an_error_while_a_value_is_converted_shows_no_hidden_value(moto_s3: S3Server):
    settings = destination(moto_s3.new_bucket(), format=ParquetFormat(), hash_key=KEY, on_type_mismatch="fail")
    with target(moto_s3, settings) as opened, pytest.raises(RecordError) as refused:
        land(json_records(), opened, users(), sync("first"))
    text = "".join(traceback.format_exception(refused.value)).encode()
    assert secrets_in([("error", text)]) == set()


# ---------------------------------------------------------------------- what lands


def test_what_lands_is_what_is_left(moto_s3: S3Server):
    settings = destination(moto_s3.new_bucket(), hash_key=KEY)
    with target(moto_s3, settings) as opened:
        receipt = land(json_records()[:1], opened, users(), sync("first"))
    hashed = Hasher(KEY).hash(json.dumps(SECRETS["ssn"]).encode())
    assert landed_rows(moto_s3, settings.s3_bucket_name)[0] == {
        "id": 1,
        "ssn": hashed,
        "person": {"name": "***", "city": "Ulm"},
        "items": [{"code": "***", "price": 1.5}, None],
    }
    assert receipt.json_schema is not None
    assert list(json.loads(receipt.json_schema)["properties"]) == ["id", "ssn", "person", "items"]


def test_include_lands_nothing_else_declared_or_not(moto_s3: S3Server):
    settings = destination(moto_s3.new_bucket(), format=ParquetFormat())
    stream = users(settings={"fields": {"include": ["id", "person.city"]}})
    with target(moto_s3, settings) as opened:
        receipt = land(json_records(), opened, stream, sync("first"))
    assert secrets_in(contents(moto_s3, settings.s3_bucket_name)) == set()
    assert receipt.counts.tally.undeclared == {}
    assert receipt.counts.tally.excluded["*"] > 0


def test_a_deselected_field_does_not_land_unless_it_shall(moto_s3: S3Server):
    bucket = moto_s3.new_bucket()
    stream = users(settings={}, deselected=["phone"])
    record = [JsonBatch([b'{"id":1,"phone":2}'], np.zeros(1, np.int64), 18)]
    with target(moto_s3, destination(bucket)) as opened:
        land(record, opened, stream, sync("first"))
        land(record, opened, users(settings={"deselected_fields": "land"}, deselected=["phone"]), sync("second"))
    assert landed_rows(moto_s3, bucket) == [{"id": 1}, {"id": 1, "phone": 2}]


@pytest.mark.parametrize("name", ["jsonl", "csv.gz", "avro", "parquet"])
def test_a_field_that_is_deselected_in_a_schema_within_itself_lands_at_no_depth(moto_s3: S3Server, name: str):
    def schema(*names: str) -> dict[str, Any]:
        below = {"next": {"$ref": "#/definitions/n"}, "all": {"type": "array", "items": {"$ref": "#/definitions/n"}}}
        node = {"type": "object", "properties": {**{each: {"type": "string"} for each in names}, **below}}
        return {"type": "object", "properties": {"n": {"$ref": "#/definitions/n"}}, "definitions": {"n": node}}

    node: dict[str, Any] = {"a": "visible-9", "b": SECRETS["phone"]}
    for depth in range(8, -1, -1):
        node = {"a": f"visible-{depth}", "b": SECRETS["phone"], "next": node, "all": [None, node]}
    raw = json.dumps({"n": node}).encode()
    settings = destination(moto_s3.new_bucket(), format=FORMATS[name])
    stream = users(settings={}, json_schema=schema("a"), deselected=left_out_paths(schema("a", "b"), schema("a")))
    with target(moto_s3, settings) as opened:
        for sync_id in ("first", "second"):
            land([JsonBatch([raw], np.zeros(1, np.int64), len(raw))], opened, stream, sync(sync_id))
    places = list(contents(moto_s3, settings.s3_bucket_name))
    assert secrets_in(places) == set()
    visible = {f"visible-{depth}": f"visible-{depth}" for depth in range(3)}
    assert {secret for secret, _ in found(visible, places)} >= set(visible)


# ---------------------------------------------------------------------- the key


def test_a_stream_keeps_the_key_with_which_it_was_first_hashed(moto_s3: S3Server):
    bucket = moto_s3.new_bucket()
    with target(moto_s3, destination(bucket, hash_key=KEY)) as opened:
        land(json_records(), opened, users(), sync("first"))
    with target(moto_s3, destination(bucket, hash_key=KEY + "2")) as opened:
        for attempt in (
            lambda: land(json_records(), opened, users(), sync("second")),
            lambda: plan(opened, [users()], sync("plan")),
        ):
            with pytest.raises(SettingsError, match="hashed with another hash_key") as refused:
                attempt()
            assert refused.value.setting == "hash_key"
        assert not check_streams(opened, [users()])[1].ok
        # Without a hash, the key does not matter.
        land(json_records(), opened, users(settings={"fields": {"exclude": ["ssn"]}}), sync("third"))
    with target(moto_s3, destination(bucket, hash_key=KEY)) as opened:
        land(json_records(), opened, users(), sync("fourth"))


def test_a_hash_without_a_key_is_refused_before_anything_is_written(moto_s3: S3Server):
    bucket = moto_s3.new_bucket()
    with target(moto_s3, destination(bucket)) as opened, pytest.raises(SettingsError, match="hash_key is not set"):
        land(json_records(), opened, users(), sync("first"))
    assert data_keys(moto_s3, bucket) == []


def test_a_short_key_is_refused_and_no_key_is_shown():
    with pytest.raises(SettingsError, match="fewer than 16 characters") as refused:
        destination("b", hash_key="hush")
    assert "hush" not in refused.value.message
    assert KEY not in repr(destination("b", hash_key=KEY))


# ---------------------------------------------------------------------- what is refused and told


@pytest.mark.parametrize("rules", [{"exclude": ["at"]}, {"mask": ["at"]}, {"include": ["id"]}])
def test_a_cursor_must_land(rules):
    with pytest.raises(SettingsError, match="at is its cursor"):
        users(settings={"fields": rules}, cursor_field=("at",))
    users(settings={"fields": {"hash": ["at"], "exclude": ["other"]}}, cursor_field=("at",))


def test_a_deselected_cursor_is_refused():
    with pytest.raises(SettingsError, match="the configured catalog leaves it out"):
        users(settings={}, cursor_field=("at",), deselected=["at"])


def test_a_plan_names_the_fields_that_do_not_land_and_those_that_are_unknown(moto_s3: S3Server):
    rules: Mapping[str, Any] = {"exclude": ["phone", "fone"], "hash": ["ssn"], "mask": ["person.name"]}
    with target(moto_s3, destination(moto_s3.new_bucket(), format=ParquetFormat(), hash_key=KEY)) as opened:
        (planned,) = plan(opened, [users(settings={"fields": rules})], sync("plan")).streams
    assert planned.hidden == {"excluded": ("phone", "fone"), "hashed": ("ssn",), "masked": ("person.name",)}
    assert planned.unknown_paths == ("fone",)
    assert "phone" not in [name for name, _, _ in planned.columns]


def test_lines_that_are_no_messages_are_not_quoted():
    log: list[str] = []
    with pytest.raises(SourceError) as failed:
        list(
            read_messages(
                io.BytesIO(b'hush-mail@example.org"}}\n'), [], log=lambda _, text: log.append(text), hides_text=True
            )
        )
    assert "hush" not in failed.value.message + "".join(log)
    assert "24 bytes" in log[0]
