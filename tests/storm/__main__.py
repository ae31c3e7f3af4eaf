"""Runs a storm on each server: many processes that land eleven kinds of streams while others run recover, sweep, verify
and state set.

    python -m storm --processes 500 --seed 7 --servers "moto rclone"

Prints a line for each server, and exits with 1 if anything was lost, doubled, mixed or left over. The seed
reproduces what the processes do and which of them are killed and paused. The moments also depend on the machine.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from land_and_read import destination
from process_pool import PROCESSES
from real_servers.known import KNOWN
from servers import S3Server
from storm.acts import Outcome, Verb
from storm.driver import Storm, drawn_acts
from storm.history import History
from storm.oracle import RecoverResult, faults_of, put_foreign, recover_all

SERVERS = ("moto", "seaweedfs", "rclone")
UNTIMED = ("moto",)
"""Servers that date every upload to 2010, so a sweep cannot spare recent uploads."""
_SHOWN = 20


def main() -> int:
    chosen = _arguments()
    logging.getLogger("s3dest_dagster").setLevel(logging.ERROR)
    PROCESSES.set_forkserver_preload(["storm.warm"])
    return max(_on(name, chosen) for name in chosen.servers.split())


def _on(name: str, chosen: argparse.Namespace) -> int:
    with TemporaryDirectory(prefix=f"storm-{name}-") as folder, KNOWN[name].start(Path(folder)) as server:
        began = time.monotonic()
        history, recover_result, faults = _storm(name, server, chosen)
        print(_line(name, history, recover_result, faults, chosen.seed, time.monotonic() - began), flush=True)
        for each in faults[:_SHOWN]:
            print(f"  {each}", flush=True)
        if chosen.words:
            _show_messages(history)
        if faults and chosen.keep:
            input(f"{server.endpoint} keeps running until you press return. ")
    return 1 if faults else 0


def _storm(name: str, server: S3Server, chosen: argparse.Namespace) -> tuple[History, RecoverResult, list[str]]:
    chance, bucket, sweeps = random.Random(f"{name} {chosen.seed}"), server.new_bucket(), name not in UNTIMED
    put_foreign(server, bucket)
    acts = drawn_acts(server, bucket, chosen.processes, chance, sweeps=sweeps)
    history = Storm(acts, chance, at_once=chosen.at_once, writer_per_scope=not _allows_concurrent_writers(server)).run()
    met = [each for each in history.attempts if each.outcome is Outcome.FAULT]
    faults = [f"{each.act.verb} of {each.act.kind}: {each.word}" for each in met]
    recover_result, recover_faults = recover_all(server, bucket, sweeps=sweeps)
    return history, recover_result, [*faults, *recover_faults, *faults_of(server, bucket, history, sweeps=sweeps)]


def _allows_concurrent_writers(server: S3Server) -> bool:
    """Whether the server promises more than one writer per scope at a time. Uses its own bucket, so that the
    processes of the storm must find out for themselves what the server can do."""
    return server.open(destination(server.new_bucket())).abilities.detects_concurrent_writers


def _line(
    name: str, history: History, recover_result: RecoverResult, faults: list[str], seed: int, seconds: float
) -> str:
    recovers = [each for each in history.attempts if each.act.verb is Verb.RECOVER and each.outcome is Outcome.DONE]
    recovered = recover_result.recovered + sum(bool(each.word) for each in recovers)
    reported = {
        "processes": len(history.attempts),
        "kills": history.kills,
        "pauses": history.pauses,
        "syncs acknowledged": history.count(Outcome.DONE, Verb.WRITE),
        "repeated": history.count(Outcome.REPEATED, Verb.WRITE),
        "superseded": history.count(Outcome.SUPERSEDED),
        "given up": history.count(Outcome.GAVE_UP),
        "recovered": recovered,
        "faults": len(faults),
    }
    return f"{name}: {', '.join(f'{number} {what}' for what, number in reported.items())}; {seconds:.0f} s, SEED={seed}"


def _show_messages(history: History) -> None:
    words = sorted(
        {
            f"{each.act.verb} of {each.act.kind}, {each.outcome}: {each.word}"
            for each in history.attempts
            if each.word and not each.word.isdigit()
        }
    )
    for each in words:
        print(f"    {each}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m storm", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--processes", type=int, default=500, help="how many, on each server")
    add("--seed", type=int, default=random.SystemRandom().randrange(10_000), help="repeats a storm")
    add("--servers", default=" ".join(SERVERS), help="their names, with blanks between them")
    add("--at-once", type=int, default=10, help="processes that run at a time")
    add("--words", action="store_true", help="show what those said that did not land")
    add("--keep", action="store_true", help="keep the server running when something is wrong")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
