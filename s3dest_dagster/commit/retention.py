"""Retires partitions that are older than the settings keep them.

The key of a partition says how old it is, if it is a date or begins with one. Must not know: how a scope is retired.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from s3dest_dagster.commit.documents import commit_without_source
from s3dest_dagster.commit.retirement import ScopeContent, content_of, retire
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.storage import Bucket, each_in_parallel
from s3dest_dagster.stream import Scope, StreamId

_DATE = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2})(?:[-T ]\d{2}(:?\d{2}){0,2}\S*)?)?", re.ASCII)
_BETWEEN_DIMENSIONS = "|"


def partition_day(key: str) -> datetime | None:
    """The day of a partition, as its key says: a day, that of an hour, or the last day of a month. None if the key says
    nothing.

    The key of a partition with several dimensions says it if exactly one of them does.
    """
    found = [day for part in key.split(_BETWEEN_DIMENSIONS) if (day := _day(part)) is not None]
    return found[0] if len(found) == 1 else None


def with_retention(destination: S3Destination, settings: StreamSettings) -> S3Destination:
    """The destination's settings for one stream, whose own `expire_partitions_after` comes first."""
    days = settings.expire_partitions_after
    return destination if days is None else replace(destination, expire_partitions_after=days)


def expired_partitions(
    bucket: Bucket, destination: S3Destination, stream: StreamId, now: datetime
) -> Iterator[ScopeContent]:
    """Yields the partitions of a stream that hold anything and are older than `expire_partitions_after`. Writes
    nothing."""
    if not destination.expire_partitions_after:
        return
    oldest = now - timedelta(days=destination.expire_partitions_after)
    older = (scope for scope in scopes(bucket, destination.template, {stream}) if _is_older(scope, oldest))
    contents = each_in_parallel(partial(content_of, bucket, destination), older)
    yield from (content for content in contents if not content.is_empty)


def expire_partitions(
    bucket: Bucket,
    destination: S3Destination,
    stream: StreamId,
    now: datetime,
    entropy: Callable[[int], bytes],
    *,
    but: Scope | None = None,
) -> list[ScopeContent]:
    """Retires the partitions that `expired_partitions` yields, each by a commit of its own. Returns what they held.

    Args:
        but: A scope to keep, such as one that has just landed.
    """
    retired = []
    for content in expired_partitions(bucket, destination, stream, now):
        if but is not None and content.scope.partition == but.partition:
            continue
        sync, attempt = commit_without_source("expire", now, entropy)
        retired.append(retire(bucket, destination, content.scope, sync, attempt=attempt, clock=lambda: now))
    return retired


def _is_older(scope: Scope, oldest: datetime) -> bool:
    day = partition_day(scope.partition) if scope.partition is not None else None
    return day is not None and day < oldest


def _day(text: str) -> datetime | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year, month, day = (int(part) if part else None for part in match.groups()[:3])
    assert year is not None, "the pattern has a year"
    assert month is not None, "the pattern has a month"
    try:
        if day is None:
            day = monthrange(year, month)[1]
        return datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None
