"""What was landed, as the value that a downstream asset's parameter asks for.

It knows Dagster's input context on one side and the landed scopes on the other; it must not know formats.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import NAME_KEY, NAMESPACE_KEY, STREAM_KEY, scopes_of, stream_of
from s3dest_dagster.dagster.input_values import maker_of
from s3dest_dagster.dagster.landed_scopes import COLUMNS_KEY, LandedScopes
from s3dest_dagster.inspection.read import read_whole
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket

ALLOW_MISSING_KEY = "allow_missing_partitions"
_NAMES = (NAME_KEY, NAMESPACE_KEY)


def load_input(context: dg.InputContext, destination: S3Destination, bucket: Bucket) -> Any:
    """What the upstream asset's scopes hold, as the parameter's annotation says; None for an op's output, since None is
    all that an op may give.

    `pa.Table` (also for none, and for Any), `pa.RecordBatchReader`, `pyarrow.dataset.Dataset`, a list or an iterator
    of dicts, a polars or pandas frame, a DuckDB relation: all partitions one after another. A dict: a table, or what
    its annotation says, for each partition key. In the input's metadata `columns` names the columns to load,
    `allow_missing_partitions` leaves out partitions that were never landed (an ObjectNotFoundError without it), and
    `s3dest/name` and `s3dest/namespace` name the stream of an asset of another code location. Iterators and readers
    hold one object at a time, the others everything.
    """
    if not context.has_asset_key:
        return None
    make, definition = maker_of(_annotation(context)), _upstream_metadata(context)
    stream = stream_of(context.asset_key, definition)
    scopes = {key: scope.prefixed(destination.stream_prefix) for key, scope in scopes_of(context, stream.id).items()}
    given = context.definition_metadata
    look = partial(
        LandedScopes.of,
        bucket,
        destination,
        scopes,
        columns=given.get(COLUMNS_KEY),
        allow_missing=bool(given.get(ALLOW_MISSING_KEY, False)),
        hint="" if {STREAM_KEY, *_NAMES} & definition.keys() else _how_to_name(context.asset_key),
    )
    return read_whole(look, make)


def _upstream_metadata(context: dg.InputContext) -> dict[str, Any]:
    """What the upstream asset declares, and over it the names that the input's own metadata gives its stream."""
    upstream = context.upstream_output
    declared = dict(upstream.definition_metadata) if upstream is not None else {}
    named = {name: value for name, value in context.definition_metadata.items() if name in _NAMES}
    if named:
        declared.pop(STREAM_KEY, None)
    return declared | named


def _how_to_name(key: dg.AssetKey) -> str:
    """What to do where an asset's key alone tells its stream, as that of another code location."""
    return (
        f"The asset {key.to_user_string()} does not say here which stream it is, so its key was taken for the "
        "stream's name. If another code location lands it under another name (a key_prefix, for instance, is no part "
        f'of it), give the input that name: dg.AssetIn(metadata={{"{NAME_KEY}": "{key.path[-1]}", "{NAMESPACE_KEY}": '
        '"…"}), or give the same metadata to the dg.AssetSpec that stands for it.'
    )


def _annotation(context: dg.InputContext) -> Any:
    try:
        return context.dagster_type.typing_type
    except dg.DagsterInvariantViolationError:
        return Any
