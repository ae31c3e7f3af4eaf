"""Streams as YAML says them: by name, or with what is said of this one alone.

It must not know sources.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from dagster.components.utils.translation import TranslatorResolvingInfo
from pydantic import Field, TypeAdapter

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.orchestration.components.partitions import PartitionsModel, resolve_partitions
from s3dest_dagster.orchestration.components.yaml_values import NOWHERE, Place, as_said, rendered
from s3dest_dagster.stream import Stream

Translation = Callable[[dg.AssetSpec, Stream], dg.AssetSpec]
"""Changes the asset spec of a stream."""


class StreamModel(dg.Model):
    """One stream, with what is said of it alone."""

    name: str = Field(description="Name of the stream; with its namespace where that is needed, as public.users.")
    namespace: str | None = Field(default=None, description="Namespace, of files and functions.")
    sync_mode: Literal["full_refresh", "append"] | None = Field(default=None, description="As the component's.")
    json_schema: Mapping[str, Any] | str | None = Field(
        default=None, description="JSON schema of a record, or a file of it beside this one; of files and functions."
    )
    description: str | None = Field(default=None, description="What the stream is; of files and functions.")
    partitions_def: as_said(PartitionsModel | str | None) = Field(  # type: ignore[valid-type]
        default=None, description="Partitions of this stream; null for none."
    )
    io_manager_key: str | None = Field(default=None, description="IO manager of this stream.")
    translation: dg.AssetAttributesModel | None = Field(  # type: ignore[valid-type]  # made by Dagster
        default=None, description="Attributes of this stream's asset, over those of the component."
    )


StreamsModel = list[StreamModel | str]
_list: TypeAdapter[Any] = TypeAdapter(list[Mapping[str, Any] | str])
_model: TypeAdapter[Any] = TypeAdapter(StreamModel)


@dataclass(frozen=True)
class ComponentStream:
    """A stream of a component, with what is said of it alone; None where the component's holds.

    `unpartitioned` says that it has no partitions, whatever the component has.
    """

    name: str
    namespace: str | None = None
    sync_mode: str | None = None
    json_schema: Mapping[str, Any] | None = None
    description: str | None = None
    partitions_def: dg.PartitionsDefinition[Any] | None = None
    unpartitioned: bool = False
    io_manager_key: str | None = None
    translation: Translation | None = None
    place: Place = NOWHERE


def resolve_streams(context: dg.ResolutionContext, given: Any) -> Sequence[ComponentStream] | None:
    """The streams of a list in YAML; None where there is no list."""
    if given is None:
        return None
    entries = Place(context).validated(_list, given)
    return [_resolved(context.at_path(number), each) for number, each in enumerate(entries)]


def _resolved(context: dg.ResolutionContext, given: Any) -> ComponentStream:
    place = Place(context)
    if isinstance(given, str):
        return ComponentStream(rendered(context, given), place=place)
    model = place.validated(_model, given)
    plain = model.model_dump(exclude_unset=True, exclude={"partitions_def", "translation", "json_schema"})
    with place.told():
        return ComponentStream(
            **rendered(context, plain),
            json_schema=_json_schema(model.json_schema, place),
            partitions_def=resolve_partitions(context.at_path("partitions_def"), model.partitions_def),
            unpartitioned="partitions_def" in model.model_fields_set and model.partitions_def is None,
            translation=_translation(context, model.translation),
            place=place,
        )


def _json_schema(given: Mapping[str, Any] | str | None, place: Place) -> Mapping[str, Any] | None:
    if not isinstance(given, str):
        return given
    path = Path(place.path_of(given))
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
