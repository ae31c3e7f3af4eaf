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

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.orchestration.failures import told_as_failures
from s3dest_dagster.printable import printable
from s3dest_dagster.sources.files import FileSource, FoundFile
from s3dest_dagster.wording import amount

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

    Where the source's path names the partition, each partition of the target with such files has a run of its own, and
    keys of dynamic partitions are added; otherwise the target has one run. A key that the target's partitions do not
    have is left alone and told. Files that changed in the last `settle_s` seconds wait for the next tick, since
    somebody may still be writing them, and a tick asks for at most `most_runs` runs.

    The cursor holds what each partition's files were like; a run's key is made of the same, so that no state of files
    is synced twice, also when the cursor is lost. Raises SettingsError where source and target do not agree on
    partitions.
    """
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
        with told_as_failures():
            found = _by_partition(source.find())
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
    if (partitions is not None) != source.names("partition_key"):
        has, names = ("has", "does not name one") if partitions is not None else ("has no", "names one")
        raise SettingsError(
            f"{targets[0].key.to_user_string()} {has} partitions, and the path of its files {names} as "
            "{{ partition_key }}.",
            setting="path",
        )
    return partitions


def _by_partition(files: Iterable[FoundFile]) -> Mapping[str, list[FoundFile]]:
    found: defaultdict[str, list[FoundFile]] = defaultdict(list)
    for each in files:
        found[each.partition or _WHOLE].append(each)
    return found


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
    known = [key for key in keys if partitions.has_partition_key(key)]
    if strange := sorted(set(keys) - set(known)):
        named = printable(", ".join(strange[:10]))
        context.log.warning(f"Files of {named} are no partitions of the target and are left alone.")
    return known


def _added(
    context: dg.SensorEvaluationContext, partitions: dg.PartitionsDefinition[Any] | None, keys: Sequence[str]
) -> list[dg.AddDynamicPartitionsRequest]:
    if not isinstance(partitions, dg.DynamicPartitionsDefinition):
        return []
    new = sorted(set(keys) - set(partitions.get_partition_keys(dynamic_partitions_store=context.instance)))
    return [partitions.build_add_request(new)] if new else []


def _request(sensor: str, key: str, state: str) -> dg.RunRequest:
    return dg.RunRequest(run_key=f"{sensor}:{key}:{state}", partition_key=key or None)
