"""Where an asset comes from: the assets of a connector's streams, the lineage of its columns, the lines of its code.

Must not know: how records are read or landed.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.dagster.metadata import column_schema
from s3dest_dagster.dagster.translator import S3DestinationTranslator, asset_name, check_distinct
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.stream import Stream

SOURCE_ASSET_KEY = "s3dest/source_asset"
"""The entry of an asset's metadata that names the asset of the source's stream."""
CODE_REFERENCES_KEY = "dagster/code_references"


# ---------------------------------------------------------------------- the assets of a connector's streams


class SourceAssets:
    """The streams of a connector, as they are in the source, as external assets.

    Their key is the prefix, the stream's namespace and its name. They are shown upstream of what lands; nothing
    materializes them.

    Args:
        source: The connector.
        setting: A text is the prefix of the keys, with "/" between its parts. True: the name of the connector.

    Raises:
        SettingsError: The prefix is empty.
    """

    def __init__(self, source: AirbyteSource, setting: str | bool) -> None:
        prefix = setting if isinstance(setting, str) else source.name
        self._prefix = [asset_name(part) for part in prefix.split("/")]
        self._source = source
        if not all(self._prefix):
            raise SettingsError(
                f"source_assets is {setting!r}. Give the prefix of the keys of the source's assets, or true for "
                f"{asset_name(source.name)!r}.",
                setting="source_assets",
            )

    def key(self, stream: Stream) -> dg.AssetKey:
        """The key of the asset of a source's stream."""
        parts = (stream.namespace, stream.name)
        return dg.AssetKey([*self._prefix, *(asset_name(part) for part in parts if part)])

    def upstream_of(self, spec: dg.AssetSpec, stream: Stream) -> dg.AssetSpec:
        """The spec of what lands, with the asset of the source's stream as a dependency."""
        key = self.key(stream)
        return spec.merge_attributes(deps=[key], metadata={SOURCE_ASSET_KEY: dg.MetadataValue.asset(key)})

    def definition(self, streams: Sequence[Stream]) -> dg.AssetsDefinition:
        """The external assets of these streams, with the columns that the source declares.

        Raises SettingsError if two of them would be the same asset.
        """
        check_distinct((stream, self.key(stream)) for stream in streams)
        return dg.AssetsDefinition(specs=[self._spec(stream) for stream in streams])

    def _spec(self, stream: Stream) -> dg.AssetSpec:
        columns = column_schema(stream)
        return dg.AssetSpec(
            key=self.key(stream),
            description=f"Stream {str(stream.id)!r} in the source {self._source.name}.",
            kinds=set(self._source.asset_kinds),
            metadata={"dagster/column_schema": columns} if columns is not None else {},
        )


class WithSourceAssets(S3DestinationTranslator):
    """A translator whose assets depend on the assets of the source's streams."""

    def __init__(self, translator: S3DestinationTranslator, assets: SourceAssets) -> None:
        super().__init__(translator.format)
        self._translator = translator
        self._assets = assets

    def get_asset_spec(self, stream: Stream) -> dg.AssetSpec:
        return self._assets.upstream_of(self._translator.get_asset_spec(stream), stream)


# ---------------------------------------------------------------------- columns


def column_lineage(record: Record | None, definition: Mapping[str, Any]) -> dict[str, Any]:
    """The source's field of each landed column, as Dagster's standard metadata.

    Every column has one field, renamed, hashed or masked ones too. Empty if the columns or the asset of the source's
    stream are unknown.

    Args:
        record: The columns that landed.
        definition: The metadata of the asset's definition.
    """
    source = definition.get(SOURCE_ASSET_KEY)
    if record is None or not isinstance(source, dg.DagsterAssetMetadataValue):
        return {}
    deps = {
        field.name: [dg.TableColumnDep(asset_key=source.asset_key, column_name=field.source)] for field in record.fields
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps)}


# ---------------------------------------------------------------------- code


def code_of_function(function: Callable[..., Any]) -> dict[str, Any]:
    """The line where a function is defined, as Dagster's standard metadata. Empty if there is no source file."""
    function = inspect.unwrap(function)
    try:
        path = inspect.getsourcefile(function)
        _, line = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return {}
    return code_reference(path, line) if path is not None else {}


def code_reference(path: str, line: int, label: str | None = None) -> dict[str, Any]:
    """A line of a file, as Dagster's standard metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=path, line_number=line, label=label)
        return {CODE_REFERENCES_KEY: dg.CodeReferencesMetadataValue(code_references=[reference])}
