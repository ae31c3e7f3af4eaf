"""Streams as assets: a decorator over a plain function that returns or yields records.

It knows what an asset declares; it must not know where records go.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import wraps
from typing import Any, TypedDict, Unpack, cast, get_type_hints, overload

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import check_record_schema, partitions_of_run
from s3dest_dagster.dagster.failures import as_dagster_failures
from s3dest_dagster.dagster.loading import for_dagster
from s3dest_dagster.dagster.run_landing import current_execution
from s3dest_dagster.dagster.translator import S3DestinationTranslator
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.stream import Stream, SyncMode

Body = Callable[..., Any]


class AssetSettings(TypedDict, total=False):
    """What `dg.asset` takes beside the stream itself. Of the first ones, those that are given are put on top of what
    the translator says: names replace, collections are merged; `key_prefix` stands before the translator's key."""

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


_MERGED = ("kinds", "tags", "owners", "metadata", "deps")
_REPLACED = ("group_name", "code_version", "automation_condition", "freshness_policy")


@overload
def stream_asset(body: Body, /) -> dg.AssetsDefinition: ...


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
    **asset: Unpack[AssetSettings],
) -> Callable[[Body], dg.AssetsDefinition]: ...


def stream_asset(
    body: Body | None = None,
    /,
    *,
    name: str | None = None,
    namespace: str | None = None,
    json_schema: Mapping[str, Any] | None = None,
    sync_mode: SyncMode | str = SyncMode.FULL_REFRESH,
    description: str | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    translator: S3DestinationTranslator | None = None,
    **asset: Unpack[AssetSettings],
) -> dg.AssetsDefinition | Callable[[Body], dg.AssetsDefinition]:
    """Makes an asset of a function that returns or yields the records of one stream.

    The function may be a generator, annotated as one likes; its parameters are those of any asset: `context`, config,
    resources, upstream assets. It gives records (dicts, dataclasses, pydantic models…, singly or in lists), or Arrow
    data of any library, or, for a run of several partitions, a dict or pairs of a partition key and such records. It
    may return `dg.Output` or `dg.MaterializeResult` around them, to say more about the materialization.

    `name` is the stream's (by default the function's), `description` its own (by default the docstring).
    `json_schema` describes a record; without it Arrow data brings its schema, and for other records the first batch
    tells. `sync_mode` is full_refresh or append. Each partition of `partitions_def` is landed for itself. `asset` are
    arguments of `dg.asset`, see `AssetSettings`.
    """

    def decorate(body: Body) -> dg.AssetsDefinition:
        check_record_schema(json_schema, name or body.__name__)
        stream = Stream(
            name=name or body.__name__,
            namespace=namespace,
            json_schema=json_schema,
            sync_mode=sync_mode,  # type: ignore[arg-type]  # Stream takes the text, too
            description=description or inspect.getdoc(body),
        )
        return asset_of(stream, body, translator or S3DestinationTranslator(), partitions_def, asset)

    return decorate if body is None else decorate(body)


def asset_of(
    stream: Stream,
    body: Body,
    translator: S3DestinationTranslator,
    partitions_def: dg.PartitionsDefinition[Any] | None,
    settings: AssetSettings,
) -> dg.AssetsDefinition:
    """The asset that is this stream, with what the translator and the settings say about it."""
    spec, step = described(translator.get_asset_spec(stream), settings)
    partitions = partitions_def or spec.partitions_def
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        made: dg.AssetsDefinition = dg.asset(
            key=spec.key,
            description=spec.description,
            deps=spec.deps,
            metadata=spec.metadata,
            tags={name: value for name, value in spec.tags.items() if not name.startswith("dagster/kind/")},
            kinds=spec.kinds,
            owners=spec.owners,
            group_name=spec.group_name,
            code_version=spec.code_version,
            automation_condition=spec.automation_condition,
            freshness_policy=spec.freshness_policy,
            partitions_def=partitions,
            **step,
        )(_handing_over(body, stream if partitions is not None else None, checked=bool(settings.get("check_specs"))))
    return made


def described(spec: dg.AssetSpec, settings: AssetSettings) -> tuple[dg.AssetSpec, dict[str, Any]]:
    """The spec with the settings on top, and those settings that concern the step. TypeError for unknown ones."""
    unknown = settings.keys() - AssetSettings.__optional_keys__
    if unknown:
        raise TypeError(f"A stream asset has no argument {sorted(unknown)[0]!r}.")
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    prefix = given.pop("key_prefix", ())
    on_top = {name: given.pop(name) for name in _REPLACED if name in given}
    merged = {name: given.pop(name) for name in _MERGED if name in given}
    spec = spec.replace_attributes(key=spec.key.with_prefix(prefix), **on_top)
    return spec.merge_attributes(**merged), given


def _handing_over(body: Body, partitioned: Stream | None, *, checked: bool = False) -> Body:
    """The body as Dagster can call it: it would iterate a generator itself, and refuses annotations of iterators.

    The body of a `partitioned` stream is only called for partitions that the stream has. One whose asset is `checked`
    may give results of checks among its records, which Dagster gets once these are landed.
    """
    if inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
        raise SettingsError(
            f"{body.__name__} is asynchronous, and records are landed as they come. Make it a plain function or "
            "generator; run asynchronous code inside of it with asyncio.run.",
            setting="body",
        )

    def handed_over(*args: Any, **kwargs: Any) -> Any:
        with as_dagster_failures():
            if partitioned is not None and (execution := current_execution()) is not None:
                partitions_of_run(execution, partitioned.id)
            return body(*args, **kwargs)

    @wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        handed = handed_over(*args, **kwargs)
        return handed if isinstance(handed, dg.Output | dg.MaterializeResult) else dg.Output(handed)

    @wraps(body)
    def run_with_checks(*args: Any, **kwargs: Any) -> Iterator[Any]:
        handed, results = handed_over(*args, **kwargs), list[dg.AssetCheckResult]()
        if isinstance(handed, dg.Output | dg.MaterializeResult):
            yield handed
            return
        # Dagster lands the records before it asks for more.
        yield dg.Output(_without_results(handed, results))
        yield from results

    made: Any = run_with_checks if checked else run
    signature, kinds = inspect.signature(body), _parameter_types(body)
    parameters = [each.replace(annotation=kinds.get(name, each.empty)) for name, each in signature.parameters.items()]
    made.__signature__ = inspect.Signature(parameters)
    made.__annotations__ = kinds
    return cast(Body, made)


def _without_results(handed: Any, results: list[dg.AssetCheckResult]) -> Any:
    """What was handed over; of a generator, without the results of checks among its elements, which are put in
    `results`."""
    if not inspect.isgenerator(handed):
        return handed
    return (each for each in handed if not _taken(each, results))


def _taken(element: Any, results: list[dg.AssetCheckResult]) -> bool:
    if isinstance(element, dg.AssetCheckResult):
        results.append(element)
        return True
    return False


def _parameter_types(body: Body) -> dict[str, Any]:
    """The annotations of the parameters, those that are texts looked up where the body was written; not the return's,
    which may name what is imported for type checkers only."""

    def stub() -> None: ...

    stub.__annotations__ = {name: kind for name, kind in body.__annotations__.items() if name != "return"}
    try:
        found = get_type_hints(stub, globalns=inspect.unwrap(body).__globals__, include_extras=True)
    except NameError as error:
        raise SettingsError(
            f"An annotation of {body.__name__}'s parameters cannot be looked up: {error}. Import what it names where "
            "the function stands, and not for type checkers only.",
            setting="annotation",
        ) from None
    return {name: for_dagster(kind) for name, kind in found.items()}
