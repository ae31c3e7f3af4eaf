"""Schedules and sensors in YAML: when the streams of a component are synced without anybody asking.

Must not know: how assets are built, or how a sensor finds files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster.component.stream_assets import StreamAsset
from s3dest_dagster.dagster.component.stream_selection import matching_streams
from s3dest_dagster.dagster.component.yaml_values import NOWHERE, SourcePosition, render
from s3dest_dagster.dagster.file_sensor import build_sensor_of_keys
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources import Source
from s3dest_dagster.sources.files import FileSource

_STREAMS = "Which streams, by name or pattern as in streams; all by default."
_STATUS = "RUNNING switches it on with the deployment. By default somebody has to."


class ScheduleModel(dg.Model):
    """Runs of streams at fixed times."""

    cron_schedule: str = Field(description="When, as 0 2 * * *.", examples=["0 2 * * *"])
    execution_timezone: str | None = Field(default=None, description="As Europe/Berlin; UTC by default.")
    streams: list[str] | None = Field(default=None, description=_STREAMS)
    name: str | None = Field(default=None, description="By default after the component.")
    description: str | None = Field(default=None, description="What it is for.")
    tags: Mapping[str, str] | None = Field(
        default=None, description="Tags of its runs, such as s3dest/full_refresh: 'true'."
    )
    default_status: Literal["RUNNING", "STOPPED"] = Field(default="STOPPED", description=_STATUS)


class _SensorModel(dg.Model):
    streams: list[str] | None = Field(default=None, description=_STREAMS)
    name: str | None = Field(default=None, description="By default after the component or stream.")
    minimum_interval_seconds: int = Field(default=60, description="Seconds between two ticks.")
    default_status: Literal["RUNNING", "STOPPED"] = Field(default="STOPPED", description=_STATUS)


class FileSensorModel(_SensorModel):
    """Runs streams when files arrive or change."""

    type: Literal["files"]
    path: str | None = Field(
        default=None,
        description="The files, as the path of a source of files; by default those of the component's source.",
    )
    settle_s: float = Field(default=10, description="Files that changed within so many seconds wait.")
    most_runs: int = Field(default=100, description="Runs that one tick requests at most.")


class AutomationSensorModel(_SensorModel):
    """Evaluates the automation conditions of the streams."""

    type: Literal["automation_condition"]


SchedulesModel = list[ScheduleModel]
_SensorKind = Annotated[FileSensorModel | AutomationSensorModel, Field(discriminator="type")]
SensorsModel = list[_SensorKind]
_list_adapter: TypeAdapter[Any] = TypeAdapter(list[Any])
_schedule_adapter: TypeAdapter[Any] = TypeAdapter(ScheduleModel)
_sensor_adapter: TypeAdapter[Any] = TypeAdapter(_SensorKind)


@dataclass(frozen=True)
class Described:
    """A schedule or sensor as YAML describes it, and where."""

    model: Any
    position: SourcePosition = NOWHERE


def resolve_schedules(context: dg.ResolutionContext, given: Any) -> Sequence[Described]:
    """The schedules of a list in YAML."""
    return list(_described(context, given, _schedule_adapter))


def resolve_sensors(context: dg.ResolutionContext, given: Any) -> Sequence[Described]:
    """The sensors of a list in YAML. The path of files may name the partition and the stream."""
    return list(_described(context, given, _sensor_adapter))


def _described(context: dg.ResolutionContext, given: Any, kind: TypeAdapter[Any]) -> Iterator[Described]:
    entries = SourcePosition(context).validated(_list_adapter, [] if given is None else given)
    for number, entry in enumerate(entries):
        inner = context.at_path(number)
        position = SourcePosition(inner)
        yield Described(position.validated(kind, _rendered(inner, entry)), position)


def _rendered(context: dg.ResolutionContext, entry: Any) -> Any:
    """The entry with its templates rendered. The path of files keeps those that a run renders."""
    if not isinstance(entry, Mapping):
        return entry
    at_run = {"path": FileSource.run_placeholders["path"]}
    return {name: render(context.at_path(name), each, at_run=at_run.get(name, ())) for name, each in entry.items()}


# ---------------------------------------------------------------------- schedules


def build_schedules(
    described: Sequence[Described], assets: Sequence[StreamAsset], component: str
) -> list[dg.ScheduleDefinition]:
    """The schedules of a component's streams. Errors name the line of the schedule."""
    return [
        _schedule(each, assets, _name(each, f"{component}_schedule", number)) for number, each in enumerate(described)
    ]


