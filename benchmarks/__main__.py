"""The command: chooses the parts, their size, and whether docs/performance.md gets the results.

python -m benchmarks                                  the comparison on a few users (`make bench`)
python -m benchmarks --full                           everything (`make bench-full`)
python -m benchmarks --only memory --gigabytes 1      one part, smaller
python -m benchmarks --publish                        writes what was printed into docs/performance.md, too
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

from benchmarks.measure import has_peers
from benchmarks.parts import Measured, Options
from benchmarks.report import load_average, page_of, publish, setting

RECORDS, BRIEF_RECORDS, ROUNDS = 100_000, 20_000, 3
GIGABYTES = (1.0, 10.0)
OBJECTS, PARTITIONS = 50_000, 1_000
SIZES = (100, 1_000, 10_000)
BRIEF = ("users",)


def main(arguments: Sequence[str]) -> int:
    parser = _parser()
    parsed = parser.parse_args(arguments)
    options = _options(parsed)
    load = load_average()
    if not has_peers():
        _say("The peers' environment .bench is not there; `make bench` makes it. Their columns stay empty.")
    failed = []
    for name in parsed.only or (tuple(_parts()) if parsed.full else BRIEF):
        try:
            measured = _parts()[name](options)
        except Exception:
            traceback.print_exc()  # the other parts are worth their time
            failed.append(name)
            continue
        text = f"{measured.text}\n{setting(_command(name, parsed), measured.versions, load)}"
        print(f"\n## {name}\n\n{text}", flush=True)
        if parsed.publish:
            publish(name, text, page_of(name))
    if failed:
        _say(f"Not measured, for the errors above: {', '.join(failed)}.")
    return 1 if failed else 0


def _parts() -> dict[str, Callable[[Options], Measured]]:
    """Every part by its name. They are imported late, so that `--help` is fast."""
    from benchmarks.parts import (
        arrow,
        connectors,
        directories,
        engines,
        growth,
        large_lake,
        memory,
        profiles,
        ratios,
        server,
        shards,
        small_syncs,
        sql,
        workers,
    )

    return {
        "users": ratios.users,
        "wide": ratios.wide,
        "dirty": ratios.dirty,
        "arrow": arrow.arrow,
        "sql": sql.sql,
        "connectors": connectors.connectors,
        "engines": engines.engines,
        "profile": profiles.profile,
        "workers": workers.workers,
        "shards": shards.shards,
        "server": server.through_server,
        "one-record": small_syncs.one_record,
        "partitions": small_syncs.partitions,
        "refresh": small_syncs.refresh,
        "directories": directories.directories,
        "many-directories": directories.many_directories,
        "streams": memory.interleaved_streams,
        "memory": memory.memory,
        "growth": growth.growth,
        "large-lake": large_lake.large_lake,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--full", action="store_true", help="every part")
    add("--only", nargs="+", choices=list(_parts()), metavar="PART", help=f"these parts: {', '.join(_parts())}")
    records = f"records of one run (default {RECORDS}, or {BRIEF_RECORDS} where no part is named)"
    add("--records", type=int, help=records)
    add("--rounds", type=int, default=ROUNDS, help="runs of each contestant (default %(default)s)")
    add("--gigabytes", type=float, nargs="+", default=GIGABYTES, help="sizes of generated input (default 1 10)")
    add("--objects", type=int, default=OBJECTS, help="objects that a refresh replaces (default %(default)s)")
    add("--partitions", type=int, default=PARTITIONS, help="partitions of one process (default %(default)s)")
    add("--sizes", type=int, nargs="+", default=SIZES, help="sizes of growth (default 100 1000 10000; try 100000)")
    add("--without-dlt", action="store_true", help="leave dlt out, which takes most of the time")
    add("--publish", action="store_true", help="write the results into docs/performance.md and docs/scale.md")
    return parser


def _options(parsed: argparse.Namespace) -> Options:
    return Options(
        records=_records(parsed),
        rounds=parsed.rounds,
        gigabytes=tuple(parsed.gigabytes),
        objects=parsed.objects,
        partitions=parsed.partitions,
        sizes=tuple(parsed.sizes),
        with_dlt=not parsed.without_dlt,
        say=_say,
    )


def _records(parsed: argparse.Namespace) -> int:
    """Parts that are named have their published size; without a name, the table takes a minute or two."""
    return parsed.records or (RECORDS if parsed.full or parsed.only else BRIEF_RECORDS)


def _command(name: str, parsed: argparse.Namespace) -> str:
    """The command that repeats this part."""
    records = _records(parsed)
    asked = [] if name in BRIEF and records == BRIEF_RECORDS else ["--only", name]
    if asked and records != RECORDS:
        asked += ["--records", str(records)]
    defaults = vars(_parser().parse_args([]))
    for option in ("rounds", "gigabytes", "objects", "partitions", "sizes"):
        value = getattr(parsed, option)
        if value != defaults[option]:
            values = value if isinstance(value, list) else [value]
            asked += [f"--{option}", *(f"{each:g}" for each in values)]
    return f'make bench BENCH="{" ".join(asked)}"' if asked else "make bench"


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
