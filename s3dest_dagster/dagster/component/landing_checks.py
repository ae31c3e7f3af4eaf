"""Asset checks in YAML: which checks a component or a stream has, and their settings.

Must not know: how the checks are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import dagster as dg
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster import checks as landing
from s3dest_dagster.dagster.component.yaml_values import SourcePosition, render
from s3dest_dagster.errors import SettingsError, did_you_mean

_CHECKS: Mapping[str, str] = {
    "counts": landing.COUNTS_CHECK,
    "manifests": landing.MANIFEST_CHECK,
    "quarantine": landing.QUARANTINE_CHECK,
    "leftovers": landing.LEFTOVERS_CHECK,
    "schema": landing.SCHEMA_CHECK,
    "freshness": landing.FRESHNESS_CHECK,
}
"""The checks, by their names in YAML."""


class CheckModel(dg.Model):
    """A check that fails as an error."""

    blocking: bool = Field(default=False, description="Whether downstream assets do not run if it fails as an error.")


class ManifestsCheckModel(CheckModel):
    """Every object exists as it was landed."""

    deep: bool = Field(default=False, description="Whether every object is read, too.")


class WarningCheckModel(CheckModel):
    """A check that warns, unless its severity says otherwise."""

    severity: Literal["WARN", "ERROR"] = Field(default="WARN", description="How it fails.")


class QuarantineCheckModel(WarningCheckModel):
    """Few lines were quarantined."""

    max_ratio: float = Field(default=0.0, description="The part of all lines that may be quarantined: 0.01 is 1 %.")


class FreshnessCheckModel(WarningCheckModel):
    """The last sync is not too old."""

    days: float = Field(default=0, description="The age that the last sync may have, with hours and minutes.")
    hours: float = 0
    minutes: float = 0


class OneCheckModel(dg.Model):
    """A check with its settings."""

    counts: CheckModel | None = Field(default=None, description="What was read is landed or quarantined.")
    manifests: ManifestsCheckModel | None = Field(default=None, description="Every object exists as it was landed.")
    quarantine: QuarantineCheckModel | None = Field(default=None, description="Few lines were quarantined.")
    leftovers: WarningCheckModel | None = Field(
        default=None, description="No partition holds objects that the definition no longer has."
    )
    schema_: WarningCheckModel | None = Field(
        default=None, alias="schema", description="The last sync had the columns of the one before it."
    )
    freshness: FreshnessCheckModel | None = Field(default=None, description="The last sync is not too old.")


CheckName = Literal["counts", "manifests", "quarantine", "leftovers", "schema"]
ChecksModel = list[CheckName | OneCheckModel]
_list_adapter: TypeAdapter[Any] = TypeAdapter(list[Mapping[str, Any] | str])
_check_adapter: TypeAdapter[Any] = TypeAdapter(OneCheckModel)


class _Check(NamedTuple):
    """One check of the list."""

    position: SourcePosition
    name: str
    settings: Mapping[str, Any]


def resolve_checks(context: dg.ResolutionContext, given: Any) -> landing.LandingChecks | None:
    """The checks of a list in YAML. None without a list; an empty list means that there are no checks."""
    if given is None:
        return None
    entries = SourcePosition(context).validated(_list_adapter, render(context, given))
    found: dict[str, _Check] = {}
    for number, entry in enumerate(entries):
        for check in _checks_of(context.at_path(number), entry):
            with check.position.located():
                if check.name in found:
                    raise SettingsError(f"The check {check.name} is listed twice. Remove one of them.")
            found[check.name] = check
    return _landing_checks(found)


def _checks_of(context: dg.ResolutionContext, entry: Any) -> Iterator[_Check]:
    position = SourcePosition(context)
    with position.located():
        for name in [entry] if isinstance(entry, str) else entry:
            if name not in _CHECKS:
                raise SettingsError(f"There is no check {name!r}. {did_you_mean(name, _CHECKS)}")
    given = {entry: None} if isinstance(entry, str) else entry
    model = position.validated(_check_adapter, given)
    for name in given:
        settings = getattr(model, f"{name}_" if name == "schema" else name)
        yield _Check(position, name, {} if settings is None else settings.model_dump())


def _landing_checks(found: Mapping[str, _Check]) -> landing.LandingChecks:
    """The checks as one value. Errors name the line of the check."""
    quarantine, freshness = found.get("quarantine"), found.get("freshness")
    ratio = quarantine.settings.get("max_ratio", 0.0) if quarantine else 0.0
    if quarantine is not None:
        with quarantine.position.located():
            landing.LandingChecks({}, max_quarantine_ratio=ratio)
    manifests = found["manifests"].settings if "manifests" in found else {}
    return landing.LandingChecks(
        severities={_CHECKS[name]: _severity(name, check.settings) for name, check in found.items()},
        blocking=frozenset(_CHECKS[name] for name, check in found.items() if check.settings.get("blocking")),
        deep=manifests.get("deep", False),
        max_quarantine_ratio=ratio,
        fresh_within=None if freshness is None else _age(freshness),
    )


def _severity(name: str, settings: Mapping[str, Any]) -> dg.AssetCheckSeverity:
    if _CHECKS[name] in landing.ERROR_CHECKS:
        return dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckSeverity[settings.get("severity", "WARN")]


def _age(freshness: _Check) -> timedelta:
    """The age that the last sync may have. Raises SettingsError, with the line, if it is not above 0."""
    parts = {name: freshness.settings.get(name, 0) for name in ("days", "hours", "minutes")}
    with freshness.position.located():
        age = timedelta(**parts)
        if age <= timedelta(0):
            raise SettingsError("A check of freshness needs an age above 0, as freshness: {hours: 26}.")
        return age
