"""A reader refuses a document that it cannot understand and names it. It ignores fields that it does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from land_and_read import batches_of, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.commit_log import SYNC_MARKS
from s3dest_dagster.commit.documents import FORMAT_VERSION, NEWEST_VERSION, DocumentKind
from s3dest_dagster.commit.head import HEADS
from s3dest_dagster.commit.registry_document import REGISTRIES
from s3dest_dagster.commit.segment import SEGMENTS
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.stream import Scope

ROOT = "data/_s3dest/public/users/"


def _changed(server: S3Server, kind: str, **changes: object):
    """A destination with one sync, one of its documents changed, and the key of that document."""
    settings = destination(server.new_bucket())
    bucket = server.open(settings)
    with target(server, settings, bucket) as opened:
        land(batches_of(users(1, 1)), opened, stream(), sync("s1"))
    (key,) = [each.key for each in bucket.list_objects(ROOT) if kind in each.key]
    bucket.put(key, json.dumps(json.loads(bucket.get(key)[0]) | changes).encode())
    return settings, key


@pytest.mark.parametrize("kind", ["head.json", "segments/", "~stream.json"])
def test_a_newer_format_version_is_refused(moto_s3: S3Server, kind: str) -> None:
    settings, key = _changed(moto_s3, kind, format_version=NEWEST_VERSION + 1)
    with target(moto_s3, settings) as opened, pytest.raises(ManifestError, match="format version 5") as raised:
        land(batches_of(users(2, 2)), opened, stream(), sync("s2"))
    assert raised.value.key == key
    assert "Install a newer" in str(raised.value)


@pytest.mark.parametrize("kind", ["head.json", "segments/"])
def test_fields_that_a_newer_library_adds_to_this_version_are_ignored(moto_s3: S3Server, kind: str) -> None:
    settings, _ = _changed(moto_s3, kind, an_addition={"of": "tomorrow"})
    table = read_scope(moto_s3.open(settings), settings.template, Scope(stream().id))
    assert table["id"].to_pylist() == [1]


# ---------------------------------------------------------------------- one kind of document at a time

_STREAM = {"bucket_path": "data", "namespace": "public", "stream": "users"}
_SCOPE = _STREAM | {"partition": None}
_OBJECT = {"key": "data/1.csv", "rows": 1, "bytes": 9, "etag": "", "close_reason": "end"}
_SYNC = {"id": "s1", "complete": True, "segment": "s1.1"}
DOCUMENTS: dict[str, tuple[DocumentKind[Any], dict[str, Any]]] = {
    "head": (
        HEADS,
        {
            "location": _SCOPE,
            "recent_syncs": [_SYNC],
            "latest_schema": {"fingerprint": "f", "segment": "s1.1"},
            "retired": [{"segment": "s1.1", "delete_after": "2026-01-05T00:00:00Z"}],
        },
    ),
    "segment": (
        SEGMENTS,
        {
            "location": _SCOPE,
            "name": "s1.1",
            "sync": {"id": "s1", "mode": "append", "started_at": "2026-01-05T00:00:00Z"},
            "objects": [_OBJECT | {"upload": {"id": "u", "part_etags": []}}],
            "quarantine": _OBJECT,
            "counts": {"tally": {}},
            "replaced": {"keys": ["data/0.csv"]},
            "compaction": {"absorbs": []},
            "next_part_number": 1,
            "schema": {"changes": {"retyped": [{"name": "id", "before": "integer", "now": "number"}]}},
            "state": {"text": "{}", "ancestors": [{"id": "a", "read_count": 1, "segment_key": "k"}]},
            "format": {},
            "settings": {},
            "library_version": "1",
        },
    ),
    "sync mark": (SYNC_MARKS, {"location": _SCOPE, "sync": _SYNC}),
    "registry": (
        REGISTRIES,
        {
            "location": _STREAM,
            "templates": [{"s3_bucket_path": "data", "s3_path_format": "", "file_name_pattern": ""}],
        },
    ),
}
"""A document of each kind in which every group of fields is present."""


def _with_additions(value: Any) -> Any:
    """The same value with an unknown field in each object."""
    if isinstance(value, list):
        return [_with_additions(each) for each in value]
    if isinstance(value, dict):
        return {name: _with_additions(each) for name, each in value.items()} | {"an_addition": {"of": "tomorrow"}}
    return value


def _decoded(kind: DocumentKind[Any], document: dict[str, Any], version: int = FORMAT_VERSION) -> Any:
    return kind.decode(msgspec.json.encode({"format_version": version, **document}), "the key")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_kind_of_document_refuses_a_newer_version(name: str) -> None:
    with pytest.raises(ManifestError, match="the key has format version 5; this library knows up to 4"):
        _decoded(*DOCUMENTS[name], version=NEWEST_VERSION + 1)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_kind_of_document_ignores_unknown_fields_at_every_level(name: str) -> None:
    kind, document = DOCUMENTS[name]
    by_name = {field: value for field, value in document.items() if field not in ("format", "settings")}
    maps = {field: value for field, value in document.items() if field not in by_name}
    assert _decoded(kind, _with_additions(by_name) | maps) == _decoded(kind, document)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_written_document_is_read_back_unchanged(name: str) -> None:
    kind, document = DOCUMENTS[name]
    value = _decoded(kind, document)
    assert kind.decode(kind.encode(value), "the key") == value
    assert json.loads(kind.encode(value))["format_version"] == FORMAT_VERSION


_FIRST_USE = """
import os, sys, threading
from s3dest_dagster.commit.head import HEADS
from s3dest_dagster.commit.segment import SEGMENTS
from s3dest_dagster.sources.airbyte.protocol import parse_state
from s3dest_dagster.storage.abilities import read_abilities

def use(ready):
    ready.wait()
    for read in (
        lambda: SEGMENTS.decode(b'{"format_version": 1}', "key"),
        lambda: HEADS.decode(b'{"format_version": 1}', "key"),
        lambda: parse_state(b'{"type": "LEGACY", "data": {}}'),
        lambda: read_abilities(b'{"servers": []}', "endpoint", "bucket"),
    ):
        try:
            read()
        except Exception:
            pass

for _ in range(20):
    if (child := os.fork()) == 0:
        sys.setswitchinterval(1e-6)
        ready = threading.Barrier(8)
        threads = [threading.Thread(target=use, args=(ready,)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit("it crashed")
"""


def test_threads_that_decode_the_first_documents_of_a_process_together_do_not_crash_it() -> None:
    """`verify` and `ls` read the segments of a head in this way."""
    done = subprocess.run([sys.executable, "-c", _FIRST_USE], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
