"""The verbs for this machine, with their help: demo, init, serve, and completion, which is all here.

Must not know: how the other verbs work.
"""

from __future__ import annotations

from pathlib import Path

import click

from s3dest_dagster.cli.options import verbose_option
from s3dest_dagster.cli.output import Session

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_S3DEST_COMPLETE"
"""By this variable, click asks the command for completions instead of running a verb."""


@click.command()
@click.option("--ui", is_flag=True, help="Then open Dagster's web interface, until Ctrl-C.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep everything in this folder: a new one, an empty one, or that of an earlier demo. Default: keep nothing.",
)
@click.option(
    "--source",
    metavar="EXECUTABLE",
    help="Read from this connector. Default: source-faker if it is on the path, else records made up by the library.",
)
@verbose_option
@click.pass_obj
def demo(session: Session, ui: bool, keep: Path | None, source: str | None) -> int:
    """Land a few streams in an S3 server on this machine, and look at them.

    Dagster lands a week of a shop's records. Then the plan of the next sync, the objects, the receipt of a sync and a
    query of the records are shown. It needs the extra "demo".
    """
    from s3dest_dagster.cli import demo as demonstration

    return demonstration.demo(session.output, demonstration.DemoRequest(ui=ui, keep=keep, source=source))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--python", is_flag=True, help="Define the streams in Python. Default: in YAML.")
@verbose_option
@click.pass_obj
def init(session: Session, folder: Path, python: bool) -> int:
    """Write a new project to FOLDER, which becomes the name of its package.

    It has the streams of a shop, a bucket on this machine, a test, a CI workflow and a Dockerfile. No file that exists
    is overwritten.
    """
    from s3dest_dagster.cli import project

    return project.init(session.output, folder, python=python)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="lake")
@click.option("--port", type=click.IntRange(1, 65535), help="The port on this machine. Default: a free one.")
@click.option("--bucket", default="local", show_default=True, help="The bucket, which is created.")
@verbose_option
@click.pass_obj
def serve(session: Session, folder: Path, port: int | None, bucket: str) -> int:
    """Serve FOLDER (by default lake) as S3 on this machine, until Ctrl-C.

    Each folder in it is a bucket, and objects are plain files. The variables by which programs reach the bucket are
    printed. It is for trying things: it ignores conditional puts. It needs the extra "demo".
    """
    from s3dest_dagster.cli import project

    return project.serve(session.output, folder, port or 0, bucket)


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the script that completes verbs, options and files of s3dest in SHELL.

    \b
    bash: eval "$(s3dest completion bash)"          in ~/.bashrc
    zsh:  eval "$(s3dest completion zsh)"           in ~/.zshrc, after compinit
    fish: s3dest completion fish | source           in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    session: Session = context.obj
    found = get_completion_class(shell)
    assert found is not None  # click has these three
    session.output.show_document(found(context.find_root().command, {}, "s3dest", _VARIABLE).source())
    return 0


LOCAL_COMMANDS = (demo, init, serve, completion)
