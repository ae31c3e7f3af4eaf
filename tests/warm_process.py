"""A command that a test talks to while it runs, as with `subprocess.Popen`, started by `WarmStart`."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any


class WarmProcess:
    """A running command, with its standard streams as pipes."""

    def __init__(self, ask: Callable[[dict[str, Any]], int | None], pid: int, folder: Path) -> None:
        """
        Args:
            ask: sends a request to the process that has started the command.
            folder: the named pipes, which the command opens in this order: standard input, output and error. Those that
                are missing go elsewhere.
        """
        self._ask = ask
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = (
            path.open(mode) if path.exists() else io.BytesIO()
            for path, mode in ((folder / "stdin", "wb"), (folder / "stdout", "rb"), (folder / "stderr", "rb"))
        )

    def poll(self) -> int | None:
        """The exit code, or None while the command is running."""
        if self.returncode is None:
            self.returncode = self._ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code, once the command has ended."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, "the command has not ended"
            time.sleep(0.01)
        return code

    def communicate(self, given: bytes = b"", *, timeout: float) -> tuple[bytes, bytes]:
        """Gives the command the rest of its input. Returns what it then writes until it ends."""
        with ThreadPoolExecutor(2) as pool:
            written = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            with suppress(BrokenPipeError):
                self.stdin.write(given)
            with suppress(BrokenPipeError):
                self.stdin.close()
            stdout, stderr = (each.result() for each in written)
        self.wait(timeout)
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
