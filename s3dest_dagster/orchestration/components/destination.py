"""Where a component's streams land, as YAML says it: a connector's configuration, in place or in its own file.

It must not know streams.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

import dagster as dg
from pydantic import WithJsonSchema

from s3dest_dagster.connector_spec import connector_spec
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.orchestration.components.yaml_values import Place, rendered
from s3dest_dagster.orchestration.io_manager import S3DestinationIOManager

_LEFT_OUT: Mapping[str, Any] = {"s3_bucket_path": "", "s3_bucket_region": "", "format": {"format_type": "JSONL"}}
"""What may be left out in YAML, and is required in a connector's file."""
_TEMPLATE = {"type": "string", "pattern": r"\{\{"}


def _or_template(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a setting, which a template may give as well."""
    told = {name: schema[name] for name in ("title", "description") if name in schema}
    if schema.get("type") == "object" and "properties" in schema:
        return {**schema, "properties": {name: _or_template(each) for name, each in schema["properties"].items()}}
    return {**told, "anyOf": [schema, _TEMPLATE]}


_SETTINGS: dict[str, Any] = connector_spec()["connectionSpecification"]["properties"]
DestinationModel = Annotated[
    Mapping[str, Any],
    WithJsonSchema(
        {"type": "object", "properties": {name: _or_template(each) for name, each in _SETTINGS.items()}},
    ),
]


def resolve_destination(context: dg.ResolutionContext, given: Any) -> S3DestinationIOManager:
    """The IO manager of a connector's configuration, or of the file of it that a text names."""
    if isinstance(given, S3DestinationIOManager):
        return given
    place = Place(context)
    with place.told():
        if isinstance(given, str):
            return S3DestinationIOManager.from_connector_config(place.path_of(given))
        config = rendered(context, given)
        _refuse_misspelled(config)
        return S3DestinationIOManager.from_connector_config({**_LEFT_OUT, **config})


def _refuse_misspelled(config: Mapping[str, Any]) -> None:
    """Other keys than ours may come with a configuration that was pasted; those that nearly are ours do not."""
    for key in config.keys() - _SETTINGS.keys():
        if close := difflib.get_close_matches(key, _SETTINGS, n=1, cutoff=0.8):
            raise SettingsError(f"The destination has no {key!r}. Did you mean {close[0]!r}?", setting=key)
