"""`stream_asset`: a stream as an asset, from a plain function that returns or yields its records.

Must not know: where records go.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import cache, wraps
from typing import (
    Annotated,
    Any,
    NewType,
    TypedDict,
    Unpack,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
    overload,
)

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import (
    NAMESPACE_KEY,
    TABLE_NAME_KEY,
    check_record_schema,
    partition_values_of,
    partitions_of_run,
    stream_id_of,
    stream_of,
)
from s3dest_dagster.dagster.config import look_up
from s3dest_dagster.dagster.failures import as_dagster_failures
from s3dest_dagster.dagster.lineage import code_of_function
from s3dest_dagster.dagster.run_config import add_run_config, for_stream, run_config_of
from s3dest_dagster.dagster.run_landing import current_execution
from s3dest_dagster.dagster.run_plan import show_plan_of_output
from s3dest_dagster.dagster.step_body import refuse_async, results_of_body, title_of
from s3dest_dagster.dagster.translator import S3DestinationTranslator
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.printable import printable_lines
from s3dest_dagster.settings.schema_contract import SchemaContract
from s3dest_dagster.settings.stream_settings import STREAM_SETTINGS, FieldSelection, OnDeselected, StreamSettings
from s3dest_dagster.sources import Log, OverSlices, Slice
from s3dest_dagster.sources.airbyte.source_report import LOG_LEVELS
from s3dest_dagster.stream import Stream, SyncMode

AssetFunction = Callable[..., Any]
AssetBody = Callable[[dg.AssetExecutionContext, Callable[..., Iterator[Any]]], Iterable[Any]]
"""What a step does: it gets the context and a function `run`, and yields what `run(context)` yields. The streams land
meanwhile, so that it can do things before and after."""


class AssetSettings(TypedDict, total=False):
    """The arguments of `dg.asset` that do not belong to the stream.

    The first group is applied to the translator's spec: a name replaces the translator's, a collection is merged with
    it, and `key_prefix` precedes the translator's key.
    """

    key_prefix: str | Sequence[str] | None
    group_name: str | None
    kinds: Set[str] | None
    tags: Mapping[str, str] | None
    owners: Sequence[str] | None
    metadata: Mapping[str, Any] | None
    deps: Iterable[Any] | None
    code_version: str | None
    automation_condition: dg.AutomationCondition[Any] | None
    freshness_policy: dg.FreshnessPolicy | None

    io_manager_key: str
    backfill_policy: dg.BackfillPolicy | None
    retry_policy: dg.RetryPolicy | None
    pool: str | None
    op_tags: Mapping[str, Any] | None
    ins: Mapping[str, dg.AssetIn] | None
    check_specs: Sequence[dg.AssetCheckSpec] | None
    config_schema: Any
    required_resource_keys: Set[str] | None
    resource_defs: Mapping[str, object] | None
    hooks: Set[dg.HookDefinition] | None


class StreamAssetSettings(AssetSettings, total=False):
    """Further arguments of `stream_asset`: those of `StreamSettings`, which belong to the stream, and those of the
    asset."""

    owner: str | None
    rename: Mapping[Any, str]
    fields: FieldSelection | Mapping[str, Any]
    deselected_fields: OnDeselected
    schema_contract: SchemaContract | Mapping[str, str] | str
    partition_by: Sequence[str | Sequence[str] | Mapping[str, Any]]
    expire_partitions_after: int | None


_MERGED = ("kinds", "tags", "owners", "metadata", "deps")
_REPLACED = ("group_name", "code_version", "automation_condition", "freshness_policy")


@overload
def stream_asset(function: AssetFunction, /) -> dg.AssetsDefinition: ...


@overload
def stream_asset(
    *,
    name: str | None = None,
    namespace: str | None = None,
    json_schema: Mapping[str, Any] | None = None,
    sync_mode: SyncMode | str = SyncMode.FULL_REFRESH,
    description: str | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    translator: S3DestinationTranslator | None = None,
    **settings: Unpack[StreamAssetSettings],
) -> Callable[[AssetFunction], dg.AssetsDefinition]: ...


def stream_asset(
    function: AssetFunction | None = None,
    /,
    *,
    name: str | None = None,
    namespace: str | None = None,
    json_schema: Mapping[str, Any] | None = None,
    sync_mode: SyncMode | str = SyncMode.FULL_REFRESH,
    description: str | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    translator: S3DestinationTranslator | None = None,
    **settings: Unpack[StreamAssetSettings],
) -> dg.AssetsDefinition | Callable[[AssetFunction], dg.AssetsDefinition]:
    """An asset that lands the records of one stream, which the decorated function returns or yields.

    The function may be a generator with any annotation. Its parameters are those of every asset: `context`, config,
    resources, upstream assets. It returns or yields records (dicts, dataclasses, pydantic models…, one by one or in
    lists), or Arrow data from any library. For a run of several partitions it returns a dict or pairs of a partition
    key and such records. It may wrap them in `dg.Output` or `dg.MaterializeResult`, to add to the materialization.

    Args:
        function: Returns or yields the records.
        name: The stream's name; by default the function's.
        namespace: The stream's namespace; by default the prefix of the asset's key, with "/" between its parts. An
            empty text means none.
        json_schema: JSON schema of a record. By default, Arrow data provides its own schema, and the schema of other
            records is inferred from the first batch.
        sync_mode: full_refresh (the default) replaces the records of the stream or partition, append adds to them.
        description: The asset's description; by default the function's docstring.
        partitions_def: Partitions of the asset. Each is landed as a whole or not at all.
        translator: Maps the stream to an asset.
        settings: Further settings of the stream (see `StreamSettings`), such as
            `fields={"exclude": ["person.mail"]}`, and further arguments of `dg.asset` (see `AssetSettings`).

    Raises:
        SettingsError: If the function is asynchronous, if `json_schema` is not the schema of a record, or if a setting
            of the stream is wrong.

    Example:
        import dagster as dg
        from s3dest_dagster import S3DestinationIOManager, stream_asset

        @stream_asset(partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
        def users(context: dg.AssetExecutionContext):
            yield {"id": 1, "day": context.partition_key}

        defs = dg.Definitions(
            assets=[users], resources={"io_manager": S3DestinationIOManager(s3_bucket_name="my-bucket")}
        )
    """

    def decorate(function: AssetFunction) -> dg.AssetsDefinition:
        check_record_schema(json_schema, name or function.__name__)
        own, asset = split_settings(settings)
        asset["metadata"] = {**code_of_function(function), **(asset.get("metadata") or {})}
        if namespace == "":
            asset["metadata"] = {NAMESPACE_KEY: "", **(asset.get("metadata") or {})}
        stream = Stream(
            name=name or function.__name__,
            namespace=namespace,
            json_schema=json_schema,
            sync_mode=sync_mode,  # type: ignore[arg-type]  # Stream also accepts the text
            description=description or inspect.getdoc(function),
            settings=own,
        )
        return build_asset(stream, function, translator or S3DestinationTranslator(), partitions_def, asset)

    return decorate if function is None else decorate(function)


def split_settings(settings: Mapping[str, Any]) -> tuple[StreamSettings, AssetSettings]:
    """The settings of a stream, and those of its asset."""
    own = {name: value for name, value in settings.items() if name in STREAM_SETTINGS}
    rest: Any = {name: value for name, value in settings.items() if name not in own}
    return StreamSettings(**own), rest


def build_asset(
    stream: Stream,
    function: AssetFunction,
    translator: S3DestinationTranslator,
    partitions_def: dg.PartitionsDefinition[Any] | None,
    settings: AssetSettings,
    body: AssetBody | None = None,
) -> dg.AssetsDefinition:
    """Builds the asset of a stream from the translator and the settings. Without a body, its step only lands."""
    spec, step = apply_settings(translator.get_asset_spec(stream), settings)
    spec = name_table(spec, stream)
    partitions = partitions_def or spec.partitions_def
    checks_partitions = stream if partitions is not None else None
    compute = _compute_function(function, checks_partitions, body, has_checks=bool(settings.get("check_specs")))
    step = add_run_config(step, parameter_types(function))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        definition: dg.AssetsDefinition = dg.asset(
            **arguments_of(spec),
            deps=spec.deps,
            freshness_policy=spec.freshness_policy,
            partitions_def=partitions,
            output_required=False,
            **step,
        )(compute)
    return definition


def arguments_of(spec: dg.AssetSpec) -> dict[str, Any]:
    """What `dg.asset` and `dg.graph_asset` both take from a spec."""
    return {
        "key": spec.key,
        "description": spec.description,
        "metadata": spec.metadata,
        "tags": {name: value for name, value in spec.tags.items() if not name.startswith("dagster/kind/")},
        "kinds": spec.kinds,
        "owners": spec.owners,
        "group_name": spec.group_name,
        "code_version": spec.code_version,
        "automation_condition": spec.automation_condition,
    }


def apply_settings(spec: dg.AssetSpec, settings: AssetSettings) -> tuple[dg.AssetSpec, dict[str, Any]]:
    """Applies settings to a spec. Returns the spec, and the settings of the step. Raises TypeError for an unknown
    setting."""
    unknown = settings.keys() - AssetSettings.__optional_keys__
    if unknown:
        raise TypeError(f"A stream asset has no argument {sorted(unknown)[0]!r}.")
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    prefix = given.pop("key_prefix", ())
    replaced = {name: given.pop(name) for name in _REPLACED if name in given}
    merged = {name: given.pop(name) for name in _MERGED if name in given}
    spec = spec.replace_attributes(key=spec.key.with_prefix(prefix), **replaced)
    return spec.merge_attributes(**merged), given


def name_table(spec: dg.AssetSpec, stream: Stream) -> dg.AssetSpec:
    """The spec, which shows the stream under the namespace in which it lands."""
    if spec.metadata.get(TABLE_NAME_KEY) != str(stream.id):
        return spec
    return spec.merge_attributes(metadata={TABLE_NAME_KEY: str(stream_id_of(spec.key, spec.metadata))})


# ---------------------------------------------------------------------- a source's function


def over_slices(stream: Stream, partitions: dg.PartitionsDefinition[Any] | None) -> OverSlices:
    """Turns a function that reads one slice into an asset's function, which reads each partition of the step."""

    def make(read_slice: Callable[[Slice], Any]) -> AssetFunction:
        def read(context: dg.AssetExecutionContext) -> Any:
            log = run_log(context)
            if partitions is None:
                landed = stream_of(context.asset_key, context.assets_def.metadata_by_key[context.asset_key])
                date = for_stream(run_config_of(context), landed.id).start_date
                return read_slice(Slice(None, log, look_up, date))
            keys = partitions_of_run(context, stream.id)
            return {key: read_slice(Slice(partition_values_of(partitions, key), log, look_up)) for key in keys}

        return read

    return make


def run_log(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Log:
    """Returns a function that writes a source's messages to the run's log, at their level."""
    return lambda level, message: context.log.log(LOG_LEVELS[level], "%s", printable_lines(message))


# ---------------------------------------------------------------------- a function as Dagster calls it


def _compute_function(
    function: AssetFunction, partitioned: Stream | None, body: AssetBody | None = None, *, has_checks: bool
) -> AssetFunction:
    """Wraps the function so that Dagster can call it.

    Dagster would iterate a generator itself, and it refuses annotations of iterators.

    Args:
        partitioned: The stream, if it is partitioned. The function is called only for partitions that it has.
        body: What the step does; None: it only lands what the function returns.
        has_checks: Whether the records may include check results. Dagster receives them once the records are landed.
    """
    refuse_async(function, "Make it a plain function or generator")

    def call(*args: Any, **kwargs: Any) -> Any:
        with as_dagster_failures():
            if partitioned is not None and (execution := current_execution()) is not None:
                partitions_of_run(execution, partitioned.id)
            return function(*args, **kwargs)

    def compute_output(*args: Any, **kwargs: Any) -> Any:
        value = call(*args, **kwargs)
        return value if isinstance(value, dg.Output | dg.MaterializeResult) else dg.Output(value)

    def compute_with_checks(*args: Any, **kwargs: Any) -> Iterator[Any]:
        value, results = call(*args, **kwargs), list[dg.AssetCheckResult]()
        if isinstance(value, dg.Output | dg.MaterializeResult):
            yield value
            return
        # Dagster lands the records before it asks for more.
        yield dg.Output(_without_results(value, results))
        yield from results

    compute = compute_with_checks if has_checks else compute_output
    if body is not None:
        compute = _with_body(body, compute_output)
    return _with_signature_of(function, _unless_planned(function, compute))


def _with_body(body: AssetBody, compute: AssetFunction) -> AssetFunction:
    """A generator that runs the body. Its `run` yields the output, which Dagster lands before it asks for more."""

    def compute_with_body(*args: Any, **kwargs: Any) -> Iterator[Any]:
        def run(context: dg.AssetExecutionContext) -> Iterator[Any]:
            yield compute(*args, **kwargs)

        execution = current_execution()
        assert execution is not None, "a body runs within a step"
        with as_dagster_failures():
            yield from results_of_body(
                title_of(body), lambda run: body(execution, run), run, execution.selected_asset_keys
            )

    return compute_with_body


def _unless_planned(function: AssetFunction, compute: AssetFunction) -> AssetFunction:
    """The function, which is not called if the run only shows its plan."""

    @wraps(function)
    def planned_or_computed(*args: Any, **kwargs: Any) -> Any:
        with as_dagster_failures():
            execution = current_execution()
            if execution is not None and (config := run_config_of(execution)).plan:
                show_plan_of_output(execution, config)
                # Dagster skips the assets that need an output which does not come.
                return _no_output()
        return compute(*args, **kwargs)

    return planned_or_computed


def _no_output() -> Iterator[Any]:
    """A generator without elements."""
    yield from ()


def _without_results(value: Any, results: list[dg.AssetCheckResult]) -> Any:
    """Returns the value. If it is a generator, moves the check results among its elements to `results`."""
    if not inspect.isgenerator(value):
        return value

    def records() -> Iterator[Any]:
        for element in value:
            if isinstance(element, dg.AssetCheckResult):
                results.append(element)
            else:
                yield element

    return records()


def _with_signature_of(function: AssetFunction, compute: Any) -> AssetFunction:
    types = parameter_types(function)
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=types.get(name, parameter.empty))
        for name, parameter in signature.parameters.items()
    ]
    compute.__signature__ = inspect.Signature(parameters)
    compute.__annotations__ = types
    return cast(AssetFunction, compute)


