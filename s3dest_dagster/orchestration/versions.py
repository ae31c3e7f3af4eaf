"""What Dagster compares to tell what is unchanged: an asset's code version, and the data version of what was landed.

It must not know when either is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import dagster as dg

from s3dest_dagster.destination import FormatSettings
from s3dest_dagster.landing import Receipt
from s3dest_dagster.schema import paths, record_type
from s3dest_dagster.stream import Stream

DATA_VERSION_TAG = "dagster/data_version"
"""Tag of a materialization in which Dagster notes its data version."""
_DIGITS = 16


def code_version(stream: Stream, format: FormatSettings | None) -> str:
    """Another text whenever what is declared would land the same records as other bytes.

    It is made of the stream's name, namespace and sync mode, the names and types of its columns as its JSON schema
    declares them, and the options of the format that are not the defaults, where the format is known. A function's own
    code is not in it. SchemaError for a wrong schema.
    """
    columns: list[Any] = []
    if stream.json_schema is not None:
        columns = list(paths(record_type(stream.json_schema, stream.name, stream.namespace)))
    options = [] if format is None else [type(format).__name__, _chosen(format)]
    return _digest(stream.namespace, stream.name, stream.sync_mode.value, columns, options)


def _chosen(format: FormatSettings) -> dict[str, str]:
    return {each.name: str(value) for each in fields(format) if (value := getattr(format, each.name)) != each.default}


def data_version(receipt: Receipt, before: Callable[[], str | None]) -> str:
    """Equal texts mean equal data: the same records landed again under the same settings have the same version.

    A sync that replaces what its scope held has a version made of its records as the source gave them, in their order
    (see `ContentChecksum`), of its columns and of the format's settings; ids and times of the landing do not count. A
    sync that added records has one of its own, since the scope holds more now. One that changed nothing has the version
    that the scope had before, for which `before` is asked.
    """
    if receipt.replaces and receipt.content is not None:
        return _digest(receipt.content, receipt.fingerprint, dict(receipt.format))
    if not receipt.replaces and not receipt.objects:
        return unchanged(before())
    return _digest(receipt.sync_id)


def unchanged(before: str | None) -> str:
    """The version of data that nothing was done to; of none, where there was none before."""
    return before or _digest()


def common_version(versions: Iterable[str]) -> dg.DataVersion:
    """The version of what one step landed: of its one scope, or of all, in their order, since Dagster notes one."""
    each = list(versions)
    return dg.DataVersion(each[0] if len(each) == 1 else _digest(each))


def version_before(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> str | None:
    """The data version of the last materialization of an asset, or of its partition; None where there is none."""
    wanted: Any = key
    if partition is not None:
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    records = instance.fetch_materializations(wanted, limit=1).records
    event = records[0].asset_materialization if records else None
    return (event.tags or {}).get(DATA_VERSION_TAG) if event is not None else None


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]
