"""Streams in YAML: what is set for one stream of a component, or for all streams that a pattern matches.

Must not know: sources, or which streams are selected.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from dagster.components.utils.translation import TranslatorResolvingInfo
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster.checks import LandingChecks
from s3dest_dagster.dagster.component.landing_checks import ChecksModel, resolve_checks
from s3dest_dagster.dagster.component.models import PartitionsModel, resolve_partitions
from s3dest_dagster.dagster.component.steps import (
    NO_SETTINGS,
    BackfillPolicyModel,
    HooksModel,
    RetryPolicyModel,
    StepSettings,
    resolve_backfill,
    resolve_hooks,
    resolve_retry,
)
from s3dest_dagster.dagster.component.yaml_values import NOWHERE, SourcePosition, as_given, render
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import about
from s3dest_dagster.settings.stream_settings import STREAM_SETTINGS, FieldSelection, OnDeselected, StreamSettings
from s3dest_dagster.sources import RequestedStream
from s3dest_dagster.stream import Stream

Translation = Callable[[dg.AssetSpec, Stream], dg.AssetSpec]
"""Changes the asset spec of a stream."""


def _setting_field(settings: type, name: str) -> Any:
    """An optional field of a model, with the text of the setting."""
    field = next(each for each in fields(settings) if each.name == name)
    return Field(default=None, description=about(field).description)


_PathsModel = list[str | list[str]]
"""The paths of fields: dotted names, or lists of names."""


class FieldsModel(dg.Model):
    """Which fields of a stream leave the source."""

    include: _PathsModel | None = _setting_field(FieldSelection, "include")
    exclude: _PathsModel | None = _setting_field(FieldSelection, "exclude")
    hash: _PathsModel | None = _setting_field(FieldSelection, "hash")
    mask: _PathsModel | None = _setting_field(FieldSelection, "mask")


class StreamModel(dg.Model):
    """One stream, with its own settings."""

    name: str = Field(
        description="Name of the stream; with its namespace where that is needed, as public.users. Or a pattern of "
        "names with * and ?, for streams that the source lists.",
        examples=["users", "public.*"],
    )
    exclude: bool | None = Field(default=None, description="Whether these streams are left out.")
    namespace: str | None = Field(default=None, description="Namespace, of files and functions.")
    sync_mode: Literal["full_refresh", "append"] | None = Field(default=None, description="By default the component's.")
    json_schema: Mapping[str, Any] | str | None = Field(
        default=None, description="JSON schema of a record, or a file with it next to this one; of files and functions."
    )
    description: str | None = Field(default=None, description="What the stream is; of files and functions.")
    partitions_def: as_given(PartitionsModel | str | None) = Field(  # type: ignore[valid-type]
        default=None, description="Partitions of this stream; null for none."
    )
    io_manager_key: str | None = Field(default=None, description="IO manager of this stream.")
    retry_policy: as_given(RetryPolicyModel | str | None) = Field(  # type: ignore[valid-type]
        default=None, description="How often its sync is tried again."
    )
    backfill_policy: as_given(BackfillPolicyModel | str | None) = Field(  # type: ignore[valid-type]
        default=None, description="Whether a backfill of it has one run or several."
    )
    pool: str | None = Field(default=None, description="Pool of its step.")
    op_tags: Mapping[str, Any] | None = Field(default=None, description="Tags of its step.")
    hooks: as_given(HooksModel | None) = Field(  # type: ignore[valid-type]
        default=None, description="Hooks of its step, as package.module.name."
    )
    checks: as_given(ChecksModel | None) = Field(  # type: ignore[valid-type]
        default=None, description="Checks of what it has landed; an empty list for none."
    )
    translation: dg.AssetAttributesModel | None = Field(  # type: ignore[valid-type]  # Dagster builds it
        default=None, description="Attributes of this stream's asset, over those of the component."
    )

    owner: str | None = _setting_field(StreamSettings, "owner")
    rename: Mapping[str, str] | None = _setting_field(StreamSettings, "rename")
    fields: as_given(FieldsModel | None) = _setting_field(StreamSettings, "fields")  # type: ignore[valid-type]
    deselected_fields: OnDeselected | None = _setting_field(StreamSettings, "deselected_fields")
    schema_contract: Mapping[str, str] | str | None = _setting_field(StreamSettings, "schema_contract")
    partition_by: list[str | list[str] | Mapping[str, Any]] | None = _setting_field(StreamSettings, "partition_by")
    expire_partitions_after: int | None = _setting_field(StreamSettings, "expire_partitions_after")


StreamsModel = list[StreamModel | str]
_streams_adapter: TypeAdapter[Any] = TypeAdapter(list[Mapping[str, Any] | str])
_stream_adapter: TypeAdapter[Any] = TypeAdapter(StreamModel)
_RESOLVED = frozenset(
    {"partitions_def", "translation", "json_schema", "retry_policy", "backfill_policy", "hooks", "checks"}
)
"""The settings that are not only rendered."""


@dataclass(frozen=True)
class ComponentStream(RequestedStream):
    """A stream of a component, or a pattern of streams, with what is set for them. None leaves a setting to the
    component."""

    exclude: bool = False
    """Whether the streams are left out."""
    partitions_def: dg.PartitionsDefinition[Any] | None = None
    unpartitioned: bool = False
    """Whether the stream has no partitions even if the component has."""
    io_manager_key: str | None = None
    step: StepSettings = NO_SETTINGS
    checks: LandingChecks | None = None
    translation: Translation | None = None
    stated: frozenset[str] = frozenset()
    """The names of the `settings` that are stated. Those of a less specific entry do not replace them."""
    position: SourcePosition = NOWHERE

    def __post_init__(self) -> None:
        defaults = StreamSettings()
        differing = {name for name in STREAM_SETTINGS if getattr(self.settings, name) != getattr(defaults, name)}
        object.__setattr__(self, "stated", self.stated | differing)


def stream_entry(text: str) -> ComponentStream:
    """The entry of a text: a name, a pattern, or either after a `!`, which leaves the streams out."""
    return ComponentStream(text.removeprefix("!"), exclude=text.startswith("!"))


def resolve_streams(context: dg.ResolutionContext, given: Any) -> Sequence[ComponentStream] | None:
    """The streams of a list in YAML. None without a list."""
    if given is None:
        return None
    entries = SourcePosition(context).validated(_streams_adapter, given)
    return [_resolve_stream(context.at_path(number), entry) for number, entry in enumerate(entries)]


def _resolve_stream(context: dg.ResolutionContext, given: Any) -> ComponentStream:
    position = SourcePosition(context)
    if isinstance(given, str):
        return replace(stream_entry(render(context, given)), position=position)
    model = position.validated(_stream_adapter, given)
    given = model.model_dump(exclude_unset=True, exclude=set(_RESOLVED))
    with position.located():
        rendered = render(context, given)
        stated = {name: rendered.pop(name) for name in STREAM_SETTINGS if name in rendered}
        step = {name: rendered.pop(name) for name in ("pool", "op_tags") if name in rendered}
        return ComponentStream(
            **rendered,
            settings=StreamSettings(**{name: value for name, value in stated.items() if value is not None}),
            stated=frozenset(stated),
            json_schema=_read_schema(model.json_schema, position),
            partitions_def=resolve_partitions(context.at_path("partitions_def"), model.partitions_def),
            unpartitioned="partitions_def" in model.model_fields_set and model.partitions_def is None,
            step=StepSettings(
                **step,
                retry_policy=resolve_retry(context.at_path("retry_policy"), model.retry_policy),
                backfill_policy=resolve_backfill(context.at_path("backfill_policy"), model.backfill_policy),
                hooks=resolve_hooks(context.at_path("hooks"), model.hooks),
            ),
            checks=resolve_checks(context.at_path("checks"), model.checks),
            translation=_translation(context, model.translation),
            position=position,
        )


def _read_schema(given: Mapping[str, Any] | str | None, position: SourcePosition) -> Mapping[str, Any] | None:
    if not isinstance(given, str):
        return given
    path = Path(position.path_of(given))
    try:
        schema: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"The JSON schema {path} cannot be read: {error}.", setting="json_schema") from None
    return schema


def _translation(context: dg.ResolutionContext, model: Any) -> Translation | None:
    if model is None:
        return None
    info = TranslatorResolvingInfo(asset_attributes=model, resolution_context=context, model_key="translation")
    return lambda spec, stream: info.get_asset_spec(spec, {"stream": stream, "spec": spec})
