"""The settings of one run: a full refresh now, another start, a plan only, a limit, an exception from a rule.

They come from the config of a step or from tags of the run, and are checked here. Must not know: how records are read
or landed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
from pydantic import Field, ValidationError

from s3dest_dagster.dagster.asset_metadata import stream_of
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.ingest.encoding import contract_of
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.schema_contract import SchemaContract
from s3dest_dagster.sources.airbyte.states import GivenState, read_states
from s3dest_dagster.stream import Stream, StreamId, SyncMode

TAG_PREFIX = "s3dest/"
_MARK = "s3dest/run_config"
"""The tag of ops whose config has the settings of a run, with who reads them: `library`, or `function` as well."""


class StreamRunConfig(dg.Config):
    """The settings of one run. Each has a default with which the run does what the stream's definition says.

    Every stream asset has them as the config of its step, unless its function has a config of its own. Derive that
    config from this class to have both. Each setting can also be a tag of the run, such as `s3dest/full_refresh`.

    Example:
        import dagster as dg
        from s3dest_dagster import StreamRunConfig, stream_asset

        class OrdersConfig(StreamRunConfig):
            region: str = "eu"

        @stream_asset
        def orders(config: OrdersConfig):
            yield {"id": 1, "region": config.region, "since": config.start_date}
    """

    full_refresh: bool = Field(
        default=False,
        description="Read the streams from the beginning and replace everything that they have landed. In the same "
        "commit their state becomes the one that this run reaches.",
    )
    streams: list[str] = Field(
        default=[],
        description="The streams for which full_refresh, start_date, state and schema_contract hold, by name. None: "
        "all streams of the run.",
    )
    start_date: str | None = Field(
        default=None,
        description="Read from this date on instead of from the last state. It replaces start_date in the connector's "
        "config for this run.",
    )
    state: str | None = Field(
        default=None,
        description="Go on from this state instead of the last one: JSON, as `s3dest state show` prints it.",
    )
    plan: bool = Field(
        default=False,
        description="Only show what the run would do. Nothing is read or landed, no asset is materialized, and "
        "downstream assets are skipped.",
    )
    record_limit: int | None = Field(
        default=None, description="Land at most so many records of each stream or partition, to try it out."
    )
    time_limit_s: float | None = Field(
        default=None, description="Stop each call of a source after so many seconds, at the next record, to try it out."
    )
    allow_partial: bool = Field(
        default=False,
        description="Let a limit or a start_date replace the whole data of a stream or partition with a part of it.",
    )
    on_template_change: str | None = Field(
        default=None, description='"accept" or "fail": what the setting of this name is in this run.'
    )
    schema_contract: dict[str, str] = Field(
        default={},
        description='Verdicts of the schema contract for this run, such as {"new_column": "evolve"} to accept a new '
        "column once. The others stay as they are.",
    )


_DEFAULTS = StreamRunConfig()
CONFIG_SCHEMA: Mapping[str, Any] = StreamRunConfig.to_fields_dict()
"""The settings as the config schema of an op."""
_NAMES = tuple(StreamRunConfig.model_fields)


def add_run_config(step: Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of an op with the settings of a run as its config, unless it has another config.

    Args:
        step: The arguments of the op.
        parameters: The types of the function's parameters, by name. A config that is derived from `StreamRunConfig`
            is read by the function and by the library.
    """
    own = (parameters or {}).get("config")
    if isinstance(own, type) and issubclass(own, StreamRunConfig):
        return {**step, "op_tags": {**(step.get("op_tags") or {}), _MARK: "function"}}
    if "config" in (parameters or {}) or step.get("config_schema") is not None:
        return dict(step)
    return {**step, "config_schema": CONFIG_SCHEMA, "op_tags": {**(step.get("op_tags") or {}), _MARK: "library"}}


def function_reads_config(context: dg.AssetExecutionContext) -> bool:
    """Whether the function of the step has the settings in its own config."""
    return bool(context.op_def.tags.get(_MARK) == "function")


