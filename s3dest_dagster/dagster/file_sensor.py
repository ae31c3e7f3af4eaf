"""`build_file_sensor`: a sensor that runs assets for files that have arrived or changed since its last tick.

Must not know: where records go.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.failures import as_dagster_failures
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.printable import amount, printable
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources.files import FileSource, FoundFile

_KEY = "partition_key"
_WHOLE = ""
"""The key of files whose path does not name a partition."""
_DIGITS = 16


def build_file_sensor(
    source: FileSource,
    target: dg.AssetsDefinition | Sequence[dg.AssetsDefinition],
    *,
    name: str | None = None,
    settle_s: float = 10,
    most_runs: int = 100,
    minimum_interval_seconds: int = 60,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """Builds a sensor that runs `target` once for every state of the files, even if its cursor is lost.

    If the path names the partition, as a whole (`{{ partition_key }}`) or by each of its dimensions (`{{
    partition_key.region }}`), every partition with new or changed files gets a run of its own, and keys of dynamic
    partitions are added. Otherwise the target gets one run. A key that the target's partitions do not have is skipped
    with a warning. The cursor holds the state of each partition's files, and the run key is derived from it.

    Args:
        source: The files.
        target: The assets to run. Several assets must have the same partitions.
        name: The sensor's name; by default derived from the first asset's name.
        settle_s: Files that changed within this many seconds wait for the next tick, because they may still be being
            written.
        most_runs: The maximum number of runs that one tick requests.
        minimum_interval_seconds: Seconds between two ticks.
        default_status: Whether the sensor runs from the start; by default somebody has to start it.
        clock: Returns the seconds since 1970.

    Raises:
        SettingsError: If the path does not name the target's partitions, or if a setting is a variable.

    Example:
        import dagster as dg
        from s3dest_dagster import FileSource, S3DestinationIOManager, build_file_sensor, stream_asset

        inbox = FileSource("inbox/{{ partition_key }}/*.csv")

        @stream_asset(partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
        def orders(context: dg.AssetExecutionContext):
            return inbox.read({"partition_key": context.partition_key})

        defs = dg.Definitions(
            assets=[orders],
            sensors=[build_file_sensor(inbox, orders)],
            resources={"io_manager": S3DestinationIOManager(s3_bucket_name="my-bucket")},
        )
    """
    targets = [target] if isinstance(target, dg.AssetsDefinition) else list(target)
    return build_sensor_of_keys(
        source,
        [key for each in targets for key in each.keys],
        _common_partitions(targets),
        target=targets,
        name=name or f"{targets[0].key.to_python_identifier()}_files",
        settle_s=settle_s,
        most_runs=most_runs,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        clock=clock,
    )


def build_sensor_of_keys(
    source: FileSource,
    keys: Sequence[dg.AssetKey],
    partitions: dg.PartitionsDefinition[Any] | None,
    *,
    name: str,
    target: Any = None,
    settle_s: float = 10,
    most_runs: int = 100,
    minimum_interval_seconds: int = 60,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """The sensor of `build_file_sensor` for assets with these keys, all of which have these partitions.

    `target` is what the sensor runs, as Dagster accepts it; by default the assets with the keys.
    """
    numbers = {"settle_s": settle_s, "most_runs": most_runs, "minimum_interval_seconds": minimum_interval_seconds}
    for setting, value in {"name": name, **numbers}.items():
        refuse_variables(setting, value)
    _check_path(source, keys[0], partitions)
    tick = _Tick(name, source, partitions, settle_s, most_runs, clock)

    @dg.sensor(
        name=name,
        target=dg.AssetSelection.assets(*keys) if target is None else target,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
    )
    def files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return tick.evaluate(context)

    return files


@dataclass(frozen=True)
class _Tick:
    """The work of one tick of the sensor."""

    sensor: str
    source: FileSource
    partitions: dg.PartitionsDefinition[Any] | None
    settle_s: float
    most_runs: int
    clock: Callable[[], float]

    def evaluate(self, context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        with as_dagster_failures():
            found = self._by_partition(self.source.find())
        before = self.clock() - self.settle_s
        settled = {key: _state(files) for key, files in found.items() if _is_settled(files, before)}
        changed = [key for key in sorted(settled) if settled[key] != seen.get(key)]
        requested = self._existing(context, changed)[: self.most_runs]
        states = {key: seen[key] for key in found if key in seen} | {key: settled[key] for key in requested}
        return dg.SensorResult(
            run_requests=[self._run_request(key, settled[key]) for key in requested],
            dynamic_partitions_requests=self._new_partitions(context, requested),
            cursor=json.dumps(states, sort_keys=True),
            skip_reason=None if requested else f"None of {amount(len(found), 'set')} of files is new.",
        )

    def _by_partition(self, files: Iterable[FoundFile]) -> Mapping[str, list[FoundFile]]:
        by_key: defaultdict[str, list[FoundFile]] = defaultdict(list)
        for file in files:
            by_key[_WHOLE if self.partitions is None else _key(file)].append(file)
        return by_key

    def _existing(self, context: dg.SensorEvaluationContext, keys: Sequence[str]) -> list[str]:
        """The keys that the target has or, if its partitions are dynamic, can have."""
        if self.partitions is None or isinstance(self.partitions, dg.DynamicPartitionsDefinition):
            return list(keys)
        existing = [key for key in keys if _has(self.partitions, key)]
        if unknown := sorted(set(keys) - set(existing)):
            named = printable(", ".join(unknown[:10]))
            context.log.warning(f"Files of {named} are no partitions of the target and are left alone.")
        return existing

    def _new_partitions(
        self, context: dg.SensorEvaluationContext, keys: Sequence[str]
    ) -> list[dg.AddDynamicPartitionsRequest]:
        if not isinstance(self.partitions, dg.DynamicPartitionsDefinition):
            return []
        new = sorted(set(keys) - set(self.partitions.get_partition_keys(dynamic_partitions_store=context.instance)))
        return [self.partitions.build_add_request(new)] if new else []

    def _run_request(self, key: str, state: str) -> dg.RunRequest:
        return dg.RunRequest(run_key=f"{self.sensor}:{key}:{state}", partition_key=key or None)


def _common_partitions(targets: Sequence[dg.AssetsDefinition]) -> dg.PartitionsDefinition[Any] | None:
    """The partitions of the targets. Raises SettingsError if they differ."""
    partitions = targets[0].partitions_def
    if any(target.partitions_def != partitions for target in targets):
        raise SettingsError("The targets of a file sensor have different partitions.", setting="target")
    return partitions


def _check_path(source: FileSource, key: dg.AssetKey, partitions: dg.PartitionsDefinition[Any] | None) -> None:
    """Raises SettingsError if the path does not name the partitions."""
    source.check_findable()
    choices = _placeholder_choices(partitions)
    if set(source.names()) not in choices:
        named = ", ".join(f"{{{{ {name} }}}}" for name in source.names()) or "none"
        wanted = " or ".join(" and ".join(f"{{{{ {name} }}}}" for name in sorted(names)) or "none" for names in choices)
        raise SettingsError(
            f"{key.to_user_string()} has {'no ' if partitions is None else ''}partitions, so the path of its files "
            f"must name {wanted}, and it names {named}.",
            setting="path",
        )


def _placeholder_choices(partitions: dg.PartitionsDefinition[Any] | None) -> list[set[str]]:
    """The sets of placeholders that determine a file's partition: the key, or all of its dimensions."""
    if partitions is None:
        return [set()]
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return [{_KEY}, {f"{_KEY}.{dimension.name}" for dimension in partitions.partitions_defs}]
    return [{_KEY}]


def _key(file: FoundFile) -> str:
    """The partition's key, which the path contains as a whole or by its dimensions."""
    if file.partition is not None:
        return file.partition
    return str(dg.MultiPartitionKey({name.partition(".")[2]: part for name, part in file.captured.items()}))


def _is_settled(files: Iterable[FoundFile], before: float) -> bool:
    return all(file.modified_at is None or file.modified_at.timestamp() <= before for file in files)


def _state(files: Iterable[FoundFile]) -> str:
    """A digest of the files' paths, sizes and times."""
    lines = "\n".join(f"{file.path}\t{file.size}\t{file.modified_at}" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:_DIGITS]


def _has(partitions: dg.PartitionsDefinition[Any], key: str) -> bool:
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        if key.count("|") != len(partitions.partitions_defs) - 1:
            return False
        key = partitions.get_partition_key_from_str(key)
    return partitions.has_partition_key(key)
