"""What a materialization shows of the source: its name and version, its state, and changes of its config.

No secret is shown: neither one of the source's settings, nor anything that is named like one. Must not know: how the
source is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import dagster as dg
import msgspec

from s3dest_dagster.dagster.metadata import digest
from s3dest_dagster.dagster.preview import without_secrets
from s3dest_dagster.printable import MASK, Masking, amount, printable, size
from s3dest_dagster.sources import ConfigChange, ObservedSource
from s3dest_dagster.sources.airbyte.protocol import StateMessage, parse_state
from s3dest_dagster.stream import StreamId

_MAX_READ = 1_000_000
"""A longer state is not shown at all, in characters."""
_MAX_SHOWN = 5000
"""The most characters of a state that are shown."""
_MAX_CHANGES = 50
_MAX_VALUE = 120


class ReadReport:
    """The metadata of one read of a source.

    Args:
        source: The source, with its variables looked up. None: only states are shown.
        states_before: The text of the state from which each stream began.
        config_changes: What the source has changed in its config, in this order.
    """

    def __init__(
        self,
        source: ObservedSource | None,
        states_before: Mapping[StreamId, str | None],
        config_changes: Sequence[ConfigChange] = (),
    ) -> None:
        self._source = source
        self._before = states_before
        self._config_changes = config_changes

    def metadata(self, stream: StreamId, state: str | None) -> dict[str, Any]:
        """The source, its version, the state that the stream has reached, and how that differs from the one before."""
        metadata: dict[str, Any] = {}
        if self._source is not None:
            metadata["connector"] = printable(self._source.name)
            if self._version is not None:
                metadata["connector_version"] = printable(self._version)
        metadata |= _config_metadata(self._config_changes)
        return {**metadata, **self._state(stream, state)} if state is not None else metadata

    @cached_property
    def _version(self) -> str | None:
        return None if self._source is None else self._source.reported_version()

    def _state(self, stream: StreamId, state: str) -> dict[str, Any]:
        if len(state) > _MAX_READ:
            return {"state": f"({size(len(state))}, not shown)"}
        before = self._before.get(stream)
        hide = Masking(self._source.secrets_in(f"{before} {state}") if self._source is not None else ())
        shown = _shown(state, stream, hide)
        changes = {} if before is None or before == state else _changes(_shown(before, stream, hide), shown)
        return {"state": _bounded(shown), **({"state_changes": changes} if changes else {})}


def _config_metadata(changes: Sequence[ConfigChange]) -> dict[str, Any]:
    """The names of the settings that the source has changed, and whether the next read begins with the new config."""
    if not changes:
        return {}
    names = list(dict.fromkeys(name for change in changes for name in change.names))
    more = len(names[_MAX_CHANGES:]) + max(change.more for change in changes)
    shown = [*names[:_MAX_CHANGES], *([f"… {amount(more, 'more setting')}"] if more else [])]
    return {"config_changes": dg.MetadataValue.json(shown), "config_kept": changes[-1].is_kept}


def versioned(spec: dg.AssetSpec, source: object) -> dg.AssetSpec:
    """The spec, whose code version changes with the version of the source, as far as it is known already."""
    version = source.declared_version() if isinstance(source, ObservedSource) else None
    if version is None:
        return spec
    return spec.replace_attributes(code_version=digest(spec.code_version, version))


def _shown(text: str, stream: StreamId, hide: Callable[[str], str]) -> Any:
    """The value of a state without secrets. Of a state of all streams: its shared part, and the entry of the stream."""
    try:
        value = _position(parse_state(text.encode()), stream)
    except ValueError:
        return hide(printable(text))
    return without_secrets(_masked(value, hide))


def _position(state: StateMessage, stream: StreamId) -> Any:
    if state.stream is not None:
        return _decoded(state.stream.stream_state)
    if state.global_ is None:
        return _decoded(state.data)
    entries = {entry.stream_descriptor.id: entry.stream_state for entry in state.global_.stream_states or ()}
    own = {"stream_state": _decoded(entries[stream])} if stream in entries else {}
    return {"shared_state": _decoded(state.global_.shared_state), **own}


def _decoded(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw) if raw else None


def _masked(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {printable(hide(name)): _masked(inner, hide) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, hide) for inner in value]
    if isinstance(value, str):
        return printable(hide(value))
    return value if value is None or isinstance(value, bool) or hide(str(value)) == str(value) else MASK


def _bounded(value: Any) -> dg.MetadataValue[Any]:
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= _MAX_SHOWN and isinstance(value, dict | list):
        return dg.MetadataValue.json(value)
    return dg.MetadataValue.text(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")


def _changes(before: Any, after: Any) -> dict[str, str]:
    """The differences by their paths: "old → new"."""
    found = list(_differences(before, after, ""))
    changes = {path or "state": f"{_short(old)} → {_short(new)}" for path, old, new in found[:_MAX_CHANGES]}
    return {**changes, "…": amount(len(found) - _MAX_CHANGES, "more change")} if len(found) > _MAX_CHANGES else changes


def _differences(before: Any, after: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            inner = f"{path}.{name}" if path else name
            yield from _differences(before.get(name, _NOTHING), after.get(name, _NOTHING), inner)
    elif before != after:
        yield path, before, after


_NOTHING = object()


def _short(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"
