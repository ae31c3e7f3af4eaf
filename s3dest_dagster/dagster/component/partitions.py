"""Partitions as YAML says them: every kind that Dagster has, told apart by `type`.

It must not know streams.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union

import dagster as dg
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster.component.yaml_values import Place
from s3dest_dagster.errors import SettingsError


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
