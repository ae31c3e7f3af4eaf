"""`build_landing_checks`: asset checks of landed data: counts, manifests, quarantined lines, columns, age.

Must not know: how the data is read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from s3dest_dagster.commit.retirement import content_of
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.dagster.asset_metadata import stream_id_of
from s3dest_dagster.dagster.failures import as_dagster_failures
from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.dagster.metadata import changes_by_kind
from s3dest_dagster.dagster.run_landing import now
from s3dest_dagster.dagster.selection import defines_partition
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.inspection.verify import LastSync, last_sync, verify
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.stream import Scope, StreamId

COUNTS_CHECK = "counts_add_up"
MANIFEST_CHECK = "bucket_agrees_with_manifests"
QUARANTINE_CHECK = "few_lines_quarantined"
SCHEMA_CHECK = "schema_unchanged"
FRESHNESS_CHECK = "landed_lately"
LEFTOVERS_CHECK = "nothing_left_from_before"
CHECKS = (COUNTS_CHECK, MANIFEST_CHECK, QUARANTINE_CHECK, LEFTOVERS_CHECK, SCHEMA_CHECK, FRESHNESS_CHECK)
"""The names of all checks, in their order."""
ERROR_CHECKS = frozenset({COUNTS_CHECK, MANIFEST_CHECK})
"""The checks that fail as errors."""
_PARTITION_TAG = "dagster/partition"
_SHOWN_PROBLEMS = 20


def build_landing_checks(
    assets: Iterable[dg.AssetsDefinition],
    *,
    deep: bool = False,
    blocking: bool = False,
    max_quarantine_ratio: float = 0.0,
    fresh_within: timedelta | None = None,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN,
    clock: Callable[[], datetime] = now,
) -> list[dg.AssetChecksDefinition]:
    """Builds asset checks for what each of these assets has landed. Put them into `Definitions` next to the assets.

    In a run of one partition, the checks cover that partition; in any other run, they cover everything that has landed.

    - `counts_add_up`: in each scope's last sync, everything that was read was landed or quarantined, and the objects
      have as many rows as were landed. Fails as an error.
    - `bucket_agrees_with_manifests`: what `s3dest verify` checks. Fails as an error.
    - `few_lines_quarantined`: at most `max_quarantine_ratio` of the lines that the last syncs read were quarantined.
    - `schema_unchanged`: each last sync had the columns of the sync before it.
    - `nothing_left_from_before`: no partition holds objects that the asset's definition no longer has, and nothing is
      left from before the asset was partitioned. `s3dest retire` takes such leftovers away. `s3dest verify` names them,
      too.
    - `landed_lately`, only with `fresh_within`: the most recent of the last syncs began within that time.

    Args:
        assets: Assets that an `S3DestinationIOManager` lands.
        deep: Whether to also read every object.
        blocking: Whether a check that fails as an error prevents the downstream assets from running.
        max_quarantine_ratio: From 0 (the default: none) to 1.
        fresh_within: The maximum age of the most recent sync. None: no such check.
        severity: The severity of the last four checks; WARN by default.
        clock: Returns the current time.

    Raises:
        SettingsError: If the ratio or the time is out of range.

    Example:
        import dagster as dg
        from s3dest_dagster import S3DestinationIOManager, build_landing_checks, stream_asset

        @stream_asset
        def users():
            yield {"id": 1}

        defs = dg.Definitions(
            assets=[users],
            asset_checks=build_landing_checks([users], max_quarantine_ratio=0.01),
            resources={"io_manager": S3DestinationIOManager(s3_bucket_name="my-bucket")},
        )
    """
    severities = dict.fromkeys(CHECKS, severity) | dict.fromkeys(ERROR_CHECKS, dg.AssetCheckSeverity.ERROR)
    if fresh_within is None:
        del severities[FRESHNESS_CHECK]
    checks = LandingChecks(
        severities=severities,
        blocking=frozenset(severities) if blocking else frozenset(),
        deep=deep,
        max_quarantine_ratio=max_quarantine_ratio,
        fresh_within=fresh_within,
        clock=clock,
    )
    return [checks_of_asset(asset, key, checks) for asset in assets for key in sorted(asset.keys)]


@dataclass(frozen=True)
class LandingChecks:
    """The checks that an asset has, and their settings.

    Raises SettingsError if the ratio or the time is out of range.
    """

    severities: Mapping[str, dg.AssetCheckSeverity]
    """The severity of each check that the asset has, by its name in `CHECKS`."""
    blocking: frozenset[str] = frozenset()
    """The names of the checks that prevent downstream assets from running if they fail as an error."""
    deep: bool = False
    max_quarantine_ratio: float = 0.0
    fresh_within: timedelta | None = None
    """The maximum age of the most recent sync, which `landed_lately` needs."""
    clock: Callable[[], datetime] = now

    def __post_init__(self) -> None:
        refuse_variables("max_quarantine_ratio", self.max_quarantine_ratio)
        if not 0 <= self.max_quarantine_ratio <= 1:
            raise SettingsError(
                f"{self.max_quarantine_ratio} is no part of all records. Give 0, for none, to 1.",
                setting="max_quarantine_ratio",
            )
        if self.fresh_within is not None and self.fresh_within <= timedelta(0):
            raise SettingsError("Nothing is younger than that. Give a time above 0, or None.", setting="fresh_within")

    @property
    def descriptions(self) -> dict[str, str]:
        """The description of each check that the asset has, by its name."""
        described = {
            COUNTS_CHECK: "What was read is landed or quarantined, and the objects have as many rows as were landed.",
            MANIFEST_CHECK: f"Every object is there as it was landed{', and was read' if self.deep else ''}.",
            QUARANTINE_CHECK: f"At most {self.max_quarantine_ratio:.2%} of what was read is no record.",
            LEFTOVERS_CHECK: "Every partition that holds objects is one of the asset's.",
            SCHEMA_CHECK: "The last sync had the columns of the sync before it.",
            FRESHNESS_CHECK: f"The last sync began no longer than {self.fresh_within} ago.",
        }
        return {name: text for name, text in described.items() if name in self.severities}


def checks_of_asset(asset: dg.AssetsDefinition, key: dg.AssetKey, checks: LandingChecks) -> dg.AssetChecksDefinition:
    """Builds the checks of one asset of a definition."""
    stream = stream_id_of(key, asset.metadata_by_key[key])
    manager_key = asset.get_io_manager_key_for_asset_key(key)
    specs = [
        dg.AssetCheckSpec(name=name, asset=key, description=text, blocking=name in checks.blocking)
        for name, text in checks.descriptions.items()
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
        with as_dagster_failures():
            partition = context.run.tags.get(_PARTITION_TAG)
            partitions = asset.specs_by_key[key].partitions_def
            inspection = _Inspection(manager, key, stream, partition, checks, partitions)
            with dg.partition_loading_context(dynamic_partitions_store=context.instance):
                results = list(inspection.results())
            yield from results

    return check_landing


@dataclass(frozen=True)
class _Inspection:
    """The checks of what a stream, or one partition of it, has landed."""

    manager: S3DestinationIOManager
    key: dg.AssetKey
    stream: StreamId
    partition: str | None
    checks: LandingChecks
    partitions: dg.PartitionsDefinition[Any] | None
    """The partitions of the asset's definition."""

    def results(self) -> Iterator[dg.AssetCheckResult]:
        bucket, template, landed = self.manager.bucket(), self.manager.destination().template, self._landed()
        syncs = [sync for scope in landed if (sync := last_sync(bucket, template, scope)) is not None]
        made: dict[str, Callable[[], dg.AssetCheckResult]] = {
            COUNTS_CHECK: lambda: self._counts(syncs),
            MANIFEST_CHECK: lambda: self._manifests(landed),
            QUARANTINE_CHECK: lambda: self._quarantined(syncs),
            LEFTOVERS_CHECK: lambda: self._leftovers(landed),
            SCHEMA_CHECK: lambda: self._schema(syncs),
            FRESHNESS_CHECK: lambda: self._age(syncs),
        }
        yield from (make() for name, make in made.items() if name in self.checks.severities)

    def _landed(self) -> list[Scope]:
        """The scopes of the stream, or of the partition, that have landed."""
        destination = self.manager.destination()
        landed = self.stream.prefixed(destination.stream_prefix)
        found = scopes(self.manager.bucket(), destination.template, {landed})
        return [scope for scope in found if self.partition is None or scope.partition == self.partition]

    def _counts(self, syncs: Sequence[LastSync]) -> dg.AssetCheckResult:
        totals = {
            "read": sum(sync.counts.read for sync in syncs),
            "landed": sum(sync.counts.landed for sync in syncs),
            "quarantined": sum(sync.counts.quarantined for sync in syncs),
            "overflowed": sum(sum(sync.counts.tally.overflowed.values()) for sync in syncs),
            "undeclared": sum(sum(sync.counts.tally.undeclared.values()) for sync in syncs),
        }
        return self._result(COUNTS_CHECK, [sync.problem for sync in syncs if sync.problem], totals)

    def _manifests(self, landed: Sequence[Scope]) -> dg.AssetCheckResult:
        bucket, template = self.manager.bucket(), self.manager.destination().template
        reports = [verify(bucket, template, scope, deep=self.checks.deep) for scope in landed]
        totals = {name: sum(getattr(report, name) for report in reports) for name in ("objects", "rows", "uncompared")}
        return self._result(MANIFEST_CHECK, [problem for report in reports for problem in report.problems], totals)

    def _leftovers(self, landed: Sequence[Scope]) -> dg.AssetCheckResult:
        bucket, destination = self.manager.bucket(), self.manager.destination()
        if self.partition is not None:
            landed = [*landed, Scope(self.stream.prefixed(destination.stream_prefix))]
        foreign = [scope for scope in landed if not defines_partition(self.partitions, scope.partition)]
        left = [scope for scope in foreign if content_of(bucket, destination, scope).objects]
        return self._result(LEFTOVERS_CHECK, [f"{scope} holds objects" for scope in left], {"scopes": len(left)})

    def _quarantined(self, syncs: Sequence[LastSync]) -> dg.AssetCheckResult:
        read, kept = sum(sync.counts.read for sync in syncs), sum(sync.counts.quarantined for sync in syncs)
        ratio, most = kept / read if read else 0.0, self.checks.max_quarantine_ratio
        where = ", ".join(str(sync.scope) for sync in syncs if sync.counts.quarantined)
        problem = (
            f"{kept:,} of {amount(read, 'line')} quarantined, {ratio:.2%}, and at most {most:.2%} is allowed: {where}"
        )
        totals = {"quarantined": kept, "read": read, "ratio": ratio, "max_ratio": most}
        return self._result(QUARANTINE_CHECK, [problem] if ratio > most else [], totals)

    def _schema(self, syncs: Sequence[LastSync]) -> dg.AssetCheckResult:
        changed = {str(sync.scope): changes_by_kind(sync.schema_changes) for sync in syncs if sync.schema_changes}
        problems = [f"{scope}: {_in_words(changes)}" for scope, changes in changed.items()]
        shown = {"changes": dict(list(changed.items())[:_SHOWN_PROBLEMS])} if changed else {}
        return self._result(SCHEMA_CHECK, problems, {"scopes": len(syncs), **shown})

    def _age(self, syncs: Sequence[LastSync]) -> dg.AssetCheckResult:
        most = self.checks.fresh_within
        assert most is not None, "landed_lately has a time"
        if not syncs:
            return self._result(FRESHNESS_CHECK, ["nothing has landed yet"], {})
        youngest = max(sync.started_at for sync in syncs)
        age = self.checks.clock() - youngest
        problem = f"the last sync began at {youngest.isoformat(timespec='seconds')}, longer than {most} ago"
        totals = {
            "last_sync": dg.MetadataValue.timestamp(youngest),
            "age_s": round(age.total_seconds(), 1),
            "fresh_within_s": most.total_seconds(),
        }
        return self._result(FRESHNESS_CHECK, [problem] if age > most else [], totals)

    def _result(
        self,
        name: str,
        problems: Sequence[str],
        totals: dict[str, Any],
    ) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=not problems,
            check_name=name,
            asset_key=self.key,
            severity=self.checks.severities[name],
            description="; ".join(problems[:_SHOWN_PROBLEMS]) or None,
            metadata=totals | ({"problems": len(problems)} if problems else {}),
        )


def _in_words(changes: dict[str, Any]) -> str:
    """`added a, b; retyped c (integer → string)`."""
    retyped = [f"{name} ({how})" for name, how in changes.get("retyped", {}).items()]
    named = {kind: changes.get(kind, []) for kind in ("added", "removed")} | {"retyped": retyped}
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in named.items() if names)
