"""Where a connector's command comes from: an executable, a container image, or PyAirbyte's installer.

Each kind is a frozen value that says how a process of the connector is started, what ends a process that could not be
ended with it, and which version the connector has. Must not know: verbs, configs, messages.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from glob import escape, glob
from importlib.metadata import distributions
from pathlib import Path
from typing import Protocol

from s3dest_dagster.errors import MissingExtraError, SettingsError, SourceError
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources.airbyte.process import split_command

Command = tuple[list[str], Mapping[str, str]]
"""The arguments of a process, and the variables that are added to its environment."""


class Launcher(Protocol):
    """How the processes of a connector are started."""

    @property
    def name(self) -> str:
        """The connector's name, for messages."""

    def command(self, directory: str, env: Mapping[str, str]) -> Command:
        """The command, which can read the files of the directory. `env`: the connector's variables."""

    def cleanup(self, directory: str) -> list[str]:
        """A command that ends what a killed process of `command` leaves behind. Empty: it leaves nothing."""

    def declared_version(self) -> str | None:
        """The connector's version, as far as it is known without running anything."""

    def reported_version(self) -> str | None:
        """The connector's version, once it has run. None if nothing says it."""


@dataclass(frozen=True, slots=True)
class Executable:
    """An executable file with its first arguments."""

    arguments: Sequence[str]

    @property
    def name(self) -> str:
        return os.path.basename(self.arguments[0])

    def command(self, directory: str, env: Mapping[str, str]) -> Command:
        return list(self.arguments), env

    def cleanup(self, directory: str) -> list[str]:
        return []

    def declared_version(self) -> str | None:
        """The version of the Python package that the executable is a script of."""
        path = shutil.which(self.arguments[0])
        return None if path is None else _package_version(path, os.stat(path).st_mtime_ns)

    def reported_version(self) -> str | None:
        return self.declared_version()


_VERSION_LABEL = "io.airbyte.version"
_DOCKER_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class DockerImage:
    """A connector as a container image: `AirbyteSource(DockerImage("airbyte/source-github:2.1.0"), config)`.

    Each call runs `docker run --rm -i`. The container sees the private directory with its files under the same path,
    read-only, and runs as the user of this process, since nobody else may read these files. The container ends with the
    run, however the run ends. Variables of `env` are not on the command line.

    Args:
        image: The image, with its tag or digest.
        options: Further options of `docker run`, such as `["--network=host"]`.
        docker: The executable: docker, podman or another one with the same options.
        user: The user and group inside of the container. None: those of this process. With rootless Docker: "0:0".

    Raises:
        SettingsError: The image is empty or looks like an option, or a setting is a variable.
    """

    image: str
    options: Sequence[str] = ()
    docker: str = "docker"
    user: str | None = None

    def __post_init__(self) -> None:
        for setting in ("image", "options", "docker", "user"):
            refuse_variables(setting, getattr(self, setting))
        if not self.image or self.image.startswith("-"):
            raise SettingsError(
                f"{self.image!r} is no container image. Name one, as airbyte/source-github:2.1.0.", setting="image"
            )
        if isinstance(self.options, str):
            raise SettingsError('options must be a list, as ["--network=host"].', setting="options")
        object.__setattr__(self, "options", tuple(self.options))

    @property
    def name(self) -> str:
        """The last part of the image's name: `source-github`."""
        return self.image.partition("@")[0].rpartition("/")[2].partition(":")[0]

    def command(self, directory: str, env: Mapping[str, str]) -> Command:
        """`docker run` with the directory as a volume. The values of `env` are only in the environment."""
        user = self.user or f"{os.getuid()}:{os.getgid()}"
        mount = f"type=bind,source={directory},target={directory},readonly"
        arguments = [self.docker, "run", "--rm", "-i", "--name", _container_of(directory), "--user", user]
        arguments += ["--mount", mount, *(part for name in env for part in ("--env", name)), *self.options, self.image]
        return arguments, env

    def cleanup(self, directory: str) -> list[str]:
        """Removes the container: it does not end with a client that was killed."""
        return [self.docker, "rm", "--force", _container_of(directory)]

    def declared_version(self) -> str | None:
        """The image's tag, unless it is `latest`."""
        tag = self.image.partition("@")[0].rpartition("/")[2].partition(":")[2]
        return tag if tag != "latest" and tag else None

    def reported_version(self) -> str | None:
        """The image's label, which Airbyte's images have, or else its tag."""
        arguments = [self.docker, "image", "inspect", "--format", f'{{{{index .Config.Labels "{_VERSION_LABEL}"}}}}']
        try:
            answer = subprocess.run(
                [*arguments, self.image], capture_output=True, timeout=_DOCKER_TIMEOUT_S, check=False, text=True
            )
        except (OSError, subprocess.TimeoutExpired):
            return self.declared_version()
        label = answer.stdout.strip() if answer.returncode == 0 else ""
        return label if label not in ("", "<no value>") else self.declared_version()


