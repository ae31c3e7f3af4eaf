"""What happens to the workers of engines in tests: one is killed after it has closed an object. Workers import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from s3dest_dagster.ingest.receipt import Progress


class KilledOnce:
    """For `on_progress` of `stage`: kills the first worker that begins its second object, after its parts were sent."""

    def __init__(self, folder: Path) -> None:
        self.marker = str(folder / "killed")

    def __call__(self, progress: Progress) -> None:
        if progress.objects < 2:
            return
        try:
            os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)


def records(first: int, count: int) -> list[dict[str, object]]:
    return [{"id": number, "text": f"{number:0400}"} for number in range(first, first + count)]
