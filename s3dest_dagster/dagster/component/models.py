"""The YAML models of a component's destination and partitions.

Must not know: streams.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Union

import dagster as dg
from dagster.components.resolved.core_models import (
    DailyPartitionsDefinitionModel,
    HourlyPartitionsDefinitionModel,
    StaticPartitionsDefinitionModel,
    TimeWindowPartitionsDefinitionModel,
    WeeklyPartitionsDefinitionModel,
)
from pydantic import Field, TypeAdapter, WithJsonSchema

from s3dest_dagster.dagster.component.yaml_values import SourcePosition, by_kind, render
from s3dest_dagster.dagster.config import holds_variable
from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.settings.config_schema import PASTED_KEYS, config_schema
from s3dest_dagster.settings.connector_config import OWN_SETTINGS_KEY, options_of_format, parse_format

# ---------------------------------------------------------------------- partitions
# Dagster's own models are the base. They lack `end_offset`, texts, and the kinds monthly, dynamic and multi.


class _TimePartitionsModel(dg.Model):
    start_date: str = Field(description="Where the first partition begins, as 2026-01-31 (hourly: 2026-01-31-00:00).")
    end_date: str | None = Field(default=None, description="Where the last partition ends; open by default.")
    timezone: str | None = Field(default=None, description="As Europe/Berlin; UTC by default.")
    end_offset: int = Field(default=0, description="Partitions that exist before they are over: 1 is the current one.")


class HourlyPartitionsModel(_TimePartitionsModel, HourlyPartitionsDefinitionModel):
    """A partition for each hour."""


class DailyPartitionsModel(_TimePartitionsModel, DailyPartitionsDefinitionModel):
    """A partition for each day."""


class WeeklyPartitionsModel(_TimePartitionsModel, WeeklyPartitionsDefinitionModel):
    """A partition for each week."""

    day_offset: int = Field(default=0, description="Day on which a week begins; 0 is Sunday.")


class MonthlyPartitionsModel(_TimePartitionsModel):
    """A partition for each month."""

    type: Literal["monthly"]
    minute_offset: int = 0
    hour_offset: int = 0
    day_offset: int = Field(default=1, description="Day on which a month begins; 1 is the first.")


class TimeWindowPartitionsModel(_TimePartitionsModel, TimeWindowPartitionsDefinitionModel):
    """A partition between every two ticks of a cron schedule."""

    cron_schedule: str = Field(description="As 0 0 * * 1-5.")
    fmt: str = Field(description="How keys and dates are written, as %Y-%m-%d.")


class DynamicPartitionsModel(dg.Model):
    """Partitions that are added while Dagster runs, by a sensor for instance."""

    type: Literal["dynamic"]
    name: str = Field(description="Name under which Dagster keeps their keys.")


class MultiPartitionsModel(dg.Model):
    """A partition for each pair of partitions of two dimensions."""

    type: Literal["multi"]
    dimensions: Mapping[str, "PartitionsModel"] = Field(description="Two partitions, by the names of the dimensions.")


PartitionsModel = Annotated[
    Union[  # noqa: UP007  # of a forward reference
        HourlyPartitionsModel,
        DailyPartitionsModel,
        WeeklyPartitionsModel,
        MonthlyPartitionsModel,
        TimeWindowPartitionsModel,
        StaticPartitionsDefinitionModel,
        DynamicPartitionsModel,
        MultiPartitionsModel,
    ],
    Field(discriminator="type"),
]
MultiPartitionsModel.model_rebuild()
_partitions_adapter: TypeAdapter[Any] = TypeAdapter(PartitionsModel)

_PARTITIONS: dict[str, Any] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
    "time_window": lambda start_date, end_date, **options: dg.TimeWindowPartitionsDefinition(
        start=start_date, end=end_date, **options
    ),
    "static": dg.StaticPartitionsDefinition,
    "dynamic": dg.DynamicPartitionsDefinition,
    "multi": lambda dimensions: dg.MultiPartitionsDefinition(
        {name: _partitions_of(dimension) for name, dimension in dimensions.items()}
    ),
}


def resolve_partitions(context: dg.ResolutionContext, given: Any) -> dg.PartitionsDefinition[Any] | None:
    """The partitions that YAML describes, or that a template returns. Null means none."""
    if isinstance(given, str):
        given = context.resolve_value(given)
    if given is None or isinstance(given, dg.PartitionsDefinition):
        return given
    position = SourcePosition(context)
    model = position.validated(_partitions_adapter, given)
    with position.located():
        try:
            return _partitions_of(model)
        except (ValueError, dg.DagsterError) as error:
            raise SettingsError(f"Dagster has no such partitions: {error}") from error


def _partitions_of(model: Any) -> dg.PartitionsDefinition[Any]:
    options = {name: getattr(model, name) for name in type(model).model_fields if name != "type"}
    partitions: dg.PartitionsDefinition[Any] = _PARTITIONS[model.type](**options)
    return partitions


# ---------------------------------------------------------------------- the destination

_DEFAULTS: Mapping[str, Any] = {"s3_bucket_path": "", "s3_bucket_region": "", "format": {"format_type": "JSONL"}}
"""Settings that are optional in YAML but required in a connector's file."""
_TEMPLATE = {"type": "string", "pattern": r"\{\{"}


