"""Several streams of one source as one asset definition: a single run of the source lands all selected streams.

The step itself lands them side by side (`source_run`), because its outputs would reach an IO manager one after another.
The IO manager determines where to land, and loads the streams for downstream assets. Must not know: how the step reads
and lands.
"""

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from functools import partial
from typing import Any, cast

import dagster as dg

from s3dest_dagster.dagster.assets import AssetSettings, apply_settings, name_table, parameter_types
from s3dest_dagster.dagster.failures import as_dagster_failures
from s3dest_dagster.dagster.run_config import add_run_config, run_config_of
from s3dest_dagster.dagster.run_landing import landing_resource
from s3dest_dagster.dagster.run_plan import show_plan
from s3dest_dagster.dagster.source_metadata import versioned
from s3dest_dagster.dagster.source_run import land_streams
from s3dest_dagster.dagster.source_step import SourceStep
from s3dest_dagster.dagster.step_body import refuse_async, results_of_body, title_of
from s3dest_dagster.dagster.translator import S3DestinationTranslator, asset_name, check_distinct
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources import MultiStreamSource
from s3dest_dagster.stream import Stream

_RUN, _CONTEXT = "run", "context"


def build_multi_asset(
    source: MultiStreamSource,
    streams: Sequence[Stream],
    translator: S3DestinationTranslator,
    partitions: dg.PartitionsDefinition[Any] | None,
    settings: AssetSettings,
    name: str | None,
    body: Callable[..., Any] | None = None,
) -> dg.AssetsDefinition:
    """Builds one definition with an asset for each stream.

    Args:
        name: The step's name; None names it after the source.
        body: A function that lands the streams by its parameter `run`, and does what it wants before and after. None:
            the step only lands them.
    """
    io_manager_key = settings.get("io_manager_key") or "io_manager"
    op: dict[str, Any] = {}
    specs: list[dg.AssetSpec] = []
    for stream in streams:
        spec, op = apply_settings(versioned(translator.get_asset_spec(stream), source), settings)
        spec = name_table(spec, stream)
        specs.append(spec.with_io_manager_key(io_manager_key).replace_attributes(skippable=body is not None))
    check_distinct((stream, spec.key) for stream, spec in zip(streams, specs, strict=True))
    partitions = partitions or _common_partitions(specs)
    op.pop("io_manager_key", None)
    op = add_run_config(op, parameter_types(body) if body is not None else None)
    resource_keys = {io_manager_key, *op.pop("required_resource_keys", ())}
    keys = {stream.id: spec.key for stream, spec in zip(streams, specs, strict=True)}
    step = SourceStep(name or _step_name(source, specs), source, streams, keys, partitions)
    read = (
        _function_of(step, io_manager_key)
        if body is None
        else _function_around(step, io_manager_key, body, resource_keys)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        return dg.multi_asset(
            name=step.name,
            specs=[spec.replace_attributes(partitions_def=partitions) for spec in specs],
            can_subset=True,
            partitions_def=partitions,
            # Dagster refuses resource keys together with parameters that are resources.
            required_resource_keys=resource_keys if body is None else None,
            **op,
        )(read)


def _function_of(step: SourceStep, io_manager_key: str) -> Callable[..., Any]:
    """The function of a step that lands the selected streams."""

    def read(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        with as_dagster_failures():
            resource, config = landing_resource(context, io_manager_key), run_config_of(context)
            if config.plan:
                show_plan(context, step.selected(context), resource, config)
            else:
                yield from land_streams(step, context, resource, config)

    return read


def _function_around(
    step: SourceStep, io_manager_key: str, body: Callable[..., Any], resource_keys: Set[str]
) -> Callable[..., Any]:
    """The function of a step that runs the body, unless the run only shows its plan.

    Its parameters are those of the body without `run`, and resources.
    """
    refuse_async(body, "Make it a plain generator that yields what run(context) yields")
    title, own = title_of(body), dict(inspect.signature(body).parameters)
    if _RUN not in own:
        raise SettingsError(
            f"{title} has no parameter 'run', so that it cannot land anything. Add it, and `yield from run(context)`.",
            setting=_RUN,
        )

    def read(context: dg.AssetExecutionContext, **given: Any) -> Iterator[Any]:
        with as_dagster_failures():
            resource, config = landing_resource(context, io_manager_key), run_config_of(context)
            if config.plan:
                show_plan(context, step.selected(context), resource, config)
                return

            def run(context: dg.AssetExecutionContext, streams: Collection[str] | None = None) -> Iterator[Any]:
                return land_streams(step, context, resource, config, only=streams)

            def call(run: Callable[..., Iterator[Any]]) -> Any:
                known = {**given, _CONTEXT: context, _RUN: run}
                return body(**{name: known[name] for name in own if name in known})

            yield from results_of_body(title, call, run, context.selected_asset_keys)

    types = {name: kind for name, kind in parameter_types(body).items() if name not in (_CONTEXT, _RUN)}
    types |= dict.fromkeys(resource_keys - own.keys(), cast(Any, dg.ResourceParam)[Any])
    names = dict.fromkeys([*(name for name in own if name not in (_CONTEXT, _RUN)), *types])
    named = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    rest = [named(name, annotation=types.get(name, inspect.Parameter.empty)) for name in names]
    first = inspect.Parameter(_CONTEXT, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    read.__signature__ = inspect.Signature([first, *rest])  # type: ignore[attr-defined]
    read.__annotations__ = types
    read.__doc__ = body.__doc__
    return read


def _step_name(source: MultiStreamSource, specs: Sequence[dg.AssetSpec]) -> str:
    """A unique step name, from the names of the source and its first asset."""
    return f"{asset_name(source.name)}__{specs[0].key.to_python_identifier()}"


def _common_partitions(specs: Sequence[dg.AssetSpec]) -> dg.PartitionsDefinition[Any] | None:
    """The translator's partitions. They must be the same for all assets, because one run reads one partition."""
    first = specs[0].partitions_def
    for spec in specs:
        if spec.partitions_def != first:
            raise SettingsError(
                f"{specs[0].key.to_user_string()} and {spec.key.to_user_string()} have different partitions, and one "
                "run of a connector reads one. Give them the same, or build them apart.",
                setting="partitions_def",
            )
    return first