def _container_of(directory: str) -> str:
    """The name of the container: that of the directory, which no other run has."""
    return os.path.basename(directory)


@dataclass(frozen=True, slots=True)
class PyAirbyteConnector:
    """A connector that PyAirbyte installs: `AirbyteSource(PyAirbyteConnector("source-faker"), config)`.

    The first call installs it into `.venv-source-faker`, unless it is there. The package `airbyte` must be installed.

    Args:
        name: The name in Airbyte's registry, such as `source-faker`.
        version: The version to install. None: the newest one, or the one that is installed.
        install_root: The directory of `.venv-source-faker`. None: the working directory.

    Raises:
        SettingsError: The name is empty, or a setting is a variable.
    """

    name: str
    version: str | None = None
    install_root: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for setting in ("name", "version", "install_root"):
            refuse_variables(setting, getattr(self, setting))
        if not self.name:
            raise SettingsError("PyAirbyteConnector needs a name, such as source-faker.", setting="name")

    def command(self, directory: str, env: Mapping[str, str]) -> Command:
        """The installed executable.

        Raises:
            MissingExtraError: PyAirbyte is not installed.
            SourceError: The installation failed.
        """
        try:
            from airbyte import get_source  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise MissingExtraError(
                f"{self.name} is to be installed by PyAirbyte, and the package airbyte is missing: "
                "`pip install airbyte`, where the run is executed. Or install the connector yourself, and name its "
                "executable as the source's command.",
                setting="command",
            ) from None
        with self._one_at_a_time():
            try:
                get_source(self.name, version=self.version, install_if_missing=True, install_root=self._root())
            except Exception as error:
                raise SourceError(
                    f"PyAirbyte could not install {self.name} in {self._root()}: {type(error).__name__}: {error} "
                    "Install it by hand, or run it as a container image: docker://airbyte/…"
                ) from error
        if not self._executable().exists():
            raise SourceError(
                f"PyAirbyte installed {self.name}, but {self._executable()} does not exist. A connector without "
                f"a Python package runs as a container image: docker://airbyte/{self.name}"
            )
        return [str(self._executable())], env

    def cleanup(self, directory: str) -> list[str]:
        return []

    def declared_version(self) -> str | None:
        """The installed version, or the one that is to be installed."""
        executable = self._executable()
        return Executable([str(executable)]).declared_version() if executable.exists() else self.version

    def reported_version(self) -> str | None:
        return self.declared_version()

    def _root(self) -> Path:
        return Path.cwd() if self.install_root is None else Path(self.install_root).absolute()

    def _executable(self) -> Path:
        return self._root() / f".venv-{self.name}" / "bin" / self.name

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Keeps two steps on one machine from installing the connector at once."""
        self._root().mkdir(parents=True, exist_ok=True)
        lock = os.open(self._root() / f".venv-{self.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


# ---------------------------------------------------------------------- the command as users write it

_DOCKER, _PYAIRBYTE = "docker://", "pyairbyte://"

AnyCommand = str | Sequence[str] | DockerImage | PyAirbyteConnector
"""An executable, an image, or a connector to install."""


def launcher_of(command: AnyCommand) -> Launcher:
    """How the command is launched. `docker://IMAGE` and `pyairbyte://NAME==VERSION` are texts for the two values.

    Raises:
        SettingsError: The command is empty, or cannot be split.
    """
    if isinstance(command, DockerImage | PyAirbyteConnector):
        return command
    if isinstance(command, str) and command.startswith(_DOCKER):
        return DockerImage(command.removeprefix(_DOCKER))
    if isinstance(command, str) and command.startswith(_PYAIRBYTE):
        name, _, version = command.removeprefix(_PYAIRBYTE).partition("==")
        return PyAirbyteConnector(name, version or None)
    return Executable(tuple(split_command(command)))


# ---------------------------------------------------------------------- versions of packages


@lru_cache(maxsize=64)
def _package_version(path: str, changed_ns: int) -> str | None:
    """The version of the package that has this script. `changed_ns`: when the script was written.

    The package is looked for in the environment of the script, which is usually another one than this process's.
    """
    script = os.path.basename(path)
    if script.startswith("python"):
        return None
    for directory in dict.fromkeys((os.path.dirname(path), os.path.dirname(os.path.realpath(path)))):
        for packages in glob(os.path.join(escape(os.path.dirname(directory)), "lib", "python3*", "site-packages")):
            for package in distributions(path=[packages]):
                scripts = package.entry_points.select(group="console_scripts", name=script)
                if len(scripts):
                    return package.version
    return None
