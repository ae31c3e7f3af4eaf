"""The values that pass between the steps of a sharded asset: orders and receipts, as small objects in the bucket.

So that a step can run on another machine than the one before it, without a disk that both share. A sweep deletes them
once the uploads that they speak of would be abandoned, too. Must not know: what the steps do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import msgspec

from s3dest_dagster.commit.documents import STEP_VALUES
from s3dest_dagster.errors import CommitError
from s3dest_dagster.keys import encode_name
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards import Order, ShardReceipt
from s3dest_dagster.shards.receipts import ShardId
from s3dest_dagster.storage import Bucket


class ShardTask(msgspec.Struct, frozen=True, tag="task"):
    """What one step stages."""

    order: Order
    """The order."""
    shard: ShardId
    """The shard, as the asset's function gets it."""


class ShardPlan(msgspec.Struct, frozen=True, tag="plan"):
    """What all steps stage together."""

    order: Order
    """The order."""
    shards: tuple[ShardId, ...]
    """All shards."""


class StagedReceipt(msgspec.Struct, frozen=True, tag="receipt"):
    """What one step has staged."""

    receipt: ShardReceipt
    """The receipt of the shard."""


StepValue = ShardTask | ShardPlan | StagedReceipt
_DECODER = msgspec.json.Decoder(StepValue)


@dataclass(frozen=True, slots=True)
class StagedShards:
    """What a sharded asset returns: its IO manager commits it."""

    plan: ShardPlan
    """The order, and all shards."""
    receipts: Sequence[ShardReceipt]
    """What was staged."""


def keep_step_value(context: dg.OutputContext, value: StepValue, destination: S3Destination, bucket: Bucket) -> None:
    """Puts a value where the next steps find it, also those of a run that is re-executed from failure."""
    bucket.for_destination(destination).put(_key(context, destination), msgspec.json.encode(value))


def load_step_value(context: dg.InputContext, destination: S3Destination, bucket: Bucket) -> Any:
    """The value that the step before has put. None if there is none, since an op can return nothing else.

    Raises:
        CommitError: It should be there, and is not.
    """
    upstream = context.upstream_output
    if upstream is None or not upstream.op_def.tags.get(STEP_VALUE_TAG):
        return None
    key = _key(upstream, destination)
    found = bucket.for_destination(destination).get(key)
    if found is None:
        raise CommitError(
            f"{bucket.uri(key)} is gone, which an earlier step of this run, or of the one before it, has left for this "
            "one. Execute the run as a whole.",
            key=key,
        )
    return _DECODER.decode(found[0])


STEP_VALUE_TAG = "s3dest/passes_values"
"""The tag of the ops whose outputs are such values."""


def _key(context: dg.OutputContext, destination: S3Destination) -> str:
    parts = "/".join(map(encode_name, context.get_identifier()))
    return f"{destination.template.manifest_root}{STEP_VALUES}{parts}.json"
