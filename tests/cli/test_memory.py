"""The memory of the process does not grow with the output of the source, however long its lines are."""

from __future__ import annotations

import os
import resource
import subprocess
from contextlib import suppress

MIB = 1 << 20
RESIDENT = 1 if os.uname().sysname == "Darwin" else 1024
"""The unit of `ru_maxrss` in bytes."""


def fed(lake, lines: int, line_mib: int, *, ended: bool = True) -> tuple[int, float]:
    """The exit code and peak memory, in MiB, of a `write` that receives lines of this length."""
    arguments = ("write", "--config", lake.config(format={"format_type": "JSONL"}), "--catalog", lake.catalog("users"))
    process = lake.start_alone(*arguments)
    head = b'{"type":"RECORD","record":{"stream":"users","namespace":"public","emitted_at":1,"data":{"id":1,"name":"'
    with suppress(BrokenPipeError):
        for _ in range(lines):
            process.stdin.write(head)
            for _ in range(line_mib):
                process.stdin.write(b"x" * MIB)
            process.stdin.write(b'"}}}\n' if ended else b"")
    with suppress(BrokenPipeError):
        process.stdin.close()
    return ended_with(process)


def ended_with(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert isinstance(usage, resource.struct_rusage)
    return process.returncode, usage.ru_maxrss * RESIDENT / MIB


def test_lines_of_100_mb_take_less_memory_than_their_total_size(lake):
    """This takes seconds. Fewer lines would not show that they are not kept in memory."""
    code, peak = fed(lake, 8, 100)
    assert code == 0
    assert peak < 800


def test_a_line_that_never_ends_is_refused_at_the_limit(lake):
    """Its pieces may take three times their size, because a busy machine reads less at a time than there is room for.
    The whole line would be 500 MB."""
    code, peak = fed(lake, 1, 500, ended=False)
    assert code == 1
    assert peak < 3 * 128 + 230
    assert lake.all_keys() == []
