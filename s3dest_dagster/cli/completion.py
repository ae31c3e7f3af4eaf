"""`s3dest completion`: the script by which a shell completes verbs, options and files.

Must not know: any other verb.
"""

from __future__ import annotations

import click

from s3dest_dagster.cli.output import Session

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_S3DEST_COMPLETE"
"""By this variable, click asks the command for completions instead of running a verb."""


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
