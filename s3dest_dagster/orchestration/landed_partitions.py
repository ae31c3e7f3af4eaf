"""Partitions that landed in a step that fails later, as materializations of their own.

Dagster reports nothing of a step that fails, though these partitions are published. It must not know how they landed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from s3dest_dagster.orchestration.versions import DATA_VERSION_TAG


@dataclass(frozen=True, slots=True)
class LandedPartition:
    """One partition that a step has published, with the metadata and the data version of its materialization."""

    key: dg.AssetKey
    partition: str
    metadata: Mapping[str, Any]
    version: str


def report_landed(
    landed: Iterable[LandedPartition],
    partitions: dg.PartitionsDefinition[Any] | None,
    log_event: Callable[[dg.AssetMaterialization], None],
) -> None:
    """Reports each partition as materialized."""
    for each in landed:
        log_event(
            dg.AssetMaterialization(
                asset_key=each.key,
                partition=_key(partitions, each.partition),
                metadata=each.metadata,
                tags={DATA_VERSION_TAG: each.version},
            )
        )


def _key(partitions: dg.PartitionsDefinition[Any] | None, partition: str) -> str:
    """The key as Dagster knows it: one of several dimensions carries them."""
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return partitions.get_partition_key_from_str(partition)
    return partition
