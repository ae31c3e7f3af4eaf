"""Reads what a stream holds into data frames, in a notebook or a script: through the manifests, without Dagster.

Must not know: how an object is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from s3dest_dagster.commit.former_locations import paths_near
from s3dest_dagster.commit.scopes import FoundScope, names_of_streams, scope_at, scopes_of_stream
from s3dest_dagster.errors import ObjectNotFoundError, SettingsError, did_you_mean
from s3dest_dagster.inspection.landed_scopes import LandedScopes, T
from s3dest_dagster.inspection.read import ScopeSnapshot, read_whole
from s3dest_dagster.inspection.record_selection import PARTITIONS_KEY, RecordSelection
from s3dest_dagster.keys import scope_root, stream_root
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, in_parallel, open_bucket
from s3dest_dagster.stream import Scope, StreamId, streams_shown_as

_SCHEME = "s3://"
_MOST_NAMES = 5


def read(
    path: str,
    stream: str | StreamId,
    *,
    columns: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    filter: Sequence[Any] | None = None,
    partitions: Sequence[str] | None = None,
    as_of: datetime | str | None = None,
    allow_missing_partitions: bool = False,
    endpoint: str | None = None,
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    profile_name: str | None = None,
    connection: S3Connection | None = None,
) -> StreamReader:
    """Opens what a stream holds, to be read as Arrow data or as a frame of Polars, pandas or DuckDB.

    The manifests decide what is read: records of whole syncs, each once, as an input of an asset has them. Nothing in
    the bucket changes. The records are those of the moment of this call. If a sync has replaced them by the time they
    are read, its records are read instead. Records of two generations are never mixed.

    Args:
        path: The bucket and the bucket path of the destination, as "s3://my-bucket/lake".
        stream: The stream's name in the bucket, as `s3dest ls` prints it: the namespace, a dot and the name. If dots
            make it ambiguous, a `StreamId`.
        columns: The columns to read. Default: all columns.
        where: The values of directories of `partition_by`, as {"dt": "2026-01-05"} or {"dt": ["2026-01-05", None]}.
            Only objects with these values are read. Default: all objects.
        filter: Conditions on a record, as [("id", ">", 5)], all of which it must meet; or a list of such lists, of
            which it must meet one. The operators are =, ==, !=, <, >, <=, >=, "in" and "not in". Default: all records.
        partitions: Keys of partitions, as ["2026-01-05"]; "" is what landed without a partition. Default: all that the
            stream has.
        as_of: Only syncs that began by this time are read: a time, or a text in ISO 8601, by default in UTC. Default:
            all syncs.
        allow_missing_partitions: Whether to leave out `partitions` that have not landed. Otherwise they are an error.
        endpoint: URL of a server other than AWS. Default: that of the environment or of the AWS configuration.
        region: Region of the bucket. Default: that of the AWS configuration.
        access_key_id: Access key id. Without it, the environment, the profile or the machine provides the identity.
        secret_access_key: The secret for the access key id.
        session_token: Session token of temporary access keys.
        profile_name: Profile of the AWS configuration files.
        connection: Further settings of the connection. The arguments above take precedence.

    Raises:
        ObjectNotFoundError: There is no such stream, or a partition has not landed.
        BucketNotFoundError: There is no such bucket.
        SettingsError: The path, a column, a directory, a condition or a time is wrong; or the stream holds partitions
            as well as what landed before it had any, and `partitions` does not choose.

    Example:
        orders = read("s3://my-bucket/lake", "shop.orders", columns=["id", "total"]).polars()
    """
    given = {
        "endpoint": endpoint,
        "region": region,
        "access_key_id": access_key_id,
        "secret_access_key": secret_access_key,
        "session_token": session_token,
        "profile_name": profile_name,
    }
    own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    selection = RecordSelection.of(
        columns=columns,
        filter=filter,
        where=where,
        partitions=partitions,
        as_of=as_of,
        allow_missing=allow_missing_partitions,
    )
    destination = _destination(path)
    bucket = open_bucket(replace(connection or S3Connection(), **own), destination)
    found = _find_stream(bucket, destination, stream)

    def look() -> LandedScopes:
        return LandedScopes.of(_snapshots(bucket, destination, found, selection), str(found), selection)

    return StreamReader(look(), look)


@dataclass(frozen=True, slots=True, repr=False)
class StreamReader:
    """What a stream holds. `read` makes it. Each method reads the objects anew.

    Example:
        orders = read("s3://my-bucket/lake", "shop.orders")
        orders.duckdb().aggregate("sum(total)")
    """

    _landed: LandedScopes
    _look: Callable[[], LandedScopes]
    """Reads the manifests again."""

    @property
    def stream(self) -> str:
        """The stream's name in the bucket."""
        return self._landed.stream

    @property
    def partitions(self) -> list[str]:
        """The keys of the partitions that are read. Empty for an unpartitioned stream."""
        return [key for key in self._landed.scopes if key is not None]

    @property
    def schema(self) -> pa.Schema:
        """The columns that are read, with their types."""
        return self._landed.schema

    def arrow(self) -> pa.Table:
        """All records as a `pyarrow.Table`.

        Example:
            read("s3://my-bucket/lake", "shop.orders").arrow().num_rows
        """
        return self._read(LandedScopes.table)

    def polars(self) -> Any:
        """All records as a `polars.DataFrame`. Raises MissingExtraError if Polars is not installed.

        Example:
            read("s3://my-bucket/lake", "shop.orders").polars().describe()
        """
        return self._read(LandedScopes.polars)

    def pandas(self) -> Any:
        """All records as a `pandas.DataFrame`. Raises MissingExtraError if pandas is not installed.

        Example:
            read("s3://my-bucket/lake", "shop.orders").pandas().head()
        """
        return self._read(LandedScopes.pandas)

    def duckdb(self, connection: Any = None) -> Any:
        """All records as a `duckdb.DuckDBPyRelation`. Raises MissingExtraError if DuckDB is not installed.

        Args:
            connection: The connection of the relation, so that it can be joined with others of that connection.
                Default: a connection of its own.

        Example:
            read("s3://my-bucket/lake", "shop.orders").duckdb().filter("total > 10").show()
        """
        return self._read(lambda landed: landed.duckdb(connection))

    def batches(self) -> pa.RecordBatchReader:
        """The records as a `pyarrow.RecordBatchReader` of batches of at most 10,000 records, which holds one object at
        a time in memory.

        Raises:
            ObjectNotFoundError, ObjectReplacedError: While batches are taken, if a sync has deleted or replaced an
                object since the first one. Read the stream again.

        Example:
            for batch in read("s3://my-bucket/lake", "shop.orders").batches():
                print(batch.num_rows)
        """
        return self._landed.reader()

    def _read(self, load: Callable[[LandedScopes], T]) -> T:
        looks = iter([self._landed])
        return read_whole(lambda: next(looks, None) or self._look(), load)

    def __repr__(self) -> str:
        items = [each.item for scope in self._landed.scopes.values() for each in scope.objects()]
        parts = [amount(len(self.partitions), "partition")] if self.partitions else []
        counted = all(item.is_counted for item in items) and self._landed.rows is None
        rows = [amount(sum(item.rows for item in items), "row")] if counted else []
        facts = ", ".join([*parts, amount(len(items), "object"), *rows])
        return f"<{self.stream}: {facts}; columns {', '.join(self.schema.names) or 'none'}>"


