"""One run of one contestant in a process of its own: `python -m benchmarks.contestant TASK`, both as JSON.

Imports come first, and the same work on a few messages, so that what libraries do once in a process does not count;
then CPU time, wall time and memory are taken. The modules of a side are imported only for it: each side runs where its
libraries are.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

Work = Callable[[], Mapping[str, Any] | None]
"""What is measured; it may tell more than the measurement does."""
Task = Mapping[str, Any]

PACKAGES = {
    "ours": ("s3dest-dagster", "msgspec", "pyarrow", "isal", "zlib-ng"),
    "stages": ("msgspec", "pyarrow", "isal", "zlib-ng"),
    "loop": ("orjson", "fastavro", "pyarrow"),
    "dlt": ("dlt", "orjson", "pyarrow"),
    "duckdb": ("duckdb",),
    "polars": ("polars", "isal"),
}


def main() -> None:
    task = json.loads(sys.argv[1])
    prepare = _SIDES[task["side"]]
    with TemporaryDirectory(prefix="s3dest-bench-") as warm, TemporaryDirectory(prefix="s3dest-bench-") as folder:
        prepare(task, Path(task["few_messages"]), Path(warm))()
        measured = measured_work(prepare(task, Path(task["messages"]), Path(folder)))
        measured["bytes"] = measured.get("bytes") or _bytes_under(Path(folder))
    print(json.dumps(measured | {"versions": _versions(task["side"])}))


def measured_work(work: Work) -> dict[str, Any]:
    """CPU and wall time and the memory of the work, and what the work reports."""
    _forget_peak()
    idle = resident_mb()
    wall, cpu = time.perf_counter(), _cpu_s()
    report = work()
    return {
        "cpu_s": _cpu_s() - cpu,
        "wall_s": time.perf_counter() - wall,
        "idle_mb": idle,
        "peak_mb": peak_mb(),
        **(report or {}),
    }


def _cpu_s() -> float:
    """CPU seconds of this process, all threads, and of children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


# ---------------------------------------------------------------------- memory


def resident_mb() -> float:
    """Resident memory of this process in MB (1024²)."""
    return _status("VmRSS") or _highest_ever_mb()


def peak_mb() -> float:
    """The highest resident memory since the last reset, or of the whole process if the system does not report it."""
    return _status("VmHWM") or _highest_ever_mb()


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not Linux, or not allowed: then the peak is that of the process's life


def _status(name: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), None)


def _highest_ever_mb() -> float:
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


# ---------------------------------------------------------------------- sides


def _ours(task: Task, messages: Path, folder: Path) -> Work:
    from benchmarks.landing import destination, format_settings, land_file, land_file_seeded

    settings = destination(format_settings(task["format"], **task["options"]), encode_workers=task.get("workers", 1))
    land = land_file_seeded if task.get("seeded") else land_file

    def work() -> Mapping[str, Any]:
        receipt = land(messages, folder, task["schema"], settings)
        return {"records": receipt.rows, "bytes": receipt.bytes, "checksums": [each.crc32 for each in receipt.objects]}

    return work


def _stages(task: Task, messages: Path, folder: Path) -> Work:
    from benchmarks.stages import measure

    run = partial(measure, task["format"], messages, folder / "out", task["schema"], **task["options"])
    return lambda: {"stages": dict(run().seconds)}


def _loop(task: Task, messages: Path, folder: Path) -> Work:
    import orjson

    from benchmarks.loops import Json, run

    library = Json(orjson.loads, orjson.dumps)
    return partial(run, task["format"], messages, folder / "out", library, task.get("level"), task["schema"])


def _dlt(task: Task, messages: Path, folder: Path) -> Work:
    import orjson

    from benchmarks.dlt_peer import load
    from benchmarks.loops import Json

    library = Json(orjson.loads, orjson.dumps)
    load_all = partial(load, messages, folder, library, task["format"], task.get("level"))

    def work() -> Mapping[str, Any]:
        load_all()
        return {"bytes": _bytes_under(folder / "lake" / "peer" / "users")}

    return work


def _duckdb(task: Task, messages: Path, folder: Path) -> Work:
    from benchmarks.engine_peers import duckdb_work

    return duckdb_work(task["format"], messages, folder / "out", task["level"])


def _polars(task: Task, messages: Path, folder: Path) -> Work:
    from benchmarks.engine_peers import polars_work

    return polars_work(task["format"], messages, folder / "out", task["level"])


_SIDES: dict[str, Callable[[Task, Path, Path], Work]] = {
    "ours": _ours,
    "stages": _stages,
    "loop": _loop,
    "dlt": _dlt,
    "duckdb": _duckdb,
    "polars": _polars,
}


def _versions(side: str) -> dict[str, str]:
    found = {"Python": sys.version.split()[0]}
    for name in PACKAGES[side]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _bytes_under(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


if __name__ == "__main__":
    main()
