"""`sharded_stream_asset`: a stream as an asset whose shards are steps, which an executor runs in many processes.

The graph has three ops: the first begins an order, the second stages one shard and runs once for each, and the third
hands all receipts to the IO manager, which commits them. Must not know: how shards are staged and committed.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack, cast

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import check_record_schema, partition_scopes, stream_of
from s3dest_dagster.dagster.assets import (
    AssetSettings,
    StreamAssetSettings,
    apply_settings,
    arguments_of,
    name_table,
    parameter_types,
    split_settings,
)
from s3dest_dagster.dagster.failures import as_dagster_failures, located
from s3dest_dagster.dagster.run_config import (
    StreamRunConfig,
    destination_of_run,
    for_stream,
    refuse_settings,
    run_config_of,
    stream_of_run,
)
from s3dest_dagster.dagster.run_landing import ProgressLines, landing_resource, new_sync, now
from s3dest_dagster.dagster.run_plan import show_plan
from s3dest_dagster.dagster.step_body import refuse_async, title_of
from s3dest_dagster.dagster.step_values import STEP_VALUE_TAG, ShardPlan, ShardTask, StagedReceipt, StagedShards
from s3dest_dagster.dagster.translator import S3DestinationTranslator
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.shards import begin, stage
from s3dest_dagster.shards.receipts import ShardId
from s3dest_dagster.stream import Scope, Stream, SyncMode

ShardFunction = Callable[..., Any]
Shards = int | Sequence[str] | Callable[[dg.OpExecutionContext], Iterable[str]]
"""The shards of a sync: their number, their names, or a function that names them when the run begins."""
SchemaFunction = Callable[[dg.OpExecutionContext], Mapping[str, Any]]
"""Finds the JSON schema of a record when the run begins."""
_SHARD, _TASK, _CONTEXT = "shard", "task", "context"
_RESOURCE: Any = cast(Any, dg.ResourceParam)[Any]


def sharded_stream_asset(
    *,
    shards: Shards,
    json_schema: Mapping[str, Any],
    name: str | None = None,
    namespace: str | None = None,
    sync_mode: SyncMode | str = SyncMode.FULL_REFRESH,
    description: str | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    translator: S3DestinationTranslator | None = None,
    **settings: Unpack[StreamAssetSettings],
) -> Callable[[ShardFunction], dg.AssetsDefinition]:
    """An asset whose records come from many steps, which are published together or not at all.

    The decorated function returns or yields the records of one shard. It has a parameter `shard`, and may have
    `context`, resources and config. Each shard is a step: the multiprocess executor runs them on all cores of a
    machine, and celery or Kubernetes on many machines. A step that fails or is killed is executed again, alone, by a
    retry policy or by re-execution from failure.

    Args:
        shards: The number of shards, which are then 0, 1, 2 …; or their names; or a function that gets the context of
            the first step and returns their names.
        json_schema: JSON schema of a record. The steps must not guess it from their own records.
        name, namespace, sync_mode, description, partitions_def, translator: See `stream_asset`. Each run lands one
            partition.
        settings: As for `stream_asset`. `retry_policy` and `pool` are those of the steps of the shards. A sharded
            asset has no `ins` and no `check_specs`.

    Raises:
        SettingsError: The function has no parameter `shard` or is asynchronous, or a setting is wrong.

    Example:
        import dagster as dg
        from s3dest_dagster import S3DestinationIOManager, sharded_stream_asset

        SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}}

        @sharded_stream_asset(shards=4, json_schema=SCHEMA)
        def events(shard: int):
            yield from ({"id": number} for number in range(shard, 100, 4))

        defs = dg.Definitions(
            assets=[events], resources={"io_manager": S3DestinationIOManager(s3_bucket_name="my-bucket")}
        )
    """

    def decorate(function: ShardFunction) -> dg.AssetsDefinition:
        refuse_async(function, "Make it a plain function or generator")
        check_record_schema(json_schema, name or function.__name__)
        own, asset = split_settings(settings)
        stream = Stream(
            name=name or function.__name__,
            namespace=namespace,
            json_schema=json_schema,
            sync_mode=sync_mode,  # type: ignore[arg-type]  # Stream also accepts the text
            description=description or inspect.getdoc(function),
            settings=own,
        )
        return build_sharded_asset(
            stream, function, shards, translator or S3DestinationTranslator(), partitions_def, asset
        )

    return decorate


def build_sharded_asset(
    stream: Stream,
    function: ShardFunction,
    shards: Shards,
    translator: S3DestinationTranslator,
    partitions_def: dg.PartitionsDefinition[Any] | None,
    settings: AssetSettings,
    *,
    json_schema: SchemaFunction | None = None,
) -> dg.AssetsDefinition:
    """Builds the sharded asset of a stream from the translator and the settings.

    Args:
        json_schema: Returns the schema of a stream that declares none. The first step calls it.
    """
    spec, step = apply_settings(translator.get_asset_spec(stream), settings)
    spec = name_table(spec, stream)
    graph = _ShardGraph(function, shards, spec, step.pop("io_manager_key", "io_manager"), step, json_schema)
    return graph.asset(partitions_def or spec.partitions_def)


def _records_of(function: ShardFunction, shard: ShardId, arguments: Mapping[str, Any]) -> Any:
    """What the function returns for one shard. Raises SettingsError for None: a forgotten `return` would look like a
    shard without records, and the stream would be published without them."""
    records = function(**arguments)
    if records is None:
        raise SettingsError(
            f"{title_of(function)} returned nothing for the shard {shard!r}. Return or yield its records, or return an "
            "empty list if it has none.",
            setting="body",
        )
    return records


@dataclass(frozen=True)
class _ShardGraph:
    """The ops of a sharded asset."""

    function: ShardFunction
    shards: Shards
    spec: dg.AssetSpec
    io_manager_key: str
    step: Mapping[str, Any]
    """The settings of the steps that stage shards."""
    json_schema: SchemaFunction | None
    """The schema of a stream that declares none."""

    def asset(self, partitions: dg.PartitionsDefinition[Any] | None) -> dg.AssetsDefinition:
        """The asset."""
        begin_op, stage_op, land_op = self._begin_op(), self._stage_op(), self._land_op()
        spec, step = self.spec, self.step

        def graph() -> Any:
            tasks, plan = begin_op()
            return land_op(plan, tasks.map(stage_op).collect())

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=dg.BetaWarning)
            return dg.graph_asset(
                **arguments_of(spec),
                partitions_def=partitions,
                **{name: step[name] for name in ("backfill_policy", "resource_defs", "hooks") if name in step},
            )(graph)

    def _op_settings(self, name: str) -> dict[str, Any]:
        """The settings that all three ops have."""
        tags = {STEP_VALUE_TAG: "true", **(self.step.get("op_tags") or {})}
        return {"name": f"{self.spec.key.to_python_identifier()}__{name}", "tags": tags}

    @property
    def _resource_keys(self) -> set[str]:
        """The resources that a step can look up in its context."""
        return {self.io_manager_key, *(self.step.get("required_resource_keys") or ())}

    def _begin_op(self) -> Any:
        def begin_order(context: dg.OpExecutionContext) -> Iterator[Any]:
            with as_dagster_failures():
                config = run_config_of(context)
                if config.plan:
                    self._show_plan(context, config)
                    return
                plan = self._plan(context, config)
            for number, shard in enumerate(plan.shards):
                yield dg.DynamicOutput(ShardTask(plan.order, shard), mapping_key=str(number), output_name="tasks")
            yield dg.Output(plan, output_name="plan")

        out = {
            "tasks": dg.DynamicOut(io_manager_key=self.io_manager_key),
            "plan": dg.Out(io_manager_key=self.io_manager_key, is_required=False),
        }
        keys = self._resource_keys
        return dg.op(out=out, required_resource_keys=keys, **self._op_settings("begin"))(
            _without_annotations(begin_order)
        )

    def _show_plan(self, context: dg.OpExecutionContext, config: StreamRunConfig) -> None:
        key = context.asset_key
        stream = stream_of(key, context.assets_def.metadata_by_key[key])
        show_plan(context, {key: stream}, landing_resource(context, self.io_manager_key), config)

    def _plan(self, context: dg.OpExecutionContext, config: StreamRunConfig) -> ShardPlan:
        """Begins the order of the step's only scope."""
        resource = landing_resource(context, self.io_manager_key)
        shards = self.shards(context) if callable(self.shards) else self.shards
        names: tuple[ShardId, ...] = tuple(range(shards)) if isinstance(shards, int) else tuple(map(str, shards))
        if len(set(names)) < len(names):
            raise SettingsError("Two shards have the same name. Give each another one.", setting="shards")
        definition = context.assets_def
        stream = stream_of(context.asset_key, definition.metadata_by_key[context.asset_key])
        if stream.json_schema is None and self.json_schema is not None:
            stream = replace(stream, json_schema=self.json_schema(context))
        config = for_stream(config, stream.id)
        reason = "Its shards are read side by side, each from its beginning. Try out a single shard or partition."
        refuse_settings(config, ["start_date", "state", "record_limit", "time_limit_s"], str(stream.id), reason)
        destination = destination_of_run(config, resource.destination())
        stream = stream_of_run(config, stream, destination)
        scope = _scope(context, stream, definition.partitions_def)
        sync = new_sync(context.asset_key, scope.partition)
        with (
            located(scope),
            open_target(destination, resource.bucket(), clock=now, entropy=os.urandom) as target,
        ):
            order = begin(target, stream, sync, scope, asset=context.asset_key.to_user_string())
        context.log.info(f"{scope}: sync {order.sync_id} has {len(names):,} shards.")
        return ShardPlan(order, names)

    def _stage_op(self) -> Any:
        function = self.function
        parameters = dict(inspect.signature(function).parameters)
        if _SHARD not in parameters:
            raise SettingsError(
                f"{function.__name__} has no parameter 'shard', so that all of its steps would land the same records. "
                "Add it, and return the records of that shard.",
                setting=_SHARD,
            )

        def stage_one(context: dg.OpExecutionContext, task: ShardTask, **others: Any) -> StagedReceipt:
            known = {**others, _SHARD: task.shard, _CONTEXT: context}
            own = {name: known[name] for name in parameters if name in known}
            with as_dagster_failures():
                read = partial(_records_of, function, task.shard, own)
                return StagedReceipt(self._staged(context, task, read))

        types = {name: kind for name, kind in parameter_types(function).items() if name not in (_SHARD, _CONTEXT)}
        # Dagster refuses resource keys together with parameters that are resources.
        types |= dict.fromkeys(self._resource_keys - parameters.keys(), _RESOURCE)
        names = dict.fromkeys([*(each for each in parameters if each not in (_SHARD, _CONTEXT)), *types])
        first = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in (_CONTEXT, _TASK)]
        named = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
        rest = [named(name, annotation=types.get(name, inspect.Parameter.empty)) for name in names]
        stage_one.__signature__ = inspect.Signature([*first, *rest])  # type: ignore[attr-defined]
        stage_one.__annotations__ = types
        given = {name: self.step[name] for name in ("retry_policy", "pool", "config_schema") if name in self.step}
        return dg.op(out=dg.Out(io_manager_key=self.io_manager_key), **self._op_settings("shard"), **given)(stage_one)

    def _staged(self, context: dg.OpExecutionContext, task: ShardTask, read: Callable[[], Any]) -> Any:
        """Reads and stages one shard."""
        resource = landing_resource(context, self.io_manager_key)
        order, title = task.order, f"{task.order.scope}, shard {task.shard}"
        with located(order.scope):
            receipt = stage(
                order,
                read() if not order.complete else (),
                shard=task.shard,
                s3=resource.bucket(),
                hash_key=resource.destination().hash_key,
                on_progress=partial(ProgressLines(title, context.log.info).update, order.scope.stream),
            )
        context.log.info(f"{title}: {receipt.rows:,} rows staged.")
        return receipt

    def _land_op(self) -> Any:
        def land(plan: ShardPlan, receipts: list[StagedReceipt]) -> StagedShards:
            return StagedShards(plan, [each.receipt for each in receipts])

        out = dg.Out(io_manager_key=self.io_manager_key, metadata=self.spec.metadata)
        ins = {"plan": dg.In(dg.Any), "receipts": dg.In(dg.Any)}
        return dg.op(out=out, ins=ins, **self._op_settings("land"))(_without_annotations(land))


def _without_annotations(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose annotations Dagster would have to look up."""
    function.__annotations__ = {}
    return function


def _scope(context: dg.OpExecutionContext, stream: Stream, partitions: dg.PartitionsDefinition[Any] | None) -> Scope:
    """The scope that a run lands. Raises SettingsError if it has several partitions."""
    if partitions is None:
        return Scope(stream.id)
    keys = context.partition_keys
    if len(keys) != 1:
        raise SettingsError(
            f"{stream.id}: this run has {len(keys)} partitions, and the shards of a run are those of one. Let each "
            "partition have its own run (without BackfillPolicy.single_run()).",
            stream=str(stream.id),
            setting="backfill_policy",
        )
    return next(iter(partition_scopes(stream.id, partitions, keys).values()))
