"""The verbs for what has landed: ls, verify, recover, sweep, state show.

One line a scope or object, or JSON. It must not know how the command is called.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from s3dest_dagster import landing
from s3dest_dagster.cli.inputs import bucket_of, read_catalog_file, read_config
from s3dest_dagster.cli.output import Output, amount, size
from s3dest_dagster.connector_config import ConnectorConfig
from s3dest_dagster.landing import LiveObject, Recovered, Swept, Verified
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId

_Result = TypeVar("_Result")


def ls(output: Output, config_path: str, catalog_path: str | None) -> int:
    """Lists the live objects of every scope."""
    config, bucket, found = _scopes(output, config_path, catalog_path)
    live = (
        (scope, each) for scope in found for each in landing.live_objects(bucket, config.destination.template, scope)
    )
    _told(output, live, lambda row: [_object_line(row[1], bucket)], lambda row: _object_json(*row, bucket))
    return 0


def verify(output: Output, config_path: str, catalog_path: str | None) -> int:
    """Compares the bucket with the manifests; 1 when something does not agree."""
    config, bucket, found = _scopes(output, config_path, catalog_path)
    verified = (landing.verify(bucket, config.destination.template, scope) for scope in found)
    results = _told(output, verified, _verified_lines, _verified_json)
    broken = [each for each in results if each.problems]
    if broken:
        output.say(f"Error: {len(broken)} of {amount(len(results), 'scope')} do not agree with their manifests.")
    return 1 if broken else 0


def recover(output: Output, config_path: str, catalog_path: str | None) -> int:
    """Finishes interrupted publications; 1 when one was turned back or failed."""
    config, bucket, found = _scopes(output, config_path, catalog_path)
    recovered = (landing.recover(bucket, config.destination.template, scope) for scope in found)
    failed = [each for each in _told(output, recovered, _recovered_lines, _recovered_json) if not each.ok]
    if failed:
        output.say(f"Error: {amount(len(failed), 'sync')} could not be finished.")
    return 1 if failed else 0


def sweep(output: Output, config_path: str, catalog_path: str | None, now: datetime | None) -> int:
    """Aborts abandoned uploads of the streams."""
    config, bucket, found = _scopes(output, config_path, catalog_path)
    streams = _asked_streams(config, catalog_path) or {scope.stream for scope in found}
    moment = now or datetime.now(UTC)
    swept = (
        (stream, landing.sweep(bucket, config.destination, stream, now=moment)) for stream in sorted(streams, key=str)
    )
    _told(output, swept, lambda row: [_swept_line(*row)], lambda row: _swept_json(*row))
    return 0


def show_state(output: Output, config_path: str, catalog_path: str | None) -> int:
    """Prints the states of the unpartitioned scopes as one JSON list."""
    config, bucket, found = _scopes(output, config_path, catalog_path)
    unpartitioned = [scope for scope in found if scope.partition is None]
    states = [landing.reached_state(bucket, config.destination.template, scope) for scope in unpartitioned]
    output.show_json([json.loads(each) for each in states if each is not None])
    return 0


# ---------------------------------------------------------------------- which scopes


def _scopes(
    output: Output, config_path: str, catalog_path: str | None
) -> tuple[ConnectorConfig, Bucket, Iterator[Scope]]:
    """The configuration, its bucket, and the scopes that have landed there, of the catalog's streams only if given."""
    config = read_config(config_path, output)
    bucket = bucket_of(config)
    streams = _asked_streams(config, catalog_path)
    return config, bucket, landing.scopes(bucket, config.destination.template, streams)


def _asked_streams(config: ConnectorConfig, catalog_path: str | None) -> set[StreamId] | None:
    """The catalog's streams under their names in the bucket; None without a catalog."""
    if catalog_path is None:
        return None
    prefix = config.destination.stream_prefix
    return {landing.landed_scope(prefix, Scope(each.id)).stream for each in read_catalog_file(catalog_path).streams}


# ---------------------------------------------------------------------- lines and JSON


def _told(
    output: Output,
    results: Iterable[_Result],
    lines: Callable[[_Result], Iterable[str]],
    as_json: Callable[[_Result], dict[str, Any]],
) -> list[_Result]:
    """The results, each shown as lines as soon as it is there, or all of them as one JSON list."""
    told = []
    for result in results:
        told.append(result)
        if not output.json:
            for line in lines(result):
                output.show(line)
    if output.json:
        output.show_json([as_json(each) for each in told])
    return told


def _object_line(each: LiveObject, bucket: Bucket) -> str:
    landed_at = each.sync.started_at.strftime("%Y-%m-%d %H:%M:%S")
    return f"{landed_at}  {amount(each.item.rows, 'row'):>16}  {size(each.item.bytes):>10}  {bucket.uri(each.item.key)}"


def _verified_lines(verified: Verified) -> list[str]:
    if verified.problems:
        return [f"✗ {verified.scope}: {problem}" for problem in verified.problems]
    return [f"✓ {verified.scope}: {amount(verified.objects, 'object')}, {amount(verified.rows, 'row')}"]


def _recovered_lines(recovered: Recovered) -> list[str]:
    if not recovered.ok:
        return [f"✗ {recovered.scope}: {recovered.message}"]
    if recovered.sync_id is None:
        return [f"✓ {recovered.scope}: nothing to finish"]
    return [f"✓ {recovered.scope}: sync {recovered.sync_id} is finished"]


def _swept_line(stream: StreamId, swept: Swept) -> str:
    return f"{stream}: {amount(swept.aborted, 'abandoned upload')} aborted, {swept.kept} kept"


def _stream_json(stream: StreamId) -> dict[str, Any]:
    return {"stream": stream.name, "namespace": stream.namespace}


def _scope_json(scope: Scope) -> dict[str, Any]:
    return {**_stream_json(scope.stream), "partition": scope.partition}


def _object_json(scope: Scope, each: LiveObject, bucket: Bucket) -> dict[str, Any]:
    return {
        **_scope_json(scope),
        "key": each.item.key,
        "uri": bucket.uri(each.item.key),
        "rows": each.item.rows,
        "bytes": each.item.bytes,
        "sync_id": each.sync.sync_id,
        "started_at": each.sync.started_at.isoformat(),
    }


def _verified_json(verified: Verified) -> dict[str, Any]:
    return {
        **_scope_json(verified.scope),
        "ok": not verified.problems,
        "objects": verified.objects,
        "rows": verified.rows,
        "problems": list(verified.problems),
    }


def _recovered_json(recovered: Recovered) -> dict[str, Any]:
    return {
        **_scope_json(recovered.scope),
        "ok": recovered.ok,
        "sync_id": recovered.sync_id,
        "message": recovered.message or None,
    }


def _swept_json(stream: StreamId, swept: Swept) -> dict[str, Any]:
    return {**_stream_json(stream), "aborted": swept.aborted, "kept": swept.kept}
