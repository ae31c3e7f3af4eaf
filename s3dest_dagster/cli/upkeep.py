"""The verbs for what has landed: ls, verify, recover, sweep, state show.

One line a scope or object, or JSON. It must not know how the command is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from s3dest_dagster import landing
from s3dest_dagster.cli.inputs import bucket_of, read_catalog_file, read_config
from s3dest_dagster.cli.output import Output, amount, size
from s3dest_dagster.connector_config import ConnectorConfig
from s3dest_dagster.landing import LiveObject, Recovered, Verified
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId


def ls(output: Output, config_path: str, catalog_path: str | None) -> int:
    """Lists the live objects of every scope."""
    config, bucket, found = _scopes(output, config_path, catalog_path)
    rows: list[dict[str, Any]] = []
    for scope in found:
        for each in landing.live_objects(bucket, config.destination.template, scope):
            if output.json:
                rows.append(_object_json(scope, each, bucket))
            else:
                output.show(_object_line(each, bucket))
    if output.json:
        output.show_json(rows)
    return 0


def verify(output: Output, config_path: str, catalog_path: str | None) -> int:
    """Compares the bucket with the manifests; 1 when something does not agree."""
    config, bucket, found = _scopes(output, config_path, catalog_path)
    results = []
    for scope in found:
        results.append(landing.verify(bucket, config.destination.template, scope))
        if not output.json:
            _show_verified(output, results[-1])
    if output.json:
        output.show_json([_verified_json(each) for each in results])
    broken = [each for each in results if each.problems]
    if broken:
        output.say(f"Error: {len(broken)} of {amount(len(results), 'scope')} do not agree with their manifests.")
    return 1 if broken else 0


def recover(output: Output, config_path: str, catalog_path: str | None) -> int:
    """Finishes interrupted publications; 1 when one was turned back or failed."""
    config, bucket, found = _scopes(output, config_path, catalog_path)
    results = []
    for scope in found:
        results.append(landing.recover(bucket, config.destination.template, scope))
        if not output.json:
            output.show(_recovered_line(results[-1]))
    if output.json:
        output.show_json([_recovered_json(each) for each in results])
    failed = [each for each in results if not each.ok]
    if failed:
        output.say(f"Error: {amount(len(failed), 'sync')} could not be finished.")
    return 1 if failed else 0


def sweep(output: Output, config_path: str, catalog_path: str | None, now: datetime | None) -> int:
    """Aborts abandoned uploads of the streams."""
    config, bucket, found = _scopes(output, config_path, catalog_path)
    streams = _asked_streams(config, catalog_path) or {scope.stream for scope in found}
    results = []
    for stream in sorted(streams, key=str):
        swept = landing.sweep(bucket, config.destination, stream, now=now or datetime.now(UTC))
        results.append({**_stream_json(stream), "aborted": swept.aborted, "kept": swept.kept})
        if not output.json:
            output.show(f"{stream}: {amount(swept.aborted, 'abandoned upload')} aborted, {swept.kept} kept")
    if output.json:
        output.show_json(results)
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


def _object_line(each: LiveObject, bucket: Bucket) -> str:
    landed_at = each.segment.started_at.strftime("%Y-%m-%d %H:%M:%S")
    return f"{landed_at}  {amount(each.item.rows, 'row'):>16}  {size(each.item.bytes):>10}  {bucket.uri(each.item.key)}"


def _show_verified(output: Output, verified: Verified) -> None:
    for problem in verified.problems:
        output.show(f"✗ {verified.scope}: {problem}")
    if not verified.problems:
        output.show(f"✓ {verified.scope}: {amount(verified.objects, 'object')}, {amount(verified.rows, 'row')}")


def _recovered_line(recovered: Recovered) -> str:
    if not recovered.ok:
        return f"✗ {recovered.scope}: {recovered.message}"
    if recovered.sync_id is None:
        return f"✓ {recovered.scope}: nothing to finish"
    return f"✓ {recovered.scope}: sync {recovered.sync_id} is finished"


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
        "sync_id": each.segment.sync_id,
        "started_at": each.segment.started_at.isoformat(),
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
