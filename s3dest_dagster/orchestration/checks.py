"""Asset checks of what was landed: that the counts add up, and that the bucket agrees with the manifests.

It must not know how either is found out.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.landing import Verified, landed_scope, newest_counts, scopes, verify
from s3dest_dagster.orchestration.declared import stream_of
from s3dest_dagster.orchestration.failures import told_as_failures
from s3dest_dagster.orchestration.io_manager import S3DestinationIOManager
from s3dest_dagster.stream import Scope, StreamId

COUNTS_CHECK = "counts_add_up"
MANIFEST_CHECK = "bucket_agrees_with_manifests"
_PARTITION_TAG = "dagster/partition"
_SHOWN_PROBLEMS = 20


def build_landing_checks(
    assets: Iterable[dg.AssetsDefinition], *, deep: bool = False, blocking: bool = False
) -> list[dg.AssetChecksDefinition]:
    """Two checks for each of these stream assets, to be put into `Definitions` beside them.

    `counts_add_up`: of each scope's last sync, what was read is landed or quarantined, and the objects have as many
    rows as were landed. `bucket_agrees_with_manifests`: as `s3dest verify`; `deep` reads every object, too. A run of
    one partition checks that partition, any other all that has landed. `blocking` keeps assets downstream from running
    when a check fails.
    """
    return [_checks_of(asset, key, deep, blocking) for asset in assets for key in sorted(asset.keys)]


def _checks_of(asset: dg.AssetsDefinition, key: dg.AssetKey, deep: bool, blocking: bool) -> dg.AssetChecksDefinition:
    stream = stream_of(key, asset.metadata_by_key[key]).id
    manager_key = asset.get_io_manager_key_for_asset_key(key)
    counts = "What was read is landed or quarantined, and the objects have as many rows as were landed."
    agrees = "Every object is there as it was landed" + (", and was read." if deep else ".")
    specs = [
        dg.AssetCheckSpec(name=name, asset=key, description=text, blocking=blocking)
        for name, text in ((COUNTS_CHECK, counts), (MANIFEST_CHECK, agrees))
    ]

    @dg.multi_asset_check(
        name=f"{key.to_python_identifier()}_landing_checks",
        specs=specs,
        required_resource_keys={manager_key},
    )
    def check_landing(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        manager = getattr(context.resources, manager_key)
        if not isinstance(manager, S3DestinationIOManager):
            raise SettingsError(
                f"{key.to_user_string()} is kept by a {type(manager).__name__}, and landing checks are of what an "
                "S3DestinationIOManager has landed.",
                stream=str(stream),
            )
        partition = context.run.tags.get(_PARTITION_TAG)
        with told_as_failures():
            yield _counts_result(manager, key, stream, partition)
            yield _manifest_result(manager, key, stream, partition, deep=deep)

    return check_landing


def _landed(manager: S3DestinationIOManager, stream: StreamId, partition: str | None) -> list[Scope]:
    """The stream's scopes that have landed, or the one of the partition."""
    destination = manager.destination()
    landed = landed_scope(destination.stream_prefix, Scope(stream)).stream
    found = scopes(manager.bucket(), destination.template, {landed})
    return [each for each in found if partition is None or each.partition == partition]


def _counts_result(
    manager: S3DestinationIOManager, key: dg.AssetKey, stream: StreamId, partition: str | None
) -> dg.AssetCheckResult:
    bucket, template = manager.bucket(), manager.destination().template
    counted = [newest_counts(bucket, template, each) for each in _landed(manager, stream, partition)]
    totals = {
        "read": sum(each.counts.read for each in counted),
        "landed": sum(each.counts.landed for each in counted),
        "quarantined": sum(each.counts.quarantined for each in counted),
        "overflowed": sum(sum(each.counts.tally.overflowed.values()) for each in counted),
        "undeclared": sum(sum(each.counts.tally.undeclared.values()) for each in counted),
    }
    return _result(COUNTS_CHECK, key, [each.problem for each in counted if each.problem], totals)


def _manifest_result(
    manager: S3DestinationIOManager, key: dg.AssetKey, stream: StreamId, partition: str | None, *, deep: bool
) -> dg.AssetCheckResult:
    bucket, template = manager.bucket(), manager.destination().template
    found: list[Verified] = [verify(bucket, template, each, deep=deep) for each in _landed(manager, stream, partition)]
    totals = {name: sum(getattr(each, name) for each in found) for name in ("objects", "rows", "uncompared")}
    return _result(MANIFEST_CHECK, key, [problem for each in found for problem in each.problems], totals)


def _result(name: str, key: dg.AssetKey, problems: list[str], totals: dict[str, Any]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not problems,
        check_name=name,
        asset_key=key,
        description="; ".join(problems[:_SHOWN_PROBLEMS]) or None,
        metadata=totals | ({"problems": len(problems)} if problems else {}),
    )
