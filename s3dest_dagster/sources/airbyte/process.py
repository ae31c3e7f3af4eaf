"""A connector's process: started in a group of its own, its standard error drained, ended with all its children.

It knows processes and pipes; it must not know what is written to them.
"""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte import supervisor

_PREFIX = "s3dest-"
_LOCK = ".lock"
_YOUNGEST_S = 60.0
"""A directory that is younger may not have its lock yet."""


class Supervision:
    """A supervisor that waits. `directory` is removed when this process is gone, and what `watch` was told is ended."""

    def __init__(self, directory: str, grace_s: float) -> None:
        reading, self._pipe = os.pipe()
        arguments = [sys.executable, "-I", "-S", supervisor.__file__, str(os.getpid()), str(grace_s), directory]
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(reading)

    def watch(self, group: int) -> None:
        """Has this process group ended when this process is gone."""
        with suppress(BrokenPipeError):  # somebody has ended the supervisor; that harms nothing by itself
            os.write(self._pipe, b"%d\n" % group)

    def end(self) -> None:
        """There is nothing left to be supervised."""
        self._process.kill()
        self._process.wait()
        os.close(self._pipe)


@contextmanager
def supervised_directory(parent: str | None, grace_s: float) -> Iterator[tuple[str, Supervision]]:
    """A directory that this user alone can read, below `parent` or where temporary files are kept, and what supervises
    it. On leaving, or when this process dies, it is removed."""
    remove_abandoned(parent or tempfile.gettempdir())
    directory = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
    lock = -1
    try:
        lock = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        supervision = Supervision(directory, grace_s)
        try:
            yield directory, supervision
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            supervision.end()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def remove_abandoned(parent: str) -> None:
    """Removes the directories below that nobody holds any more: what was left when a machine went down.

    Only this user's own, and only those whose lock, which the kernel gives back when a process dies, can be had.
    """
    with suppress(OSError), os.scandir(parent) as entries:
        for each in entries:
            if each.name.startswith(_PREFIX) and each.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_abandoned(each)


def _remove_if_abandoned(directory: os.DirEntry[str]) -> None:
    found = directory.stat(follow_symlinks=False)
    if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _YOUNGEST_S:
        return
    lock = os.open(os.path.join(directory.path, _LOCK), os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory.path)
    finally:
        os.close(lock)


_PIPE_BYTES = 1 << 20
_WAITING_LINES = 1000
_LAST_LINES = 20
_LONGEST_LINE = 4000
_LOOK_EVERY_MS = 20
_READ_BYTES = 1 << 16
_LAST_READS = 64
"""How often standard error is still read after the end: more than a full pipe, but not for ever."""


def split_command(command: str | Sequence[str]) -> list[str]:
    """The command as a list; a text is split like a shell does, without running one."""
    try:
        arguments = shlex.split(command) if isinstance(command, str) else [os.fspath(part) for part in command]
    except ValueError as error:
        raise SettingsError(f"The source's command cannot be split into words: {error}.", setting="command") from None
    if not arguments:
        raise SettingsError("The source's command is empty.", setting="command")
    return arguments


