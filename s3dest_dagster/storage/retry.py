"""How often and how long a request is tried: again after pauses that grow and vary, all under one deadline.

Clock, pauses and chance are values, so that no test has to wait. It must not know S3: the caller says what is worth
another try.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_ATTEMPTS = 8
DEADLINE_S = 300.0
_LONGEST_PAUSE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Tries at most `max_attempts` times, the first included, and begins none later than `deadline_s` after the first.

    Before the next try it pauses a random share of 1 s, then of 2, 4, 8, 16 and at most 20 s: many clients that failed
    together do not come back together. `pause` waits that many seconds, and answers True where nobody wants to go on.
    """

    max_attempts: int = MAX_ATTEMPTS
    deadline_s: float = DEADLINE_S
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], bool | None] = time.sleep
    chance: Callable[[], float] = random.random

    def begin(self) -> Tries:
        """The tries of one request, of which the first begins now."""
        return Tries(self)


class Tries:
    """The tries of one request."""

    def __init__(self, retry_policy: RetryPolicy) -> None:
        self._patience = retry_policy
        self._began = retry_policy.clock()
        self.count = 1

    def again(self) -> bool:
        """Pauses, and answers whether the next try may begin."""
        retry_policy = self._patience
        left = self._began + retry_policy.deadline_s - retry_policy.clock()
        if self.count >= retry_policy.max_attempts or left <= 0:
            return False
        longest = min(2.0 ** (self.count - 1), _LONGEST_PAUSE_S)
        if retry_policy.pause(min(longest * retry_policy.chance(), left)):
            return False
        self.count += 1
        return True

    def told(self) -> str:
        """How often and how long it was tried, as a sentence; nothing where one try was all that was wanted."""
        if self._patience.max_attempts == 1:
            return ""
        often = "once" if self.count == 1 else f"{self.count} times"
        seconds = self._patience.clock() - self._began
        return f"It was tried {often} in {seconds:.1f} s; max_attempts and retry_deadline_s say how long."
