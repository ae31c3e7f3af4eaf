"""Where records come from: connector processes, files of records, databases, Python functions and their values.

`Source` is the interface that components, assets and commands use for every kind of source. To add a kind, write a
class with these methods in a module of this package, and add an entry to the table in `dagster.component.sources`,
which builds it from YAML. Must not know: buckets, formats, Dagster.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, ClassVar, Protocol, runtime_checkable

from s3dest_dagster.batch import SourceItem
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.sources.templating import Values
from s3dest_dagster.stream import Stream, SyncMode

Log = Callable[[str, str], None]
"""Receives a log level of the Airbyte protocol (FATAL, ERROR, WARN, INFO, DEBUG, TRACE) and a message."""

LookUp = Callable[[Any, str], Any]
"""Returns a setting with its variables (`dg.EnvVar`) looked up. The text is the setting's name, for errors."""


@dataclass(frozen=True, slots=True)
class RequestedStream:
    """What a user asks of one stream of a source. None leaves it to the source."""

    name: str
    namespace: str | None = None
    json_schema: Mapping[str, Any] | None = None
    sync_mode: SyncMode | str | None = None
    description: str | None = None
    settings: StreamSettings = field(default_factory=StreamSettings)

    def stream(self) -> Stream:
        """The stream of a source that knows nothing about its streams: a full refresh unless set otherwise."""
        return Stream(
            name=self.name,
            namespace=self.namespace,
            json_schema=self.json_schema,
            sync_mode=self.sync_mode or SyncMode.FULL_REFRESH,  # type: ignore[arg-type]  # Stream also accepts the text
            description=self.description,
            settings=self.settings,
        )


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a stream that one read covers: the whole stream, or one of its partitions."""

    values: Values | None
    """The values of the placeholders (see `templating.partition_values`). None: the stream has no partitions."""
    log: Log
    """Receives what the source logs."""
    look_up: LookUp
    """Looks up variables in the source's settings."""
    start_date: str | None = None
    """The date from which this run reads. None: from the date that the source's settings say."""


@runtime_checkable
class ObservedSource(Protocol):
    """A source whose name and version a materialization shows."""

    @property
    def name(self) -> str:
        """The source's name."""

    def declared_version(self) -> str | None:
        """The source's version, as far as it is known without running anything."""

    def reported_version(self) -> str | None:
        """The source's version, once it has run. None if nothing says it."""

    def secrets_in(self, text: str) -> Collection[str]:
        """The secrets of the source's settings that may occur in the text."""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A change that a source has made to its own config. It never holds a value."""

    names: Sequence[str]
    """The changed settings, nested ones as dotted paths, without secrets; at most 50."""
    more: int
    """How many further settings have changed."""
    is_kept: bool
    """Whether the next read begins with the changed config."""

    def __str__(self) -> str:
        further = f" and {self.more:,} more" if self.more else ""
        return f"{', '.join(self.names)}{further}"


OnConfigChange = Callable[[ConfigChange], None]


@dataclass(frozen=True, slots=True)
class DeferredRead:
    """A read that starts once the landing is open, because it continues from the last state that the landing
    reached."""

    open: Callable[[bytes | None], AbstractContextManager[Iterable[SourceItem]]]
    """Opens the read at the text of a state (None: at the beginning). Its items are valid inside the `with` only."""
    is_incremental: bool = False
    """Whether the read yields only new records. If not, it cannot use a state from the end of a complete read."""
    allow_empty: bool = True
    """Whether a stream that the source never mentions has no records. If False, this is an error."""
    start_date: str | None = None
    """The date from which the read begins, if the run sets one and the source can read from it."""
    source: ObservedSource | None = None
    """The source that is read, to be shown with what it gives. None if there is nothing to show."""
    config_changes: Sequence[ConfigChange] = ()
    """The changes that the source has made to its config until now."""


OverSlices = Callable[[Callable[[Slice], Any]], Callable[..., Any]]
"""Turns a function that reads one slice into a function that an asset can run and that reads every slice of its
step."""


class MultiStreamSource(Protocol):
    """A source that reads several streams in one run."""

    @property
    def name(self) -> str:
        """The source's name, for messages."""

    @property
    def allow_empty(self) -> bool:
        """See `DeferredRead.allow_empty`."""

    def with_variables(self, look_up: LookUp) -> MultiStreamSource:
        """This source with the variables in its settings looked up."""

    def starting_at(self, date: str) -> MultiStreamSource:
        """This source, which reads from the date on."""

    def is_incremental(self, stream: Stream) -> bool:
        """Whether a read of the stream yields only new records."""

    def read(
        self,
        streams: Sequence[Stream],
        *,
        state: Sequence[bytes] | None = None,
        config_values: Values | None = None,
        log: Log = ...,
        on_config_change: OnConfigChange | None = None,
    ) -> AbstractContextManager[Iterable[SourceItem]]:
        """Reads the streams from the given states, or from the beginning."""


