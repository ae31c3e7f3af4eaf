"""The catalog of a connector as the state of a component: discovered when Dagster refreshes it, read when it loads.

Must not know: where Dagster keeps the state, which streams are selected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import partition_values_of
from s3dest_dagster.dagster.config import look_up
from s3dest_dagster.sources import Source
from s3dest_dagster.sources.airbyte.catalog import read_catalog
from s3dest_dagster.sources.airbyte.connector import AirbyteSource


def is_discovered(source: Source) -> bool:
    """Whether the streams of the source are known only from its state: a connector without a catalog."""
    return isinstance(source, AirbyteSource) and source.catalog is None


def write_discovered(source: Source, partitions: Iterable[dg.PartitionsDefinition[Any] | None], path: Path) -> None:
    """Writes what the connector discovers, or nothing but braces for a source that has no catalog of its own.

    The file changes only as a whole, so that a connector that fails leaves the former catalog. The config is rendered
    for the last partition of the first partitions that there are, since a connector may refuse a config without dates.

    Raises:
        SourceError: The connector cannot discover its streams.
        SettingsError: The config names a partition, and there is none.
    """
    catalog: Any = {}
    if isinstance(source, AirbyteSource) and source.catalog is None:
        values = next(filter(None, map(_values_of_last, partitions)), None)
        catalog = source.with_variables(look_up).discover(config_values=values).raw
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(catalog, indent=1), "utf-8")
    os.replace(unfinished, path)


def with_discovered(source: Source, path: Path) -> Source:
    """The source with the catalog that `write_discovered` wrote."""
    assert isinstance(source, AirbyteSource), "only a connector is discovered"
    return replace(source, catalog=read_catalog(path))


def _values_of_last(partitions: dg.PartitionsDefinition[Any] | None) -> dict[str, str | int] | None:
    """The values of the placeholders in the last partition. None if there is no partition, or none is known yet."""
    if partitions is None or _is_dynamic(partitions):
        return None
    keys = partitions.get_partition_keys()
    return partition_values_of(partitions, keys[-1]) if keys else None


def _is_dynamic(partitions: dg.PartitionsDefinition[Any]) -> bool:
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return any(_is_dynamic(dimension.partitions_def) for dimension in partitions.partitions_defs)
    return isinstance(partitions, dg.DynamicPartitionsDefinition)
