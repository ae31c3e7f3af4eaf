"""A connector's process: starts it, reads its standard error, and ends it.

However a run ends, no process of the connector and no secret outlives it:

1. `private_directory` makes the directory for config, catalog and state, and starts a supervisor next to it.
2. `run_connector` starts the connector in a process group of its own, and passes the group to the supervisor
   (`Supervisor.watch`).
3. The reader stops early, an exception is raised, or the step or command receives SIGTERM and raises: the `with` blocks
   unwind. `ConnectorProcess.stop` sends SIGTERM to the group, and SIGKILL to what is left after the grace period; then
   the directory is removed, and the supervisor is no longer needed.
4. This process is killed, and nothing unwinds: the supervisor (`supervisor.py`) notices that its parent is gone,
   removes the directory, and ends the group in the same way.
5. The machine goes down, and the supervisor dies too: the next run removes the directory (`remove_abandoned`).

Must not know: the content of the pipes and files.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte import supervisor
from s3dest_dagster.sources.airbyte.error_output import ErrorOutput

# ---------------------------------------------------------------------- the directory, and its supervisor

_PREFIX = "s3dest-"
_LOCK = ".lock"
_MIN_ABANDONED_AGE_S = 60.0
"""A younger directory may not have its lock yet."""


class Supervisor:
    """A running supervisor. Once this process is gone, it removes `directory`, ends the watched process group, and runs
    the command `cleanup`."""

    def __init__(self, directory: str, grace_s: float, cleanup: Sequence[str] = ()) -> None:
        reading_end, self._pipe = os.pipe()
        arguments = [sys.executable, "-I", "-S", supervisor.__file__, str(os.getpid()), str(grace_s), directory]
        arguments += cleanup
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=reading_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(reading_end)

    def watch(self, group: int) -> None:
        """Has the supervisor end this process group once this process is gone."""
        # Somebody may have killed the supervisor. That alone does no harm.
        with suppress(BrokenPipeError):
            os.write(self._pipe, b"%d\n" % group)

    def stop(self) -> None:
        """Ends the supervisor, since nothing is left to watch."""
        self._process.kill()
        self._process.wait()
        os.close(self._pipe)


@contextmanager
def private_directory(
    parent: str | None, grace_s: float, cleanup: Callable[[str], Sequence[str]] = lambda directory: ()
) -> Iterator[tuple[str, Supervisor]]:
    """Creates a directory that only this user can read, and its supervisor. Removes both on exit.

    Args:
        parent: Where the directory is created. None: in the system's directory for temporary files.
        grace_s: Seconds between SIGTERM and SIGKILL, for the supervisor.
        cleanup: Returns the command that ends what the connector leaves behind, for the supervisor.
    """
    remove_abandoned(parent or tempfile.gettempdir())
    directory = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
    lock = -1
    try:
        lock = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        watcher = Supervisor(directory, grace_s, cleanup(directory))
        try:
            yield directory, watcher
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            watcher.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def remove_abandoned(parent: str) -> None:
    """Removes the directories of runs that ended because the machine went down.

    Only this user's own directories are removed, and only if their lock is free: the kernel releases the lock of a
    process that dies.
    """
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_abandoned(entry)


def _remove_if_abandoned(directory: os.DirEntry[str]) -> None:
    status = directory.stat(follow_symlinks=False)
    if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _MIN_ABANDONED_AGE_S:
        return
    lock = os.open(os.path.join(directory.path, _LOCK), os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory.path)
    finally:
        os.close(lock)


# ---------------------------------------------------------------------- the process

_PIPE_BYTES = 1 << 20
_POLL_INTERVAL_MS = 20
_CLEANUP_S = 30.0


def split_command(command: str | Sequence[str]) -> list[str]:
    """The command as a list. A text is split as a shell would split it, but no shell runs."""
    try:
        arguments = shlex.split(command) if isinstance(command, str) else [os.fspath(part) for part in command]
    except ValueError as error:
        raise SettingsError(f"The source's command cannot be split into words: {error}.", setting="command") from None
    if not arguments:
        raise SettingsError("The source's command is empty.", setting="command")
    return arguments


@contextmanager
def run_connector(
    arguments: Sequence[str],
    watcher: Supervisor,
    *,
    environment: Mapping[str, str] | None,
    grace_s: float,
    cleanup: Sequence[str] = (),
) -> Iterator[ConnectorProcess]:
    """Runs the command. On exit, for any reason, its whole process group is ended and every pipe is closed.

    Args:
        arguments: The executable and its arguments.
        watcher: Ends the process group if this process is killed.
        environment: Variables that are added to those of this process.
        grace_s: Seconds between SIGTERM and SIGKILL.
        cleanup: A command that ends what the processes leave behind, unless they end well. Empty: none.

    Raises:
        SettingsError: when the command cannot be started.
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
        watcher.watch(popen.pid)
        yield process
    finally:
        if process.stop() != 0 and cleanup:
            _run_quietly(cleanup)


def _run_quietly(command: Sequence[str]) -> None:
    """Runs a command whose failure does no harm."""
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CLEANUP_S, check=False)


class ConnectorProcess:
    """A running connector. `output` is the file descriptor of its standard output."""

    def __init__(self, popen: subprocess.Popen[bytes], grace_s: float) -> None:
        assert popen.stdout is not None
        assert popen.stderr is not None
        self._popen = popen
        self._grace_s = grace_s
        self._stopped = False
        self._errors = ErrorOutput(popen.stderr)
        self.output = popen.stdout.fileno()
        _enlarge_pipe(self.output)

    def new_error_lines(self) -> list[str]:
        """The lines that arrived on standard error since the last call."""
        return self._errors.new_lines()

    def has_exited(self) -> bool:
        """Whether the process has ended on its own. It is not reaped, so its process group keeps its number."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._popen.poll() is not None
        return os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, timeout_s: float) -> bool:
        """Waits for the process to end on its own. Returns False if it does not end within the timeout."""
        deadline = time.monotonic() + timeout_s
        while not self.has_exited():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_INTERVAL_MS / 1000)
        return True

    def stop(self) -> int:
        """Ends the process group by SIGTERM, and by SIGKILL after the grace period. Returns the exit code."""
        if not self._stopped:
            try:
                self._terminate()
            finally:
                self._signal_group(signal.SIGKILL)
                self._popen.wait()
                self._errors.stop()
                self._stopped = True
        return self._popen.returncode

    def _terminate(self) -> None:
        assert self._popen.stdout is not None
        self._popen.stdout.close()
        if not self.has_exited():
            self._signal_group(signal.SIGTERM)
            self.wait(self._grace_s)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of zombies
            os.killpg(self._popen.pid, number)

    def describe_end(self) -> str:
        """How the stopped process ended, with the last lines of its standard error."""
        lines = self._errors.last_lines()
        end = describe_exit(self._popen.returncode)
        return f"{end} Last lines of its standard error:\n" + "\n".join(lines) if lines else end


def describe_exit(code: int) -> str:
    """The exit code as a sentence. A signal is shown by its name."""
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"It ended with exit code {code}."
    hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
    return f"It was ended by {name}{hint}." if code < 0 else f"It ended with exit code {code}: {name}{hint}."


def _enlarge_pipe(descriptor: int) -> None:
    """Enlarges the pipe to a whole block if the system allows it, so that writer and reader wake each other less
    often."""
    with suppress(AttributeError, OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