# ---------------------------------------------------------------------- from the config and the tags of a run


def run_config_of(context: dg.AssetExecutionContext | dg.OpExecutionContext | None) -> StreamRunConfig:
    """The settings of the step's run, from its config and the run's tags. The defaults outside of a run.

    Raises:
        SettingsError: A setting or a tag is wrong, they contradict each other, or a stream is not known.
    """
    if context is None:
        return _DEFAULTS
    op_config = context.op_execution_context.op_config if isinstance(context, dg.AssetExecutionContext) else None
    given = op_config if isinstance(op_config, Mapping) and _MARK in context.op_def.tags else {}
    configured = {name: given[name] for name in _NAMES if given.get(name, _default(name)) != _default(name)}
    tagged = _read_tags(context.run.tags)
    for name in configured.keys() & tagged.keys():
        if configured[name] != tagged[name]:
            raise _wrong(
                name,
                f"The run's config says {configured[name]!r} for {name}, and its tag {TAG_PREFIX}{name} says "
                f"{tagged[name]!r}. Give one of them.",
            )
    if not configured and not tagged:
        return _DEFAULTS
    config = _checked(configured | tagged)
    if config.streams and context.has_assets_def:
        _check_streams(configured.get("streams", ()), _streams_of(context.assets_def, context.assets_def.keys))
        _check_streams(tagged.get("streams", ()), _streams_of_job(context))
    return config


def _default(name: str) -> Any:
    return getattr(_DEFAULTS, name)


def _read_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    """The settings among the tags of a run. Raises SettingsError for a tag that is not known."""
    found = {name.removeprefix(TAG_PREFIX): text for name, text in tags.items() if name.startswith(TAG_PREFIX)}
    for name in found:
        if name not in _NAMES:
            raise _wrong(
                name,
                f"The run has the tag {TAG_PREFIX}{name}, which is no setting of a run. {did_you_mean(name, _NAMES)}",
            )
    return {name: _read_tag(name, text) for name, text in found.items()}


def _read_tag(name: str, text: str) -> Any:
    """The value that a tag's text has as a setting."""
    if name == "streams":
        return [each.strip() for each in text.split(",") if each.strip()]
    if name in ("start_date", "state", "on_template_change"):
        return text
    try:
        value = json.loads(text)
        return getattr(StreamRunConfig(**{name: value}), name)
    except (ValueError, ValidationError, TypeError):
        kind = {
            "schema_contract": "a JSON object of texts",
            "record_limit": "a whole number",
            "time_limit_s": "a number",
        }
        raise _wrong(name, f"The tag {TAG_PREFIX}{name} is {text!r}. Give {kind.get(name, 'true or false')}.") from None


def _checked(values: Mapping[str, Any]) -> StreamRunConfig:
    """The settings. Raises SettingsError if one is wrong, or if they contradict each other."""
    config = StreamRunConfig(**values)
    for name in ("record_limit", "time_limit_s"):
        if (limit := getattr(config, name)) is not None and limit <= 0:
            raise _wrong(name, f"{name} is {limit}. Give a number above zero, or leave it out for no limit.")
    if config.on_template_change not in (None, "accept", "fail"):
        raise _wrong(
            "on_template_change", f"on_template_change is {config.on_template_change!r}. Give 'accept' or 'fail'."
        )
    SchemaContract.of(config.schema_contract)
    if config.state is not None:
        given_states(config)
        for other in ("full_refresh", "start_date"):
            if getattr(config, other):
                raise _wrong("state", f"state and {other} both say where the run begins. Give one of them.")
    return config


def given_states(config: StreamRunConfig) -> list[GivenState]:
    """The states from which the run goes on. Raises SettingsError for a text that is no state."""
    return read_states(config.state.encode()) if config.state is not None else []


def _streams_of(assets: dg.AssetsDefinition, keys: Iterable[dg.AssetKey]) -> set[StreamId]:
    return {stream_of(key, assets.metadata_by_key[key]).id for key in keys}