def _destination(path: str) -> S3Destination:
    """The destination at "s3://bucket/path". Its path format does not matter for what is read."""
    if not isinstance(path, str) or not path.startswith(_SCHEME):
        raise SettingsError(
            f"The path {path!r} is no address of a bucket. Write it as s3://my-bucket/lake: the bucket's name, and the "
            "s3_bucket_path of the destination.",
            setting="path",
        )
    bucket, _, bucket_path = path.removeprefix(_SCHEME).partition("/")
    return S3Destination(s3_bucket_name=bucket, s3_bucket_path=bucket_path.strip("/"))


def _find_stream(bucket: Bucket, destination: S3Destination, stream: str | StreamId) -> StreamId:
    """The stream that is meant, under its name in the bucket."""
    root = destination.template.literal_root
    meanings = [stream] if isinstance(stream, StreamId) else list(streams_shown_as(stream))
    has_landed = in_parallel(lambda each: any(bucket.list_directories(stream_root(root, each))), meanings)
    found = [each for each, landed in zip(meanings, has_landed, strict=True) if landed]
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingsError(
            f"{len(found)} streams are called {stream!r}. Give the one that is meant: "
            f"{' or '.join(repr(each) for each in found)}.",
            setting="stream",
        )
    raise _no_stream(bucket, destination, str(stream))


