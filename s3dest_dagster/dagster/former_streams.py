"""Says where an asset has landed before, if that was another stream, bucket path or bucket.

Dagster's event log knows it: the last materialization names its manifest, whose address contains all three. Must not:
send a request to S3.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.keys import decode_name, literal_root_of, manifest_root_in
from s3dest_dagster.printable import printable
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import StreamId

_SCHEME = "s3://"


class FormerStreams:
    """Finds where the assets of a step have landed before.

    Args:
        last_materialization: Returns the last materialization of an asset. None if there is none.
        log: Gets one warning for each asset that landed elsewhere.
    """

    def __init__(
        self, last_materialization: Callable[[dg.AssetKey], dg.AssetMaterialization | None], log: logging.Logger
    ) -> None:
        self._last_materialization = last_materialization
        self._log = log
        self._before: dict[dg.AssetKey, Mapping[str, Any]] = {}

    def left_elsewhere(self, key: dg.AssetKey, receipt: Receipt, bucket: Bucket) -> tuple[str, ...]:
        """The streams that may hold what the asset landed before, such as "crm.users under s3://lake/raw".

        What `s3dest transfer` gave to the stream is not among them.

        Args:
            key: The asset.
            receipt: What it has landed now.
            bucket: The bucket in which it lands now.
        """
        is_first = key not in self._before
        if is_first:
            last = self._last_materialization(key)
            self._before[key] = last.metadata if last is not None else {}
        found = (*_given_away(receipt, bucket), *_landed_before(receipt, self._before[key], bucket))
        locations = tuple(dict.fromkeys(found))
        if locations and is_first:
            self._log.warning(_warning(receipt.scope.stream, locations))
        return locations


def _warning(stream: StreamId, locations: tuple[str, ...]) -> str:
    """What stays visible from before, and the cure."""
    return printable(
        f"{stream}: what this asset has landed before as {', '.join(locations)} stays visible there, unless it was "
        "retired. If nobody needs it, run `s3dest retire` there. `s3dest transfer … --to-stream` gives it to another "
        "name under the same bucket path, as long as that name holds nothing."
    )


def _given_away(receipt: Receipt, bucket: Bucket) -> Iterator[str]:
    for each in receipt.left_elsewhere:
        yield _location(each.stream_id, bucket.uri(each.bucket_path))


def _landed_before(receipt: Receipt, before: Mapping[str, Any], bucket: Bucket) -> Iterator[str]:
    manifest = before.get("manifest")
    address = manifest.value if isinstance(manifest, dg.MetadataValue) else manifest
    if not isinstance(address, str) or (former := _stream_root(address)) is None:
        return
    if former in {_stream_root(receipt.manifest), *(bucket.uri(each.root) for each in receipt.former_names)}:
        return
    namespace, name = map(decode_name, former.split("/")[-3:-1])
    name_of_bucket, _, key = former.removeprefix(_SCHEME).partition("/")
    yield _location(StreamId(namespace, name or ""), f"{_SCHEME}{name_of_bucket}/{literal_root_of(key)}")


def _stream_root(address: str) -> str | None:
    """The address of the directory of a stream's manifests, from that of a manifest. None if it is no manifest's."""
    bucket, _, key = address.removeprefix(_SCHEME).partition("/")
    root = manifest_root_in(key)
    if not address.startswith(_SCHEME) or root is None:
        return None
    names = key.removeprefix(root).split("/")[:2]
    return f"{_SCHEME}{bucket}/{root}{'/'.join(names)}/" if len(names) == 2 else None


def _location(stream: StreamId, path: str) -> str:
    return f"{stream} under {path.rstrip('/')}"
