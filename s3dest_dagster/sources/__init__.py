"""Where records come from: connector processes, files of records, Python functions and their values.

`Source` is what a component, an asset or a command asks of a source, whatever its kind. A new kind is a class with
these methods in a module of this package, and an entry in the table of `dagster.component.sources`, which makes it from
YAML. Must not know: buckets, formats, Dagster.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ClassVar, Protocol, runtime_checkable

from s3dest_dagster.batch import SourceItem
from s3dest_dagster.sources.templating import Values
from s3dest_dagster.stream import Stream, SyncMode

Log = Callable[[str, str], None]
"""Receives a log level of the Airbyte protocol (FATAL, ERROR, WARN, INFO, DEBUG, TRACE) and a message."""

LookUp = Callable[[Any, str], Any]
"""Gives a setting with its variables (`dg.EnvVar`) looked up; the text is the setting's name, for errors."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What somebody has set for one stream of a source. None leaves a setting to the source."""

    name: str
    namespace: str | None = None
    json_schema: Mapping[str, Any] | None = None
    sync_mode: SyncMode | str | None = None
    description: str | None = None

    def stream(self) -> Stream:
        """The stream of a source that knows nothing about its streams: a full refresh unless set otherwise."""
        return Stream(
            name=self.name,
            namespace=self.namespace,
            json_schema=self.json_schema,
            sync_mode=self.sync_mode or SyncMode.FULL_REFRESH,  # type: ignore[arg-type]  # Stream also accepts the text
            description=self.description,
        )


@dataclass(frozen=True, slots=True)
class Slice:
    """What one read takes from a stream: the whole stream, or one of its partitions."""

    values: Values | None
    """What placeholders stand for, see `templating.partition_values`. None: the stream has no partitions."""
    log: Log
    """Receives what the source logs."""
    look_up: LookUp
    """Looks up variables in the source's settings."""


@dataclass(frozen=True, slots=True)
class DeferredRead:
    """A read that starts once the landing is open, since it continues from the state that the landing reached last."""

    open: Callable[[bytes | None], AbstractContextManager[Iterable[SourceItem]]]
    """Opens the read from the text of a state (None: from the beginning). Its items last as long as the `with`."""
    is_incremental: bool = False
    """Whether the read gives only what is new. If not, a state at the end of a complete read is of no use to it."""
    allow_empty: bool = True
    """Whether silence about the stream means that it has no record; otherwise silence is an error."""


OverSlices = Callable[[Callable[[Slice], Any]], Callable[..., Any]]
"""Turns a function that reads one slice into one that an asset can run: it reads every slice of its step."""


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

    def is_incremental(self, stream: Stream) -> bool:
        """Whether a read of the stream gives only what is new."""

    def read(
        self,
        streams: Sequence[Stream],
        *,
        state: Sequence[bytes] | None = None,
        config_values: Values | None = None,
        log: Log = ...,
    ) -> AbstractContextManager[Iterable[SourceItem]]:
        """Read the streams from the given states, or from the beginning."""


@runtime_checkable
class Source(Protocol):
    """A source of streams. Each kind is a frozen value with these attributes and methods."""

    run_placeholders: ClassVar[Mapping[str, Sequence[str]]]
    """By setting, the placeholders that it may hold, whose values are known only when a run starts."""
    asset_kinds: ClassVar[frozenset[str]]
    """Kinds that Dagster shows on the assets of the source's streams."""

    @property
    def separates_streams(self) -> bool:
        """Whether the source gives each stream its own records."""

    def stream_names(self) -> Sequence[str]:
        """The names of all streams. Raises SettingsError if the source cannot list them."""

    def describe_stream(self, settings: StreamSettings) -> Stream:
        """The stream with these settings and, for what they leave out, the source's own.

        Raises SettingsError if the source lacks the stream, or if a setting would have no effect.
        """

    def asset_function(self, stream: Stream, over_slices: OverSlices) -> Callable[..., Any]:
        """The function that an asset of the stream runs. It returns records, a `DeferredRead`, or either by partition.

        A source that reads by itself passes a function to `over_slices`; one that is a function already returns it.
        """

    def as_multi_stream(self) -> MultiStreamSource | None:
        """This source, if it reads several streams in one run; otherwise None."""


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A Python function that returns or yields records. If it has a parameter `stream`, it receives the stream."""

    function: Callable[..., Any]

    run_placeholders: ClassVar[Mapping[str, Sequence[str]]] = {}
    asset_kinds: ClassVar[frozenset[str]] = frozenset()

    @property
    def separates_streams(self) -> bool:
        """Whether the function asks which stream it is called for."""
        return "stream" in inspect.signature(self.function).parameters

    def stream_names(self) -> Sequence[str]:
        """The function's own name."""
        return [self.function.__name__]

    def describe_stream(self, settings: StreamSettings) -> Stream:
        """The stream of the settings; its description is the function's docstring unless they have one."""
        return replace(settings, description=settings.description or inspect.getdoc(self.function)).stream()

    def asset_function(self, stream: Stream, over_slices: OverSlices) -> Callable[..., Any]:
        """The function, with `stream` bound if it asks for it. Its other parameters stay, for Dagster to fill."""
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
        """None: a function gives the records of one stream."""


def as_source(value: Any) -> Source | None:
    """The value if it is a source, a function as a `FunctionSource`, or None for anything else."""
    if isinstance(value, Source):
        return value
    return FunctionSource(value) if callable(value) and not isinstance(value, str) else None
