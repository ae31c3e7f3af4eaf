"""What makes sure that a connector and its secrets do not outlive the process that started it, however that ends.

A supervisor (see there) waits beside it for the end of a pipe. Where both die at once, as with the machine, the next
call removes the files that were left. It must not know what the files hold.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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