def _streams_of_job(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> set[StreamId]:
    """The streams of all assets that the run's job can materialize."""
    graph = context.job_def.asset_layer.asset_graph
    found = set[StreamId]()
    for assets in graph.assets_defs:
        if assets.is_executable:
            found |= _streams_of(assets, assets.keys)
    return found


def _check_streams(names: Iterable[str], known: Collection[StreamId]) -> None:
    """Raises SettingsError for a name that no stream has, or several."""
    for name in names:
        count = sum(_is_named(stream, name) for stream in known)
        if count == 1:
            continue
        listed = ", ".join(sorted(map(str, known)))
        reason = "Several streams have it; write its namespace, too" if count else "No stream has it"
        raise _wrong("streams", f"streams names {name!r}. {reason}. The streams are: {listed}.")


def _is_named(stream: StreamId, name: str) -> bool:
    return name in (stream.name, str(stream))


def _wrong(name: str, sentence: str) -> SettingsError:
    return SettingsError(sentence, setting=name)


# ---------------------------------------------------------------------- what the settings change


_OF_STREAMS = ("full_refresh", "start_date", "state", "schema_contract")
"""The settings that hold for the chosen streams only."""


def for_stream(config: StreamRunConfig, landed: StreamId) -> StreamRunConfig:
    """The settings that hold for a stream, by its name in the bucket."""
    if not config.streams or any(_is_named(landed, name) for name in config.streams):
        return config
    return config.model_copy(update={name: _default(name) for name in _OF_STREAMS})


def destination_of_run(config: StreamRunConfig, destination: S3Destination) -> S3Destination:
    """The destination as the run uses it."""
    if config.on_template_change is None:
        return destination
    return replace(destination, on_template_change=config.on_template_change)  # type: ignore[arg-type]  # checked


def stream_of_run(config: StreamRunConfig, stream: Stream, destination: S3Destination) -> Stream:
    """The stream as the run lands it: in the mode, and with the schema contract, that the run asks for.

    Args:
        config: The settings that hold for the stream.
    """
    if config.full_refresh:
        stream = replace(stream, sync_mode=SyncMode.FULL_REFRESH, generation=None)
    if config.schema_contract:
        contract = replace(contract_of(destination, stream), **config.schema_contract)  # type: ignore[arg-type]
        stream = replace(stream, settings=replace(stream.settings, schema_contract=contract))
    return stream


def shown_settings(config: StreamRunConfig) -> dict[str, Any]:
    """The metadata that names the settings of the run. Empty if it has none. A state is not shown."""
    given = {name: getattr(config, name) for name in _NAMES if getattr(config, name) != _default(name)}
    if "state" in given:
        given["state"] = "given"
    return {"run_settings": dg.MetadataValue.json(given)} if given else {}


# ---------------------------------------------------------------------- what a kind of asset cannot do


def refuse_settings(config: StreamRunConfig, names: Collection[str], stream: str, reason: str) -> None:
    """Raises SettingsError if the run has one of these settings.

    Args:
        reason: A sentence that says why the setting cannot apply to the stream, and what to do.
    """
    for name in names:
        if getattr(config, name) != _default(name):
            raise SettingsError(f"{name} has no effect on {stream}. {reason}", stream=stream, setting=name)


def refuse_part(config: StreamRunConfig, stream: str, *, replaces: bool) -> None:
    """Raises SettingsError if the run would replace the whole data of a scope with a part of it."""
    parts = ("record_limit", "time_limit_s", "start_date")
    name = next((name for name in parts if getattr(config, name) is not None), None)
    if name is not None and replaces and not config.allow_partial:
        raise SettingsError(
            f"{name} would replace everything that {stream} has landed with a part of it. Set plan to see what the run "
            "would do, land the try-out under another s3_bucket_path, or set allow_partial if the part may replace it.",
            stream=stream,
            setting=name,
        )
