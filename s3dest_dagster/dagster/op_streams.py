"""The stream that the output of an op names, and the part of it that the output is.

Must not know: how it is landed or loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import NAME_KEY, stream_of
from s3dest_dagster.stream import Scope, Stream, StreamId


def op_stream(metadata: Mapping[str, Any] | None) -> Stream | None:
    """The stream that an op's output names: `s3dest/name` of the metadata of its `dg.Out`. None if it names none."""
    if not metadata or NAME_KEY not in metadata:
        return None
    # The key has no prefix, so that the namespace is the one in the metadata, or none.
    return stream_of(dg.AssetKey("op"), metadata)


def op_scope(context: dg.OutputContext | dg.InputContext, stream: StreamId) -> Scope:
    """What the output lands, and its input loads: the partition of the job's run, or the unpartitioned stream."""
    if not context.has_partition_key:
        return Scope(stream)
    key = context.partition_key
    dimensions = getattr(key, "keys_by_dimension", None)
    return Scope(stream, str(key)) if dimensions is None else Scope(stream, str(key), dict(dimensions))
