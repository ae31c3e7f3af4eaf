"""The amount of work, counted instead of timed: executed lines of Python, and calls of built-ins.

The work inside one built-in is not counted. Loops, recursion and repeated passes are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def work_of(action: Callable[[], object]) -> int:
    """The number of lines and calls that this action takes, in this thread."""
    steps = 0

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        steps += 1
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal steps
        steps += event == "c_call"

    traced, profiled = sys.gettrace(), sys.getprofile()
    sys.settrace(on_line)
    sys.setprofile(on_call)
    try:
        action()
    finally:
        sys.setprofile(profiled)
        sys.settrace(traced)
    return steps


def assert_linear(action_of: Callable[[int], Callable[[], object]], size: int) -> None:
    """Fails if twice the size takes more than two and a half times the work. `action_of` prepares the action."""
    once, twice = work_of(action_of(size)), work_of(action_of(2 * size))
    assert twice <= 2.5 * once, f"{once:,} steps for {size:,}, {twice:,} for twice as many"