def _or_template(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a setting that may also be a template."""
    if schema.get("type") == "object" and "properties" in schema:
        return {**schema, "properties": {name: _or_template(inner) for name, inner in schema["properties"].items()}}
    return {**_texts_of(schema), "if": _TEMPLATE, "else": schema}


def _format_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the format: only its name, or an object with its options."""
    names = [str(form["properties"]["format_type"]["enum"][0]) for form in schema["oneOf"]]
    options = by_kind({"oneOf": [{"type": "object", **form} for form in schema["oneOf"]]}, "format_type")
    # Any text is accepted, since a name may be in any case; the settings refuse an unknown one.
    return {**_texts_of(schema), "if": {"type": "string"}, "then": {"examples": names}, "else": options}


def _texts_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: schema[name] for name in ("title", "description") if name in schema}


_SETTINGS: dict[str, Any] = config_schema()["properties"]
DestinationModel = Annotated[
    Mapping[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {name: _or_template(schema) for name, schema in _SETTINGS.items()}
            | {"format": _format_schema(_SETTINGS["format"])},
            "required": ["s3_bucket_name"],
            "additionalProperties": False,
        },
    ),
]


def resolve_destination(context: dg.ResolutionContext, given: Any) -> S3DestinationIOManager:
    """The IO manager for a connector's configuration, which is in YAML or in a file that a text names."""
    if isinstance(given, S3DestinationIOManager):
        return given
    position = SourcePosition(context)
    with position.located():
        if isinstance(given, str):
            return S3DestinationIOManager.from_connector_config(position.path_of(given))
        if not isinstance(given, Mapping):
            raise SettingsError(
                f"A destination is an object of settings, or the path of a file of them. This is {given!r}."
            )
        config = render(context, given)
        with _own_settings_located(config):
            _refuse_unknown(config)
            if config.get("s3_bucket_name") is None:
                raise SettingsError("The destination needs s3_bucket_name, the bucket to land in.")
            return S3DestinationIOManager.from_connector_config({**_DEFAULTS, **config})


@contextmanager
def _own_settings_located(config: Mapping[str, Any]) -> Iterator[None]:
    """Makes errors name a setting of the library by its path in the configuration."""
    try:
        yield
    except SettingsError as error:
        own = config.get(OWN_SETTINGS_KEY)
        if isinstance(own, Mapping) and error.setting in own:
            error.setting = f"{OWN_SETTINGS_KEY}.{error.setting}"
        raise


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    """Raises SettingsError for an unknown key, unless it is one that pasted configurations contain."""
    for key in config.keys() - _SETTINGS.keys() - PASTED_KEYS:
        raise SettingsError(f"The destination has no {key!r}. {did_you_mean(key, _SETTINGS)}", setting=key)
    if config.get("format") is None or holds_variable(config["format"]):
        return
    form = {"format_type": config["format"]} if isinstance(config["format"], str) else config["format"]
    settings, ignored = parse_format(form)
    for path in ignored:
        name, known = path.rpartition(".")[2], options_of_format(type(settings))
        raise SettingsError(f"{form['format_type']} has no {path!r}. {did_you_mean(name, known)}", setting=path)
