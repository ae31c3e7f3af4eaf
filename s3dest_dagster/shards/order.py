"""An order: everything that a worker must know to stage a shard of one sync, as a small JSON value without secrets.

Must not know: how shards are staged or committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.record_json import record_from_json
from s3dest_dagster.commit.documents import segment_name
from s3dest_dagster.commit.object_lists import OBJECTS_OF_A_LIST
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.keys import scope_root, sync_digest, sync_mark
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards.order_settings import destination_from_json, stream_settings_from_json
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Generation, Scope, Stream, StreamId, Sync

ORDER_VERSION = 1
"""The version that is written. Another version of the library, on another machine, may have another one."""
_ID_DIGITS = 32
S3Access = Bucket | S3Connection | None
"""How a process reaches S3: an open bucket, a connection, or None for the machine's own identity.

A connection without an endpoint or region has those of the order, as None has.
"""


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """One sync that several workers stage. `begin` makes it; `stage`, `commit` and `abandon` take it.

    `to_json` and `from_json` carry it to other processes. Two orders of one sync and scope are the same order: their
    shards may be mixed.

    Example:
        order = Order.from_json(os.environ["ORDER"])
    """

    version: int = ORDER_VERSION
    """Version of this form. A worker refuses another one."""
    stream: str
    """The stream's name as in the source."""
    namespace: str | None = None
    """Its namespace. None if there is none."""
    partition: str | None = None
    """The partition's key. None for an unpartitioned stream."""
    dimensions: dict[str, str] | None = None
    """The key of each dimension of a multi-dimensional partition."""
    sync_mode: str
    """`full_refresh` or `append`."""
    json_schema: dict[str, Any]
    """The JSON schema of a record, which the driver declares."""
    settings: dict[str, Any] = {}
    """The settings of the stream."""
    destination: dict[str, Any]
    """The settings of the destination, without secrets."""
    endpoint: str = ""
    """URL of the S3 server. Empty: AWS."""
    region: str = ""
    """Region of the bucket. Empty: the region in the AWS configuration."""
    owner: str | None = None
    """Who lands the stream. None if nobody is named."""
    sync_id: str
    """Id of the sync."""
    now: datetime
    """When the sync began. It fills the time variables of the path."""
    uuid: str
    """Fills `${UUID}` in the path."""
    label: str = ""
    """Fills `{sync_id}` in the file name pattern."""
    columns: Any = None
    """The columns of the records, as the stream's registry has reserved them. None if the sync is complete."""
    fingerprint: str = ""
    """SHA-256 of the columns."""
    discarded: tuple[str, ...] = ()
    """The new fields that the schema contract discards."""
    hash_key_id: str | None = None
    """The id of the key with which fields are hashed. It does not reveal the key. None if none are."""
    head: str
    """A digest of what the scope held when the order was made."""
    generation: Generation | None = None
    """The generation of the sync. None if it has none."""
    complete: bool = False
    """Whether the sync was already complete, so that there is nothing to stage."""
    objects_of_a_list: int = OBJECTS_OF_A_LIST
    """The most objects that one document of the sync lists."""

    def to_json(self) -> str:
        """The order as JSON text. `from_json` gives an equal order."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Order:
        """The order of a JSON text.

        Raises:
            SettingsError: It is none, or another version of the library wrote it.
        """
        try:
            order = _DECODER.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"This is no order: {error}. Give the text that `begin` returned.") from None
        if order.version != ORDER_VERSION:
            raise SettingsError(
                f"The order has version {order.version}, and this library knows version {ORDER_VERSION}. Install the "
                "same version of s3dest-dagster on the driver and on all workers."
            )
        return order

    # ------------------------------------------------------------------ what follows from it

    @cached_property
    def id(self) -> str:
        """Names the sync and the scope. The metadata of all objects has it."""
        return segment_name(self.sync_id, sync_digest(self.landed_scope, self.sync_id)[:_ID_DIGITS])

    @cached_property
    def mark(self) -> str:
        """The part of every key that shows the order (see `keys.part_marks`)."""
        return sync_mark(self.landed_scope, self.sync_id)

    @property
    def scope(self) -> Scope:
        """The scope, with its stream's name as in the source."""
        return Scope(StreamId(self.namespace, self.stream), self.partition, self.dimensions)

    @property
    def landed_scope(self) -> Scope:
        """The scope, with its stream's name as it is in the bucket."""
        return self.scope.prefixed(str(self.destination.get("stream_prefix", "")))

    @property
    def sync(self) -> Sync:
        """The sync."""
        return Sync(self.sync_id, self.now, self.uuid, self.label)

    @property
    def record(self) -> Record:
        """The columns."""
        return record_from_json(self.columns)

    def to_stream(self) -> Stream:
        """The stream, as its source describes it."""
        settings, deselected = stream_settings_from_json(self.settings)
        return Stream(
            name=self.stream,
            namespace=self.namespace,
            json_schema=self.json_schema,
            sync_mode=self.sync_mode,  # type: ignore[arg-type]  # Stream also accepts the text
            settings=settings,
            deselected=deselected,  # type: ignore[arg-type]  # and the texts of paths
            generation=self.generation,
        )

    def to_destination(self, hash_key: str | None = None) -> S3Destination:
        """The destination. Its secret does not travel with the order."""
        return destination_from_json(self.destination, hash_key)

    def manifest_root(self, destination: S3Destination) -> str:
        """The prefix of the scope's manifests."""
        return scope_root(destination.template.literal_root, self.landed_scope)

    def open_bucket(self, s3: S3Access, destination: S3Destination) -> Bucket:
        """The bucket of the order.

        Raises:
            SettingsError: `s3` is another bucket.
        """
        if not isinstance(s3, Bucket):
            s3 = open_bucket((s3 or S3Connection()).with_location(self.endpoint, self.region), destination)
        if s3.name != destination.s3_bucket_name:
            raise SettingsError(
                f"The order lands in bucket {destination.s3_bucket_name!r}, and s3 is bucket {s3.name!r}. Give the "
                "order's bucket, or a connection.",
                setting="s3",
            )
        return s3.for_destination(destination)

    def error_location(self) -> Mapping[str, str | None]:
        """The keyword arguments of an error that say where it happened."""
        return {"stream": str(self.landed_scope.stream), "partition": self.partition}


_DECODER = msgspec.json.Decoder(Order)
