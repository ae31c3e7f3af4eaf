"""The script that `s3dest completion` prints makes a real shell complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s3dest_dagster.cli.entry import run

BIN = Path(sys.executable).parent


@pytest.mark.skipif(shutil.which("bash") is None, reason="This machine has no bash.")
def test_bash_completes_verbs_and_options() -> None:
    script = """
    eval "$(s3dest completion bash)"
    complete -p s3dest
    for words in "s3dest ver" "s3dest verify --de" "s3dest completion "; do
        IFS=' ' read -r -a COMP_WORDS <<< "$words"
        [ "${words: -1}" = " " ] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
        _s3dest_completion s3dest
        echo "${COMPREPLY[@]}"
    done
    """
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    shell = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    verbs, options, shells = (sorted(line.split()) for line in shell.stdout.splitlines()[-3:])
    assert (verbs, options, shells) == (["verify"], ["--deep", "--defs"], ["bash", "fish", "zsh"])
    assert shell.stderr == ""


@pytest.mark.parametrize(
    ("shell", "words"), [("zsh", "#compdef s3dest"), ("fish", "complete --no-files --command s3dest")]
)
def test_other_shells_have_a_script(shell: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert words in capsys.readouterr().out


def test_an_unknown_shell_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "cmd"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err
