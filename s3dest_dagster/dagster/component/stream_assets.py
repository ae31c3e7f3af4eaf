"""The assets of a component's streams, and the checks of what they land.

Must not know: YAML, or which streams are selected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import dagster as dg

from s3dest_dagster.dagster.assets import AssetBody
from s3dest_dagster.dagster.checks import LandingChecks, checks_of_asset
from s3dest_dagster.dagster.component.steps import StepSettings
from s3dest_dagster.dagster.component.stream_selection import SelectedStream
from s3dest_dagster.dagster.component.streams import ComponentStream
from s3dest_dagster.dagster.lineage import SourceAssets
from s3dest_dagster.dagster.multi_asset import build_multi_asset
from s3dest_dagster.dagster.source_assets import build_source_asset
from s3dest_dagster.dagster.translator import S3DestinationTranslator, check_distinct
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources import Source
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.stream import Stream, StreamId


class StreamAsset(NamedTuple):
    """A stream, and the definition that has its asset."""

    own: ComponentStream
    stream: Stream
    key: dg.AssetKey
    definition: dg.AssetsDefinition


@dataclass(frozen=True)
class StreamAssets:
    """What all streams of a component have in common. The settings of a stream replace those that are here."""

    source: Source
    get_asset_spec: Callable[[Stream], dg.AssetSpec]
    io_manager_key: str
    partitions_def: dg.PartitionsDefinition[Any] | None
    step: StepSettings
    checks: LandingChecks | None
    as_one_run: bool | str
    """Whether one step lands all streams; a text names it."""
    source_assets: bool | str
    body: AssetBody | None
    """What each step does; None: it only lands."""

    def build(self, selected: Sequence[SelectedStream]) -> list[StreamAsset]:
        """The assets of the streams. Raises SettingsError, with the line of a stream that is wrong."""
        specs = {stream.id: self._spec(own, stream) for own, stream in selected}
        _check_distinct(selected, specs)
        if self.as_one_run and selected:
            definitions = dict.fromkeys(specs, self._one_step(selected, specs))
        else:
            definitions = {stream.id: self._step(own, stream, specs) for own, stream in selected}
        return [StreamAsset(own, stream, specs[stream.id].key, definitions[stream.id]) for own, stream in selected]

    def upstream(self, selected: Sequence[SelectedStream]) -> list[dg.AssetsDefinition]:
        """The external assets of the streams as they are in the source."""
        sources = self._source_assets()
        return [sources.definition([stream for _, stream in selected])] if sources and selected else []

    def checks_of(self, assets: Sequence[StreamAsset]) -> list[dg.AssetChecksDefinition]:
        """The checks of what the assets have landed."""
        wanted = [(asset, asset.own.checks or self.checks) for asset in assets]
        return [
            checks_of_asset(asset.definition, asset.key, checks)
            for asset, checks in wanted
            if checks is not None and checks.severities
        ]

    def _step(
        self, own: ComponentStream, stream: Stream, specs: Mapping[StreamId, dg.AssetSpec]
    ) -> dg.AssetsDefinition:
        partitions = self._partitions(own, specs[stream.id])
        settings = own.step.over(self.step).of_asset(own.io_manager_key or self.io_manager_key)
        with own.position.located():
            return build_source_asset(self.source, stream, _KnownSpecs(specs), partitions, settings, self.body)

    def _one_step(
        self, selected: Sequence[SelectedStream], specs: Mapping[StreamId, dg.AssetSpec]
    ) -> dg.AssetsDefinition:
        multi_stream = self.source.as_multi_stream()
        if multi_stream is None:
            raise SettingsError(
                "as_one_run is for connectors, which can be asked for several streams at once.", setting="as_one_run"
            )
        steps = [
            (
                self._partitions(own, specs[stream.id]),
                own.step.over(self.step).of_asset(own.io_manager_key or self.io_manager_key),
            )
            for own, stream in selected
        ]
        for (own, stream), its_step in zip(selected, steps, strict=True):
            if its_step != steps[0]:
                with own.position.located():
                    raise SettingsError(
                        "One run of a connector is one step, with one partition, one IO manager, and one set of "
                        f"retries, pools, tags and hooks. {stream.id} has others than {selected[0][1].id}. Give it "
                        "the same, or a component of its own.",
                        stream=str(stream.id),
                    )
        partitions, settings = steps[0]
        name = self.as_one_run if isinstance(self.as_one_run, str) else None
        streams = [stream for _, stream in selected]
        return build_multi_asset(multi_stream, streams, _KnownSpecs(specs), partitions, settings, name, self.body)

    def _spec(self, own: ComponentStream, stream: Stream) -> dg.AssetSpec:
        with own.position.located():
            spec = self.get_asset_spec(stream)
            spec = own.translation(spec, stream) if own.translation else spec
            if (upstream := self._source_assets()) is not None:
                spec = upstream.upstream_of(spec, stream)
            return spec.merge_attributes(metadata=own.position.code_reference(f"stream {stream.id}"))

    def _partitions(self, own: ComponentStream, spec: dg.AssetSpec) -> dg.PartitionsDefinition[Any] | None:
        return spec.partitions_def or (None if own.unpartitioned else own.partitions_def or self.partitions_def)

    def _source_assets(self) -> SourceAssets | None:
        if not self.source_assets:
            return None
        if not isinstance(self.source, AirbyteSource):
            raise SettingsError(
                "source_assets is for connectors, and this source is none. Leave it out.", setting="source_assets"
            )
        return SourceAssets(self.source, self.source_assets)


class _KnownSpecs(S3DestinationTranslator):
    """A translator that returns given specs."""

    def __init__(self, specs: Mapping[StreamId, dg.AssetSpec]) -> None:
        super().__init__()
        self._specs = specs

    def get_asset_spec(self, stream: Stream) -> dg.AssetSpec:
        return self._specs[stream.id]


def _check_distinct(selected: Sequence[SelectedStream], specs: Mapping[StreamId, dg.AssetSpec]) -> None:
    try:
        check_distinct((stream, specs[stream.id].key) for _, stream in selected)
    except SettingsError as error:
        position = [own.position for own, stream in selected if str(stream.id) == error.stream][-1]
        with position.located():
            raise