def _schedule(described: Described, assets: Sequence[StreamAsset], name: str) -> dg.ScheduleDefinition:
    model = described.model
    with described.position.located():
        targets = _targets(described, assets)
        partitions = _common_partitions(targets)

    def runs(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        # Without an instance, as in a unit test, there are no dynamic partitions.
        instance = context.instance if context.instance_ref is not None else None
        with dg.partition_loading_context(context.scheduled_execution_time, instance):
            return [
                dg.RunRequest(run_key=key, partition_key=key, tags=model.tags or {}) for key in _keys_to_run(partitions)
            ]

    with described.position.located("cron_schedule"):
        try:
            return dg.schedule(
                cron_schedule=model.cron_schedule,
                target=dg.AssetSelection.assets(*(asset.key for asset in targets)),
                name=name,
                execution_timezone=model.execution_timezone,
                description=model.description,
                default_status=dg.DefaultScheduleStatus[model.default_status],
            )(runs)
        except (dg.DagsterError, ValueError) as error:
            raise SettingsError(f"Dagster has no such schedule: {error}") from error


def _keys_to_run(partitions: dg.PartitionsDefinition[Any] | None) -> Sequence[str | None]:
    """The partitions that one tick runs: the last one by time, or all of another kind. None without partitions."""
    if partitions is None:
        return [None]
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        last = partitions.get_last_partition_key()
        return [] if last is None else [last]
    keys = partitions.get_partition_keys()
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        times = {
            each.name: each.partitions_def.get_last_partition_key()
            for each in partitions.partitions_defs
            if isinstance(each.partitions_def, dg.TimeWindowPartitionsDefinition)
        }
        return [key for key in keys if times.items() <= key.keys_by_dimension.items()]
    return list(keys)


# ---------------------------------------------------------------------- sensors


def build_sensors(
    described: Sequence[Described], assets: Sequence[StreamAsset], source: Source, component: str
) -> list[dg.SensorDefinition]:
    """The sensors of a component's streams. Errors name the line of the sensor."""
    sensors: list[dg.SensorDefinition] = []
    for number, each in enumerate(described):
        with each.position.located():
            targets = _targets(each, assets)
            if isinstance(each.model, FileSensorModel):
                sensors += _file_sensors(each, targets, source, component, number)
            else:
                sensors.append(_automation_sensor(each.model, targets, _name(each, f"{component}_conditions", number)))
    return sensors


def _automation_sensor(
    model: AutomationSensorModel, targets: Sequence[StreamAsset], name: str
) -> dg.AutomationConditionSensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        name,
        target=dg.AssetSelection.assets(*(asset.key for asset in targets)),
        minimum_interval_seconds=model.minimum_interval_seconds,
        default_status=dg.DefaultSensorStatus[model.default_status],
    )


def _file_sensors(
    described: Described, targets: Sequence[StreamAsset], source: Source, component: str, number: int
) -> Iterator[dg.SensorDefinition]:
    """One sensor, or one for each stream if the path names the stream."""
    files = _files(described, source)
    name = _name(described, f"{component}_files", number)
    if not files.separates_streams:
        yield _file_sensor(described.model, files, targets, name)
        return
    for asset in targets:
        own = files.of_stream(asset.stream)
        yield _file_sensor(described.model, own, [asset], f"{name}_{asset.key.to_python_identifier()}")


def _files(described: Described, source: Source) -> FileSource:
    path = described.model.path
    if path is not None:
        return FileSource(described.position.path_of(path), allow_missing=True)
    if not isinstance(source, FileSource):
        raise SettingsError(
            "The source of this component is not files. Give the sensor the path of the files that it waits for."
        )
    return source


def _file_sensor(
    model: FileSensorModel, files: FileSource, targets: Sequence[StreamAsset], name: str
) -> dg.SensorDefinition:
    return build_sensor_of_keys(
        files,
        [asset.key for asset in targets],
        _common_partitions(targets),
        name=name,
        settle_s=model.settle_s,
        most_runs=model.most_runs,
        minimum_interval_seconds=model.minimum_interval_seconds,
        default_status=dg.DefaultSensorStatus[model.default_status],
    )


# ---------------------------------------------------------------------- the streams of either


def _targets(described: Described, assets: Sequence[StreamAsset]) -> list[StreamAsset]:
    matching = matching_streams(described.model.streams, [asset.stream.id for asset in assets])
    return [asset for asset in assets if asset.stream.id in matching]


def _common_partitions(assets: Sequence[StreamAsset]) -> dg.PartitionsDefinition[Any] | None:
    first, *others = [(asset.stream.id, asset.definition.specs_by_key[asset.key].partitions_def) for asset in assets]
    for stream, partitions in others:
        if partitions != first[1]:
            raise SettingsError(
                f"{first[0]} and {stream} have different partitions, and one run has one. Name the streams of each "
                "kind in streams, and give the others an entry of their own.",
                setting="streams",
            )
    return first[1]


def _name(described: Described, default: str, number: int) -> str:
    """The given name, or the default, with a number for all but the first."""
    return described.model.name or (default if number == 0 else f"{default}_{number + 1}")
