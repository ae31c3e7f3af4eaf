"""The server's clock, as its answers tell it: machines that share a bucket agree on no other.

It must not ask anything; who needs the time and has no answer that is new enough asks first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

_NEW_S = 60.0
"""How old an answer may be whose Date still counts, carried on by this machine's clocks."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What an answer said, and when it came: by the clock that runs steadily, and by the one that people set."""

    date: datetime
    steady: float
    wall: float


class ServerClock:
    """What time it is on the server, to the second. For several threads."""

    def __init__(self, steady: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._steady = steady
        self._wall = wall
        self._told: _Told | None = None

    def note(self, answer: Mapping[str, Any]) -> None:
        """Takes the Date of an answer as boto3 gives it. One without a Date that can be read tells nothing."""
        text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return
        self._told = _Told(date if date.tzinfo else date.replace(tzinfo=UTC), self._steady(), self._wall())

    def now(self) -> datetime | None:
        """The time; None where the newest answer is older than a minute, or no answer has told it.

        A machine that slept tells so by its second clock alone, so that both must agree that little time has passed.
        """
        told = self._told
        if told is None:
            return None
        passed = self._steady() - told.steady
        if passed > _NEW_S or not 0 <= self._wall() - told.wall <= _NEW_S:
            return None
        return told.date + timedelta(seconds=passed)
