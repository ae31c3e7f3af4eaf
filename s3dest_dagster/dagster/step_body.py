"""The function that a caller puts around a landing: what it may be, and what it must yield.

Dagster's own errors about results name ops and outputs, which a caller of this library never sees. Must not know: how
streams land.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import dagster as dg

from s3dest_dagster.errors import SettingsError

_RESULTS = (
    dg.MaterializeResult,
    dg.Output,
    dg.ObserveResult,
    dg.AssetCheckResult,
    dg.AssetMaterialization,
    dg.AssetObservation,
    dg.ExpectationResult,
)
_CURE = "Write `yield from run(context)`."


def title_of(function: Callable[..., Any]) -> str:
    """The function's name for messages: `shop`, or `Shop.execute` for a method."""
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return name.rpartition("<locals>.")[2]


def refuse_async(function: Callable[..., Any], instead: str) -> None:
    """Raises SettingsError for an asynchronous function. The text says what to write instead."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise SettingsError(
            f"{title_of(function)} is asynchronous, and records are landed as they come. {instead}; run asynchronous "
            "code inside of it with asyncio.run.",
            setting="body",
        )


def results_of_body(
    title: str,
    call: Callable[[Callable[..., Iterator[Any]]], Any],
    land: Callable[..., Iterator[Any]],
    selected: Collection[dg.AssetKey],
) -> Iterator[Any]:
    """Yields what a caller's function yields, as long as it is what Dagster and the caller expect.

    Args:
        title: The function's name, for messages.
        call: Calls the function with this `run`.
        land: What `run` does: it lands streams, and yields a result for each.
        selected: The assets that the run of Dagster selects.

    Raises:
        SettingsError: The function returns nothing, yields something that is no result of an asset of this run, or
            calls `run` without yielding all that it yields.
    """
    calls = _Calls(title, land)
    results = call(calls.run)
    if not isinstance(results, Iterable) or isinstance(results, _RESULTS):
        raise _refusal(
            f"{title} returned {_named(results)}, and it must yield the results of run(context), because only then "
            f"streams land and are materialized. {_CURE} To land nothing, return an empty list."
        )
    reported = set[dg.AssetKey]()
    release: AbstractContextManager[Any] = closing(results) if inspect.isgenerator(results) else nullcontext()
    with release:
        for result in results:
            key = _asset_of(result, selected)
            _check_result(title, result, key, selected, reported)
            if key is not None:
                reported.add(key)
            yield result
    calls.check(reported, selected)


class _Calls:
    """The calls of `run` by a caller's function."""

    def __init__(self, title: str, land: Callable[..., Iterator[Any]]) -> None:
        self._title = title
        self._land = land
        self._unfinished = 0
        self._landed: list[Any] = []

    def run(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        """What the caller's function receives as `run`."""
        results = self._land(*arguments, **options)
        self._unfinished += 1
        return self._followed(results)

    def _followed(self, results: Iterator[Any]) -> Iterator[Any]:
        try:
            for result in results:
                self._landed.append(result)
                yield result
        except Exception:
            # The function may catch it, and go on.
            self._unfinished -= 1
            raise
        self._unfinished -= 1

    def check(self, reported: Collection[dg.AssetKey], selected: Collection[dg.AssetKey]) -> None:
        """Raises SettingsError if the function has not read a call to its end, or has not yielded a result of it."""
        if self._unfinished:
            raise _refusal(
                f"{self._title} calls run(context) and does not read it to its end, so that not everything lands. "
                f"{_CURE}"
            )
        keys = {_asset_of(result, selected) for result in self._landed} - {None, *reported}
        if keys:
            raise _refusal(
                f"{self._title} does not yield the results of {_listed(keys)}, so that Dagster does not know of what "
                f"run(context) gave. {_CURE}"
            )


def _check_result(
    title: str, result: Any, key: dg.AssetKey | None, selected: Collection[dg.AssetKey], reported: Collection[Any]
) -> None:
    """Raises SettingsError for what is no result, or that of an asset which is not selected, or is reported already."""
    if not isinstance(result, _RESULTS):
        raise _refusal(f"{title} yielded {_named(result)} instead of what run(context) yields. {_CURE}")
    if key is None:
        return
    if key not in selected:
        raise _refusal(
            f"{title} yielded a result of {key.to_user_string()}, which this run does not select. It selects "
            f"{_listed(selected)}. {_CURE}"
        )
    if key in reported:
        raise _refusal(
            f"{title} yielded two results of {key.to_user_string()}. A run lands each stream once: give each call of "
            "run other streams, as run(context, streams=[…])."
        )


def _asset_of(result: Any, selected: Collection[dg.AssetKey]) -> dg.AssetKey | None:
    """The asset that a result materializes. None if the result does not say it, or materializes nothing."""
    if isinstance(result, dg.MaterializeResult) and result.asset_key is not None:
        return dg.AssetKey.from_coercible(result.asset_key)
    is_only = len(selected) == 1 and isinstance(result, dg.Output | dg.MaterializeResult)
    return next(iter(selected)) if is_only else None


def _named(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _listed(keys: Collection[dg.AssetKey | None]) -> str:
    return ", ".join(sorted(key.to_user_string() for key in keys if key is not None))


def _refusal(message: str) -> SettingsError:
    return SettingsError(message, setting="body")
