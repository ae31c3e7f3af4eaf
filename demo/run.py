"""The demo: a real connector's streams, materialized by Dagster into an S3 server on this machine, and read back.

    python demo/run.py            partitions of two streams, a stream from Python, a range of days in one run; then what
                                  Dagster does on its own: a file that arrives, a stream that is missing; and what is
                                  computed from two streams
    python demo/run.py --small    the same with few records
    python demo/run.py --ui       the S3 server and Dagster's web interface, until Ctrl-C

Everything that it types is a command that a user can type too; it shows each one.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from automation import CONDITIONS, let_it_work
from server import BUCKET, ENDPOINT, LAKE, ROOT, serving
from tree import print_tree

from s3dest_dagster.local.processes import end_group, lines_of

BIN = Path(sys.executable).parent
DAGSTER_HOME = ROOT / ".dagster_home"
INBOX = ROOT / "inbox"
MODULE = "s3dest_dagster.definitions"
# The six days before today: the last three one by one, those before them as a range.
DAYS = [(datetime.now(UTC).date() - timedelta(days=before)).isoformat() for before in range(6, 0, -1)]
PARTITIONS = DAYS[3:]
RANGE = f"{DAYS[0]}...{DAYS[2]}"
RECORDS, FEW_RECORDS = "5000", "200"
_AT_WORK = "  … at work"
UI_PORT = os.environ.get("S3DEST_UI_PORT", "3000")


def main() -> int:
    options = _options()
    _unwind_when_stopped()
    os.chdir(ROOT)
    environment = _environment(RECORDS if not options.small else FEW_RECORDS)
    with serving() as started:
        if options.ui:
            return _web_interface(environment)
        _materialize_everything(environment, alone=started)
        print_tree()
    print(
        f"\nThe objects are plain files under {LAKE.relative_to(ROOT)}/{BUCKET}. `make ui` opens the same in a browser."
    )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few records")
    parser.add_argument("--ui", action="store_true", help="serve Dagster's web interface instead")
    return parser.parse_args()


def _environment(records: str) -> dict[str, str]:
    """Every command's environment: Dagster's home, the S3 server's address, the number of generated records."""
    DAGSTER_HOME.mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "resources" / "dagster.yaml", DAGSTER_HOME / "dagster.yaml")
    ours = {"DAGSTER_HOME": str(DAGSTER_HOME), "S3DEST_DEMO_ENDPOINT": ENDPOINT}
    return {"FAKER_RECORDS": records, **os.environ, **ours}


def _materialize_everything(environment: dict[str, str], *, alone: bool) -> None:
    for partition in PARTITIONS:
        _materialize("faker/users,faker/purchases,house/readings", environment, "--partition", partition)
    _materialize("house/readings", environment, "--partition-range", RANGE)
    _let_dagster_work(environment, daemon=alone)
    _materialize("revenue", environment, "--partition", PARTITIONS[0])


def _let_dagster_work(environment: dict[str, str], *, daemon: bool) -> None:
    """A file has arrived and the products are missing: the sensor and the automation conditions land both."""
    _deliver()
    _run(["dagster", "sensor", "start", CONDITIONS, "-w", "workspace.yaml"], environment, "started sensor")
    print("\n$ dagster-daemon run -w workspace.yaml" if daemon else "\nThe web interface's daemon works:", flush=True)
    for line in let_it_work(DAGSTER_HOME, environment, "deliveries_arrive", "faker/products", daemon=daemon):
        print(f"  {_without_manifest(line)}" if line is not None else _AT_WORK, flush=True)


def _deliver() -> None:
    """Puts a file into the inbox, an hour old, since the sensor ignores files that may still be written."""
    INBOX.mkdir(exist_ok=True)
    delivered = INBOX / "monday.csv"
    delivered.write_text("product_id,count\n7,20\n", encoding="utf-8")
    an_hour_ago = time.time() - 3600
    os.utime(delivered, (an_hour_ago, an_hour_ago))


def _materialize(selection: str, environment: dict[str, str], *partitions: str) -> None:
    command = ["dagster", "asset", "materialize", "-m", MODULE, "--select", selection, *partitions]
    _run(command, environment, " landed ")


def _run(command: list[str], environment: dict[str, str], *shown: str) -> None:
    """Runs the command, and prints the lines that contain one of these texts."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    printed: list[str] = []
    with lines_of([BIN / command[0], *command[1:]], environment=environment) as (process, lines):
        for line in lines:
            if line is None:
                print(_AT_WORK, flush=True)
                continue
            printed.append(line)
            if any(text in line.lower() for text in shown):
                print("  " + _without_manifest(line.split(" - ")[-1].strip()), flush=True)
        code = process.wait()
    if code != 0:
        print("\n".join(printed))
        raise SystemExit(f"It failed with exit code {code}; see its output above.")


def _without_manifest(line: str) -> str:
    """What has landed, without the long key of its manifest, so that the line fits a terminal."""
    return line.partition(". s3://")[0]


def _web_interface(environment: dict[str, str]) -> int:
    print(f"Dagster's web interface: http://127.0.0.1:{UI_PORT}  (Ctrl-C ends it and the S3 server)", flush=True)
    command = [BIN / "dagster", "dev", "-h", "127.0.0.1", "-p", UI_PORT]
    # A group of its own, so that its webserver, daemon and code servers can be ended together.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        end_group(process)


def _unwind_when_stopped() -> None:
    """Lets SIGTERM and SIGHUP stop the servers like Ctrl-C: by an exception that leaves every block."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signal_number)

    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)


if __name__ == "__main__":
    raise SystemExit(main())