def parameter_types(function: AssetFunction) -> dict[str, Any]:
    """The parameters' annotations for Dagster. Texts are looked up in the function's module.

    The return annotation is left out, because it may name types that are imported only for type checkers.
    """

    def stub() -> None: ...

    stub.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
    try:
        types = get_type_hints(stub, globalns=inspect.unwrap(function).__globals__, include_extras=True)
    except NameError as error:
        raise SettingsError(
            f"An annotation of {function.__name__}'s parameters cannot be looked up: {error}. Import what it names "
            "where the function is defined, and not for type checkers only.",
            setting="annotation",
        ) from None
    return {name: _annotation_for_dagster(kind) for name, kind in types.items()}


_RESOURCE_MARK: Any = cast(Any, dg.ResourceParam).__metadata__
"""How Dagster marks the annotation of a resource."""


def _annotation_for_dagster(annotation: Any) -> Any:
    """The annotation if Dagster accepts it, otherwise a Dagster type that wraps it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation
    if get_origin(annotation) is Annotated:
        is_resource = annotation.__metadata__ == _RESOURCE_MARK
        return annotation if is_resource else _annotation_for_dagster(get_args(annotation)[0])
    try:
        dg.In(annotation)
    except dg.DagsterInvalidDefinitionError:
        return _dagster_type(annotation)
    # Dagster accepts a list of TypedDicts, but fails when it checks a value against it.
    return _dagster_type(annotation) if any(map(is_typeddict, get_args(annotation))) else annotation


@cache
def _dagster_type(annotation: Any) -> dg.DagsterType:
    name = annotation.__name__ if isinstance(annotation, NewType) else str(annotation)
    return dg.DagsterType(lambda _, value: True, name=name, typing_type=annotation)
