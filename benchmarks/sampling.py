"""A landing whose stack is sampled: `python -m benchmarks.sampling TASK` reports the CPU seconds of each function.

Only the landing thread is sampled; it does everything except sending parts.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from benchmarks.contestant import measured_work
from benchmarks.landing import destination, format_settings, land_file

_PAUSE_S = 0.0005
_PACKAGE = "s3dest_dagster"


def main() -> None:
    task = json.loads(sys.argv[1])
    settings = destination(format_settings(task["format"], **task["options"]))
    seconds: defaultdict[str, float] = defaultdict(float)

    def land() -> None:
        with sampled(seconds):
            land_file(Path(task["messages"]), Path(folder), task["schema"], settings)

    with TemporaryDirectory(prefix="s3dest-bench-") as warm, TemporaryDirectory(prefix="s3dest-bench-") as folder:
        land_file(Path(task["few_messages"]), Path(warm), task["schema"], settings)
        measured = measured_work(land)
    print(json.dumps(measured | {"bytes": 0, "samples": dict(seconds)}))


@contextmanager
def sampled(seconds: defaultdict[str, float]) -> Iterator[None]:
    """Adds up CPU seconds of this thread by the innermost running function of the library."""
    last = time.thread_time()

    def sample(_: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.thread_time()
        seconds[_function(frame)] += now - last
        last = now

    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _PAUSE_S, _PAUSE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _function(frame: FrameType | None) -> str:
    """The library's innermost function, as module and name."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(_PACKAGE):
            return f"{module.removeprefix(f'{_PACKAGE}.')}.{frame.f_code.co_qualname}"
        frame = frame.f_back
    return "outside of the library"


if __name__ == "__main__":
    main()