def _no_stream(bucket: Bucket, destination: S3Destination, name: str) -> ObjectNotFoundError:
    root = destination.template.literal_root
    here = _address(bucket, root)
    if known := names_of_streams(bucket, destination.template):
        hint = did_you_mean(name, map(str, known))
        return ObjectNotFoundError(f"No stream {name!r} has landed under {here}. {hint}", stream=name)
    if paths := paths_near(bucket, root):
        hint = f"Streams have landed under {', '.join(_address(bucket, each) for each in paths[:_MOST_NAMES])}."
    else:
        hint = "Objects of another program have no manifests; `s3dest adopt` takes over those of the Airbyte connector."
    return ObjectNotFoundError(
        f"No stream has landed under {here}. Give the s3_bucket_path of the destination, without its path format. "
        f"{hint}",
        stream=name,
        setting="path",
    )


def _address(bucket: Bucket, path: str) -> str:
    return bucket.uri(path).rstrip("/")


def _snapshots(
    bucket: Bucket, destination: S3Destination, stream: StreamId, selection: RecordSelection
) -> dict[str | None, ScopeSnapshot]:
    """The scopes of the stream that are selected and hold anything, by their partitions."""
    if selection.partitions is None:
        found = scopes_of_stream(bucket, stream_root(destination.template.literal_root, stream))
    else:
        found = _named_scopes(bucket, destination, stream, selection.partitions)
    read = in_parallel(_snapshot, found)
    landed = {each.commit_log.scope.partition: each for each in read if each.written_columns}
    missing = [each or None for each in selection.partitions or () if (each or None) not in landed]
    if missing and not selection.allow_missing:
        raise _not_landed(bucket, destination, stream, missing)
    if not landed and selection.partitions is None:
        raise ObjectNotFoundError(
            f"{stream} holds nothing: no record has landed yet, or what it held was retired or given to another name.",
            stream=str(stream),
        )
    if selection.partitions is None:
        _refuse_both(landed, stream)
    return landed


def _snapshot(found: FoundScope) -> ScopeSnapshot:
    return ScopeSnapshot(found.commit_log, found.seen, found.commit_log.visible_segments(found.seen.head))


def _named_scopes(
    bucket: Bucket, destination: S3Destination, stream: StreamId, partitions: Sequence[str]
) -> list[FoundScope]:
    scopes = [Scope(stream, key or None) for key in dict.fromkeys(partitions)]
    roots = [scope_root(destination.template.literal_root, scope) for scope in scopes]
    return [each for each in in_parallel(lambda root: scope_at(bucket, root), roots) if each is not None]


def _not_landed(
    bucket: Bucket, destination: S3Destination, stream: StreamId, missing: Sequence[str | None]
) -> ObjectNotFoundError:
    first = missing[0]
    what = "nothing without a partition" if first is None else f"no partition {first!r}"
    more = f" (and {len(missing) - 1:,} more that you name)" if len(missing) > 1 else ""
    scopes = scopes_of_stream(bucket, stream_root(destination.template.literal_root, stream))
    hint = did_you_mean(first or "", filter(None, (each.scope.partition for each in scopes)))
    return ObjectNotFoundError(
        f"{stream} has {what}{more}. {hint} Set allow_missing_partitions to leave out what has not landed.",
        stream=str(stream),
        partition=first,
        setting=PARTITIONS_KEY,
    )


def _refuse_both(landed: Mapping[str | None, ScopeSnapshot], stream: StreamId) -> None:
    """Raises SettingsError if records may be there twice: in partitions, and from before the stream had any."""
    if None in landed and len(landed) > 1 and any(landed[None].objects()):
        raise SettingsError(
            f"{stream} holds partitions, and also what landed before it had any, so that records may be there twice. "
            f'Name the partitions to read, or [""] for what has none. If nobody needs that, run '
            f'`s3dest retire {stream} --scope ""`.',
            stream=str(stream),
            setting=PARTITIONS_KEY,
        )
