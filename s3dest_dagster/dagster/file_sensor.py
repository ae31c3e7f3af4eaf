"""A sensor that syncs what files have arrived, or changed, since it looked last.

It knows sensors and files; it must not know where records go.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.failures import as_dagster_failures
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.printable import amount, printable
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources.files import FileSource, FoundFile

_KEY = "partition_key"
_WHOLE = ""
"""The partition of files whose path names none."""
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
    """A sensor that runs `target` for files of `source` that are new, or other than when they were synced.

    Where the source's path names the partition, as a whole (`{{ partition_key }}`) or every dimension of it
    (`{{ partition_key.region }}`), each partition of the target with such files has a run of its own, and keys of
    dynamic partitions are added; otherwise the target has one run. A key that the target's partitions do not
    have is left alone and told. Files that changed in the last `settle_s` seconds wait for the next tick, since
    somebody may still be writing them, and a tick asks for at most `most_runs` runs.

    The cursor holds what each partition's files were like; a run's key is made of the same, so that no state of files
    is synced twice, also when the cursor is lost. Raises SettingsError where source and target do not agree on
    partitions.
    """
    numbers = {"settle_s": settle_s, "most_runs": most_runs, "minimum_interval_seconds": minimum_interval_seconds}
    for setting, value in {"name": name, **numbers}.items():
        refuse_variables(setting, value)
    targets = [target] if isinstance(target, dg.AssetsDefinition) else list(target)
    partitions = _agreed(source, targets)
    title = name or f"{targets[0].key.to_python_identifier()}_files"

    @dg.sensor(
        name=title,
        target=targets,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
    )
    def files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        with as_dagster_failures():
            found = _by_partition(source.find(), partitions)
        settled = {key: _state(each) for key, each in found.items() if _is_settled(each, clock() - settle_s)}
        changed = [key for key in sorted(settled) if settled[key] != seen.get(key)]
        asked = _known(context, partitions, changed)[:most_runs]
        states = {key: seen[key] for key in found if key in seen} | {key: settled[key] for key in asked}
        return dg.SensorResult(
            run_requests=[_request(title, key, settled[key]) for key in asked],
            dynamic_partitions_requests=_added(context, partitions, asked),
            cursor=json.dumps(states, sort_keys=True),
            skip_reason=None if asked else f"None of {amount(len(found), 'set')} of files is new.",
        )

    return files


def _agreed(source: FileSource, targets: Sequence[dg.AssetsDefinition]) -> dg.PartitionsDefinition[Any] | None:
    """The partitions of the targets, which the source's path must name, or neither has any."""
    partitions = targets[0].partitions_def
    if any(each.partitions_def != partitions for each in targets):
        raise SettingsError("The targets of a file sensor have different partitions.", setting="target")
    source.check_findable()
    ways = _ways_to_name(partitions)
    if set(source.names()) not in ways:
        named = ", ".join(f"{{{{ {name} }}}}" for name in source.names()) or "none"
        wanted = " or ".join(" and ".join(f"{{{{ {name} }}}}" for name in sorted(way)) or "none" for way in ways)
        raise SettingsError(
            f"{targets[0].key.to_user_string()} has {'no ' if partitions is None else ''}partitions, so the path of "
            f"its files must name {wanted}, and it names {named}.",
            setting="path",
        )
    return partitions


def _ways_to_name(partitions: dg.PartitionsDefinition[Any] | None) -> list[set[str]]:
    """The placeholders from which a file's partition can be told: the key, or all of its dimensions."""
    if partitions is None:
        return [set()]
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return [{_KEY}, {f"{_KEY}.{each.name}" for each in partitions.partitions_defs}]
    return [{_KEY}]


def _by_partition(
    files: Iterable[FoundFile], partitions: dg.PartitionsDefinition[Any] | None
) -> Mapping[str, list[FoundFile]]:
    found: defaultdict[str, list[FoundFile]] = defaultdict(list)
    for each in files:
        found[_WHOLE if partitions is None else _key(each)].append(each)
    return found


def _key(file: FoundFile) -> str:
    """The partition's key, which stands in the path as a whole or by its dimensions."""
    if file.partition is not None:
        return file.partition
    return str(dg.MultiPartitionKey({name.partition(".")[2]: part for name, part in file.caught.items()}))


def _is_settled(files: Iterable[FoundFile], before: float) -> bool:
    return all(each.modified_at is None or each.modified_at.timestamp() <= before for each in files)


def _state(files: Iterable[FoundFile]) -> str:
    """What the files are like: a digest of their paths, sizes and times."""
    told = "\n".join(f"{each.path}\t{each.size}\t{each.modified_at}" for each in files)
    return hashlib.sha256(told.encode()).hexdigest()[:_DIGITS]


def _known(
    context: dg.SensorEvaluationContext, partitions: dg.PartitionsDefinition[Any] | None, keys: Sequence[str]
) -> list[str]:
    """The keys that the target has, or, if they are dynamic, can have."""
    if partitions is None or isinstance(partitions, dg.DynamicPartitionsDefinition):
        return list(keys)
    known = [key for key in keys if _has(partitions, key)]
    if strange := sorted(set(keys) - set(known)):
        named = printable(", ".join(strange[:10]))
        context.log.warning(f"Files of {named} are no partitions of the target and are left alone.")
    return known


def _has(partitions: dg.PartitionsDefinition[Any], key: str) -> bool:
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        if key.count("|") != len(partitions.partitions_defs) - 1:
            return False
        key = partitions.get_partition_key_from_str(key)
    return partitions.has_partition_key(key)


def _added(
    context: dg.SensorEvaluationContext, partitions: dg.PartitionsDefinition[Any] | None, keys: Sequence[str]
) -> list[dg.AddDynamicPartitionsRequest]:
    if not isinstance(partitions, dg.DynamicPartitionsDefinition):
        return []
    new = sorted(set(keys) - set(partitions.get_partition_keys(dynamic_partitions_store=context.instance)))
    return [partitions.build_add_request(new)] if new else []


def _request(sensor: str, key: str, state: str) -> dg.RunRequest:
    return dg.RunRequest(run_key=f"{sensor}:{key}:{state}", partition_key=key or None)