@runtime_checkable
class Source(Protocol):
    """A source of streams. Each kind is a frozen value with these attributes and methods."""

    run_placeholders: ClassVar[Mapping[str, Sequence[str]]]
    """The placeholders that each setting may hold. Their values are known only when a run starts."""
    asset_kinds: ClassVar[frozenset[str]]
    """The kinds that Dagster shows on the assets of the source's streams."""

    @property
    def separates_streams(self) -> bool:
        """Whether the source distinguishes the records of its streams."""

    def stream_names(self) -> Sequence[str]:
        """The names of all streams. Raises SettingsError if the source cannot list them."""

    def describe_stream(self, requested: RequestedStream) -> Stream:
        """The stream that a user asks for. The source fills in whatever the request leaves out.

        Raises SettingsError if the source lacks the stream, or if a part of the request would have no effect.
        """

    def asset_function(self, stream: Stream, over_slices: OverSlices) -> Callable[..., Any]:
        """The function that an asset of the stream runs. It returns records, a `DeferredRead`, or either by partition.

        A source that reads on its own passes a function to `over_slices`. A source that is already a function returns
        it.
        """

    def as_multi_stream(self) -> MultiStreamSource | None:
        """This source, if it reads several streams in one run; otherwise None."""


@runtime_checkable
class ShardedSource(Source, Protocol):
    """A source whose records several processes can read, each of them one shard."""

    @property
    def shards(self) -> int:
        """The number of shards that are wanted. 1: the source is read by one process."""

    def shards_of(self, stream: Stream, part: Slice) -> Sequence[str]:
        """The shards of a slice, each of which any process can read. Together they hold every record once."""

    def schema_of(self, stream: Stream, part: Slice) -> Mapping[str, Any]:
        """The JSON schema of a record, known before any record is read."""

    def read_shard(self, stream: Stream, part: Slice, shard: str) -> Iterable[Any]:
        """The records of one of the shards."""


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A Python function that returns or yields records. If it has a parameter `stream`, it receives the stream."""

    function: Callable[..., Any]

    run_placeholders: ClassVar[Mapping[str, Sequence[str]]] = {}
    asset_kinds: ClassVar[frozenset[str]] = frozenset()

    @property
    def separates_streams(self) -> bool:
        """Whether the function has a parameter for the stream."""
        return "stream" in inspect.signature(self.function).parameters

    def stream_names(self) -> Sequence[str]:
        """The function's own name."""
        return [self.function.__name__]

    def describe_stream(self, requested: RequestedStream) -> Stream:
        """The stream that is asked for. If it has no description, it is the function's docstring."""
        return replace(requested, description=requested.description or inspect.getdoc(self.function)).stream()

    def asset_function(self, stream: Stream, over_slices: OverSlices) -> Callable[..., Any]:
        """The function, with `stream` bound if it is a parameter. Dagster fills the other parameters."""
        if not self.separates_streams:
            return self.function

        @wraps(self.function)
        def with_stream(*args: Any, **kwargs: Any) -> Any:
            return self.function(*args, **kwargs, stream=stream)

        signature = inspect.signature(self.function)
        others = [parameter for name, parameter in signature.parameters.items() if name != "stream"]
        # Dagster reads the parameters from here.
        with_stream.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        annotations = self.function.__annotations__
        with_stream.__annotations__ = {name: kind for name, kind in annotations.items() if name != "stream"}
        return with_stream

    def as_multi_stream(self) -> None:
        """None: a function returns the records of one stream."""


def as_source(value: Any) -> Source | None:
    """Returns a source as it is, a function as a `FunctionSource`, and None for anything else."""
    if isinstance(value, Source):
        return value
    return FunctionSource(value) if callable(value) and not isinstance(value, str) else None
