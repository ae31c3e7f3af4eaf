"""The settings of steps in YAML: retries, backfills, pools, tags and hooks, of a component or of one stream.

Must not know: what the steps do.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.resolved.core_models import (
    MultiRunBackfillPolicyModel,
    SingleRunBackfillPolicyModel,
    resolve_backfill_policy,
)
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster.assets import AssetSettings
from s3dest_dagster.dagster.component.yaml_values import SourcePosition, imported, render
from s3dest_dagster.errors import SettingsError


@dataclass(frozen=True)
class StepSettings:
    """What is set for a step. None leaves it to a less specific setting, and at last to Dagster."""

    backfill_policy: dg.BackfillPolicy | None = None
    retry_policy: dg.RetryPolicy | None = None
    pool: str | None = None
    op_tags: Mapping[str, Any] | None = None
    hooks: Set[dg.HookDefinition] | None = None

    def over(self, other: StepSettings) -> StepSettings:
        """These settings, with those of the other where they are None."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return StepSettings(**{name: getattr(other, name) if value is None else value for name, value in given.items()})

    def of_asset(self, io_manager_key: str) -> AssetSettings:
        """The settings of an asset that this IO manager lands."""
        return AssetSettings(
            io_manager_key=io_manager_key,
            backfill_policy=self.backfill_policy,
            retry_policy=self.retry_policy,
            pool=self.pool,
            op_tags=self.op_tags,
            hooks=self.hooks,
        )


NO_SETTINGS = StepSettings()
"""What is set where nothing is set."""


class RetryPolicyModel(dg.Model):
    """How often a failed step is tried again."""

    max_retries: int = 1
    delay: float | None = None
    backoff: Literal["LINEAR", "EXPONENTIAL"] | None = None
    jitter: Literal["FULL", "PLUS_MINUS"] | None = None


BackfillPolicyModel = Annotated[SingleRunBackfillPolicyModel | MultiRunBackfillPolicyModel, Field(discriminator="type")]
_retry_adapter: TypeAdapter[Any] = TypeAdapter(RetryPolicyModel)
_backfill_adapter: TypeAdapter[Any] = TypeAdapter(BackfillPolicyModel)
HooksModel = list[str]
_hooks_adapter: TypeAdapter[Any] = TypeAdapter(list[Any])


def resolve_backfill(context: dg.ResolutionContext, given: Any) -> dg.BackfillPolicy | None:
    """The backfill policy that YAML describes, or that a template returns."""
    given = context.resolve_value(given)
    if given is None or isinstance(given, dg.BackfillPolicy):
        return given
    return resolve_backfill_policy(context, SourcePosition(context).validated(_backfill_adapter, given))


def resolve_retry(context: dg.ResolutionContext, given: Any) -> dg.RetryPolicy | None:
    """The retry policy that YAML describes, or that a template returns."""
    given = context.resolve_value(given)
    if given is None or isinstance(given, dg.RetryPolicy):
        return given
    model = SourcePosition(context).validated(_retry_adapter, given)
    return dg.RetryPolicy(
        max_retries=model.max_retries,
        delay=model.delay,
        backoff=dg.Backoff[model.backoff] if model.backoff else None,
        jitter=dg.Jitter[model.jitter] if model.jitter else None,
    )


def resolve_hooks(context: dg.ResolutionContext, given: Any) -> Set[dg.HookDefinition] | None:
    """The hooks of a list of import paths, or of templates that return a hook."""
    if given is None:
        return None
    entries = SourcePosition(context).validated(_hooks_adapter, render(context, given))
    return frozenset(_hook(context.at_path(number), entry) for number, entry in enumerate(entries))


def _hook(context: dg.ResolutionContext, entry: Any) -> dg.HookDefinition:
    with SourcePosition(context).located():
        hook = imported(entry) if isinstance(entry, str) else entry
        if not isinstance(hook, dg.HookDefinition):
            raise SettingsError(
                f"{entry} is a {type(hook).__name__}, and not a hook. Decorate the function with dg.failure_hook or "
                "dg.success_hook."
            )
        return hook
