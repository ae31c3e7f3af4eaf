"""A reader refuses what it cannot understand, and says which object it is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from landed import batches_of, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.manifest import FORMAT_VERSION
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.stream import Scope

ROOT = "data/_s3dest/public/users/"


def _changed(server: S3Server, kind: str, **changes: object):
    """A destination with one sync, of whose manifests one was changed; and that one's key."""
    settings = destination(server.new_bucket())
    bucket = server.open(settings)
    with target(server, settings, bucket) as opened:
        land(batches_of(users(1, 1)), opened, stream(), sync("s1"))
    (key,) = [each.key for each in bucket.list_objects(ROOT) if kind in each.key]
    bucket.put(key, json.dumps(json.loads(bucket.get(key)[0]) | changes).encode())
    return settings, key


@pytest.mark.parametrize("kind", ["head.json", "segments/", "~stream.json"])
def test_a_newer_format_version_is_refused(moto_s3: S3Server, kind: str) -> None:
    settings, key = _changed(moto_s3, kind, format_version=FORMAT_VERSION + 1)
    with target(moto_s3, settings) as opened, pytest.raises(ManifestError, match="format version 2") as raised:
        land(batches_of(users(2, 2)), opened, stream(), sync("s2"))
    assert raised.value.key == key
    assert "Install a newer" in str(raised.value)


@pytest.mark.parametrize("kind", ["head.json", "segments/"])
def test_what_a_newer_library_adds_to_this_version_does_not_hinder_reading(moto_s3: S3Server, kind: str) -> None:
    settings, _ = _changed(moto_s3, kind, an_addition={"of": "tomorrow"})
    table = read_scope(moto_s3.open(settings), settings.template, Scope(stream().id))
    assert table["id"].to_pylist() == [1]


_FIRST_USE = """
import os, sys, threading
from s3dest_dagster.landing.manifest import Head, Segment, from_json
from s3dest_dagster.sources.airbyte.protocol import parse_state
from s3dest_dagster.storage.abilities import read_abilities

def use(ready):
    ready.wait()
    for read in (
        lambda: from_json(Segment, b'{"format_version": 1}', "key"),
        lambda: from_json(Head, b'{"format_version": 1}', "key"),
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


def test_what_threads_read_at_once_as_the_first_thing_of_a_process_does_not_crash_it() -> None:
    """As verify and ls read the segments of a head."""
    done = subprocess.run([sys.executable, "-c", _FIRST_USE], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
