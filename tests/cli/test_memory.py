"""The memory of the process does not grow with the output of the source, however long its lines are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

MIB = 1 << 20
RESIDENT = 1 if os.uname().sysname == "Darwin" else 1024
"""The unit of `ru_maxrss` in bytes."""

MEASURED = (
    sys.executable,
    "-c",
    "import resource, subprocess, sys\n"
    "code = subprocess.call(sys.argv[1:])\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n"
    "sys.exit(code)",
)
"""Runs a command, and prints its peak memory as the last line. On Linux, the peak of a process is never below that of
the process which started it, and the process of the tests may be large. This one is small."""


def fed(lake, lines: int, line_mib: int, *, ended: bool = True) -> tuple[int, float]:
    """The exit code and peak memory, in MiB, of a `write` that receives lines of this length."""
    arguments = ("write", "--config", lake.config(format={"format_type": "JSONL"}), "--catalog", lake.catalog("users"))
    process = lake.start_alone(*arguments, starter=MEASURED)
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
    with process.stdout, process.stderr:
        peak = int(process.stderr.read().splitlines()[-1])
    return process.wait(), peak * RESIDENT / MIB


def test_lines_of_100_mb_take_less_memory_than_their_total_size(lake):
    """This takes seconds. Fewer lines would not show that they are not kept in memory."""
    code, peak = fed(lake, 8, 100)
    assert code == 0
    assert peak < 800


def test_a_file_of_200_mb_takes_no_more_memory_than_its_parts(lake, tmp_path):
    """A file of one part is landed first, since the process itself is most of the peak. Of the larger file, up to four
    parts are being sent or wait, and a fifth is filled. The client needs some memory for each request, too."""
    peaks, parts = [], {"part_size_mb": 5, "upload_threads": 2}
    for mib in (5, 200):
        with (tmp_path / "staged").open("wb") as staged:
            staged.truncate(mib * MIB)
        described = {"staging_file_url": str(tmp_path / "staged"), "source_file_relative_path": "large.bin"}
        content = {"stream": "users", "namespace": "public", "emitted_at": 1, "data": {}, "file_reference": described}
        config = lake.config(s3dest={"max_attempts": 1, **parts})
        process = lake.start_alone("write", "--config", config, "--catalog", lake.catalog("users"), starter=MEASURED)
        process.stdin.write(json.dumps({"type": "RECORD", "record": content}).encode() + b"\n")
        process.stdin.close()
        code, peak = ended_with(process)
        assert code == 0
        peaks.append(peak)
    (copy,) = [key for key in lake.all_keys() if key.endswith("/large.bin")]
    assert lake.server.client().head_object(Bucket=lake.bucket, Key=copy)["ContentLength"] == 200 * MIB
    assert peaks[1] - peaks[0] < 8 * 5, peaks


def test_a_line_that_never_ends_is_refused_at_the_limit(lake):
    """Its pieces may take twice their size, because a busy machine reads less at a time than there is room for. The
    process of the tests is larger, and must not count."""
    larger = b"x" * (500 * MIB)
    code, peak = fed(lake, 1, 500, ended=False)
    assert code == 1
    assert peak < 2 * 128 + 230 < len(larger) / MIB
    assert lake.all_keys() == []
