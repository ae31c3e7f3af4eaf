"""Partitions as YAML says them: every kind that Dagster has, told apart by `type`.

It must not know streams.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Union

import dagster as dg
from pydantic import Field, TypeAdapter, WithJsonSchema

from s3dest_dagster.dagster.component.yaml_values import Place, by_kind, rendered
from s3dest_dagster.dagster.config import holds_variable
from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.settings.connector_config import OWN_SETTINGS_KEY, parse_format
from s3dest_dagster.settings.connector_spec import connector_spec


class _TimePartitionsModel(dg.Model):
    start_date: str = Field(description="Where the first partition begins, as 2026-01-31 (hourly: 2026-01-31-00:00).")
    end_date: str | None = Field(default=None, description="Where the last partition ends; open when left out.")
    timezone: str | None = Field(default=None, description="As Europe/Berlin; UTC when left out.")
    end_offset: int = Field(default=0, description="Partitions that are there before they are over: 1 is the current.")


class HourlyPartitionsModel(_TimePartitionsModel):
    """A partition for each hour."""

    type: Literal["hourly"]
    minute_offset: int = 0


class DailyPartitionsModel(_TimePartitionsModel):
    """A partition for each day."""

    type: Literal["daily"]
    minute_offset: int = 0
    hour_offset: int = 0


class WeeklyPartitionsModel(_TimePartitionsModel):
    """A partition for each week."""

    type: Literal["weekly"]
    minute_offset: int = 0
    hour_offset: int = 0
    day_offset: int = Field(default=0, description="Day on which a week begins; 0 is Sunday.")


class MonthlyPartitionsModel(_TimePartitionsModel):
    """A partition for each month."""

    type: Literal["monthly"]
    minute_offset: int = 0
    hour_offset: int = 0
    day_offset: int = Field(default=1, description="Day on which a month begins; 1 is the first.")


class TimeWindowPartitionsModel(_TimePartitionsModel):
    """A partition between every two ticks of a cron schedule."""

    type: Literal["time_window"]
    cron_schedule: str = Field(description="As 0 0 * * 1-5.")
    fmt: str = Field(description="How keys and dates are written, as %Y-%m-%d.")


class StaticPartitionsModel(dg.Model):
    """Partitions that are named once."""

    type: Literal["static"]
    partition_keys: Sequence[str]


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
        StaticPartitionsModel,
        DynamicPartitionsModel,
        MultiPartitionsModel,
    ],
    Field(discriminator="type"),
]
MultiPartitionsModel.model_rebuild()
_model: TypeAdapter[Any] = TypeAdapter(PartitionsModel)

_KINDS: dict[str, Any] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
    "time_window": lambda start_date, end_date, **more: dg.TimeWindowPartitionsDefinition(
        start=start_date, end=end_date, **more
    ),
    "static": dg.StaticPartitionsDefinition,
    "dynamic": dg.DynamicPartitionsDefinition,
    "multi": lambda dimensions: dg.MultiPartitionsDefinition(
        {name: partitions_of(each) for name, each in dimensions.items()}
    ),
}


def resolve_partitions(context: dg.ResolutionContext, given: Any) -> dg.PartitionsDefinition[Any] | None:
    """The partitions that are said; a template may make them, and null is none."""
    if isinstance(given, str):
        given = context.resolve_value(given)
    if given is None or isinstance(given, dg.PartitionsDefinition):
        return given
    place = Place(context)
    model = place.validated(_model, given)
    with place.told():
        try:
            return partitions_of(model)
        except (ValueError, dg.DagsterError) as error:
            raise SettingsError(f"Dagster has no such partitions: {error}") from error


def partitions_of(model: Any) -> dg.PartitionsDefinition[Any]:
    """The definition that a model stands for."""
    given = {name: getattr(model, name) for name in type(model).model_fields if name != "type"}
    made: dg.PartitionsDefinition[Any] = _KINDS[model.type](**given)
    return made


_LEFT_OUT: Mapping[str, Any] = {"s3_bucket_path": "", "s3_bucket_region": "", "format": {"format_type": "JSONL"}}
"""What may be left out in YAML, and is required in a connector's file."""
_PASTED = frozenset({"destinationType", "destination_type"})
"""Keys that Airbyte's API puts beside a connector's own."""
_TEMPLATE = {"type": "string", "pattern": r"\{\{"}


def _or_template(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a setting, which a template may give as well."""
    told = {name: schema[name] for name in ("title", "description") if name in schema}
    if schema.get("type") == "object" and "properties" in schema:
        return {**schema, "properties": {name: _or_template(each) for name, each in schema["properties"].items()}}
    return {**told, "if": _TEMPLATE, "else": schema}


def _format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the format: its name alone, or its options by its name."""
    names = [_name_of(each) for each in schema["oneOf"]]
    options = by_kind({"oneOf": [{"type": "object", **each} for each in schema["oneOf"]]}, "format_type")
    told = {name: schema[name] for name in ("title", "description") if name in schema}
    # In any case: the settings say what is wrong with another name.
    return {**told, "if": {"type": "string"}, "then": {"examples": names}, "else": options}


def _name_of(form: Mapping[str, Any]) -> str:
    return str(form["properties"]["format_type"]["enum"][0])


_SETTINGS: dict[str, Any] = connector_spec()["connectionSpecification"]["properties"]
DestinationModel = Annotated[
    Mapping[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {name: _or_template(each) for name, each in _SETTINGS.items()}
            | {"format": _format(_SETTINGS["format"])},
        },
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
        if not isinstance(given, Mapping):
            raise SettingsError(
                f"A destination is an object of settings, or the path of a file of them. This is {given!r}."
            )
        config = rendered(context, given)
        with _placed_among_own(config):
            _refuse_unknown(config)
            if config.get("s3_bucket_name") is None:
                raise SettingsError("The destination needs s3_bucket_name, the bucket to land in.")
            return S3DestinationIOManager.from_connector_config({**_LEFT_OUT, **config})


@contextmanager
def _placed_among_own(config: Mapping[str, Any]) -> Iterator[None]:
    """Errors of our own settings leave with the place where they stand."""
    try:
        yield
    except SettingsError as error:
        own = config.get(OWN_SETTINGS_KEY)
        if isinstance(own, Mapping) and error.setting in own:
            error.setting = f"{OWN_SETTINGS_KEY}.{error.setting}"
        raise


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    """What means nothing is refused, but for what comes along when a configuration is pasted."""
    for key in config.keys() - _SETTINGS.keys() - _PASTED:
        raise SettingsError(f"The destination has no {key!r}. {did_you_mean(key, _SETTINGS)}", setting=key)
    if config.get("format") is None or holds_variable(config["format"]):
        return
    form = {"format_type": config["format"]} if isinstance(config["format"], str) else config["format"]
    ignored = parse_format(form)[1]
    for path in ignored:
        name = path.rpartition(".")[2]
        raise SettingsError(
            f"{form['format_type']} has no {path!r}. {did_you_mean(name, _options(form['format_type']))}", setting=path
        )


def _options(format_type: str) -> list[str]:
    """The options of a format, by the connector's names."""
    for form in _SETTINGS["format"]["oneOf"]:
        names = form["properties"]
        if any(str(each).upper() == format_type.upper() for each in names["format_type"]["enum"]):
            return [name for name in names if name != "format_type"]
    return []