@contextmanager
def running(
    arguments: Sequence[str], supervision: Supervision, *, environment: Mapping[str, str] | None, grace_s: float
) -> Iterator[ConnectorProcess]:
    """Run the command; on leaving, whatever the reason, its whole process group is ended and every pipe closed. Where
    this process is killed, the supervision ends the group.

    `environment` is added to this process's own. Raises SettingsError when the command cannot be started.
    """
    try:
        popen = subprocess.Popen(
            arguments,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise SettingsError(
            f"The source's command {arguments[0]!r} cannot be started: {error.strerror}. "
            "Name an executable file, with its path unless it is found by PATH.",
            setting="command",
        ) from None
    process = ConnectorProcess(popen, grace_s)
    try:
        supervision.watch(popen.pid)
        yield process
    finally:
        process.end()


class ConnectorProcess:
    """A running connector. `output` is the descriptor of its standard output."""

    def __init__(self, popen: subprocess.Popen[bytes], grace_s: float) -> None:
        assert popen.stdout is not None
        assert popen.stderr is not None
        self._popen = popen
        self._grace_s = grace_s
        self._ended = False
        self._errors = _Drain(popen.stderr)
        self.output = popen.stdout.fileno()
        _widen(self.output)

    def new_error_lines(self) -> list[str]:
        """What came on standard error since the last call, as lines."""
        return self._errors.new_lines()

    def has_exited(self) -> bool:
        """Whether the process has ended by itself. It is not reaped, so that its group's number stays its own."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._popen.poll() is not None
        return os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, timeout_s: float) -> bool:
        """Wait for the process to end by itself; False when it did not."""
        deadline = time.monotonic() + timeout_s
        while not self.has_exited():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_EVERY_MS / 1000)
        return True

    def end(self) -> int:
        """End the process group: SIGTERM, and SIGKILL for what is left of it after the grace; the exit code."""
        if not self._ended:
            try:
                self._end_gently()
            finally:
                self._signal_group(signal.SIGKILL)
                self._popen.wait()
                self._errors.stop()
                self._ended = True
        return self._popen.returncode

    def _end_gently(self) -> None:
        assert self._popen.stdout is not None
        self._popen.stdout.close()
        if not self.has_exited():
            self._signal_group(signal.SIGTERM)
            self.wait(self._grace_s)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of zombies
            os.killpg(self._popen.pid, number)

    def describe_end(self) -> str:
        """How the ended process ended, with the last lines of its standard error."""
        lines = self._errors.last_lines()
        told = describe_exit(self._popen.returncode)
        return f"{told} Last lines of its standard error:\n" + "\n".join(lines) if lines else told


def describe_exit(code: int) -> str:
    """The exit code as a sentence; a signal by its name."""
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"It ended with exit code {code}."
    hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
    return f"It was ended by {name}{hint}." if code < 0 else f"It ended with exit code {code}: {name}{hint}."


def _widen(descriptor: int) -> None:
    """Let the pipe hold a whole block where the system can, so that source and reader wake each other less often."""
    with suppress(AttributeError, OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class _Drain:
    """Reads standard error on a thread, so that the connector never waits for us there; holds few lines.

    The lines are handed out on the reader's thread, by `new_lines`: a log of ours is never called from another one.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._new: deque[str] = deque()
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._dropped = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connector-stderr", daemon=True)
        self._thread.start()

    def new_lines(self) -> list[str]:
        with self._lock:
            lines, dropped = list(self._new), self._dropped
            self._new.clear()
            self._dropped = 0
        return [f"({dropped} earlier lines of standard error are not shown)", *lines] if dropped else lines

    def last_lines(self) -> list[str]:
        with self._lock:
            return list(self._last)

    def stop(self) -> None:
        """Take what is still there and end the thread, even if a stray process holds the pipe open."""
        self._stopped.set()
        self._thread.join()
        self._stream.close()

    def _run(self) -> None:
        descriptor = self._stream.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
        rest = b""
        reads_left = _LAST_READS
        while reads_left:
            reads_left -= self._stopped.is_set()
            if poll.poll(_LOOK_EVERY_MS):
                if not (chunk := os.read(descriptor, _READ_BYTES)):
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LONGEST_LINE:
                    lines, rest = [*lines, rest], b""
                self._keep(lines)
            elif self._stopped.is_set():
                break
        self._keep([rest])

    def _keep(self, lines: Sequence[bytes]) -> None:
        texts = [line[:_LONGEST_LINE].decode("utf-8", "replace").rstrip() for line in lines]
        with self._lock:
            for text in filter(None, texts):
                self._last.append(text)
                self._new.append(text)
            while len(self._new) > _WAITING_LINES:
                self._new.popleft()
                self._dropped += 1
