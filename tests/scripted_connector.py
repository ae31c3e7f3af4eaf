"""The program that a `ScriptedSource` runs: an Airbyte source connector that follows a script.

Usage: scripted_connector.py SCRIPT.json (spec | check | discover | read) [--config F] [--catalog F] [--state F]

The script maps a verb, or `verb#n` for its n-th call, to steps: lists of a step's name and its arguments. Each call is
recorded in `SCRIPT.json.calls` as a line of JSON.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FILES: dict[str, str] = {}
"""The files of this call, by option."""


def main() -> None:
    script_path, verb, *options = sys.argv[1:]
    script = json.loads(Path(script_path).read_text())
    count = _record_call(Path(f"{script_path}.calls"), verb, options)
    FILES.update(zip(options[::2], options[1::2], strict=True))
    for name, *arguments in script.get(f"{verb}#{count}", script.get(verb, [])):
        STEPS[name](*arguments)
    sys.stdout.flush()


def _record_call(path: Path, verb: str, options: list[str]) -> int:
    """Append the call and the content of its files. Gives its number among the calls of this verb."""
    files = dict(zip(options[::2], options[1::2], strict=True))
    call = {
        "verb": verb,
        "pid": os.getpid(),
        "argv": sys.argv,
        "files": {option.removeprefix("--"): json.loads(Path(file).read_text()) for option, file in files.items()},
        "modes": {option.removeprefix("--"): oct(os.stat(file).st_mode & 0o777) for option, file in files.items()},
        "directory_modes": [oct(os.stat(Path(file).parent).st_mode & 0o777) for file in files.values()],
        "paths": list(files.values()),
    }
    before = path.read_text().splitlines() if path.exists() else []
    with path.open("a") as file:
        file.write(json.dumps(call) + "\n")
    return 1 + sum(json.loads(line)["verb"] == verb for line in before)


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def lines(texts: list[str]) -> None:
    write("".join(f"{text}\n" for text in texts))


def generate(prefix: str, fields: dict, suffix: str, first: int, count: int) -> None:
    """Records with a counting `id`, written as fast as Python can; `prefix` and `suffix` are the rest of each."""
    rest = json.dumps(fields)[1:]
    begin, end = f'{prefix}{{"id":', f"{',' if fields else ''}{rest}{suffix}\n"
    for start in range(first, first + count, 1000):
        sys.stdout.write("".join(f"{begin}{n}{end}" for n in range(start, min(start + 1000, first + count))))
    sys.stdout.flush()


def count_on(record: str, state: str, until: int) -> None:
    """A record and its state for each number after that of the call's state, in place of "NUMBER"."""
    given = json.loads(Path(FILES["--state"]).read_text()) if "--state" in FILES else None
    first = given[0]["stream"]["stream_state"]["at"] + 1 if given else 1
    for number in range(first, until + 1):
        lines([line.replace('"NUMBER"', str(number)) for line in (record, state)])


def write_hex(digits: str) -> None:
    sys.stdout.buffer.write(bytes.fromhex(digits))
    sys.stdout.flush()


def stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def repeat_stderr(text: str, times: int) -> None:
    stderr(f"{text}\n" * times)


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


def touch(path: str) -> None:
    Path(path).touch()


def leave(code: int) -> None:
    sys.stdout.flush()
    os._exit(code)


def kill(number: int) -> None:
    sys.stdout.flush()
    os.kill(os.getpid(), number)
    time.sleep(60)


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def note_sigterm(path: str) -> None:
    def note(*_: object) -> None:
        Path(path).touch()
        os._exit(0)

    signal.signal(signal.SIGTERM, note)


def grandchild(pid_file: str) -> None:
    """A process that holds standard output and error open and ignores SIGTERM."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    Path(pid_file).write_text(str(subprocess.Popen([sys.executable, "-c", code]).pid))


def close_stdout() -> None:
    sys.stdout.flush()
    os.close(1)


STEPS = {
    "write": write,
    "lines": lines,
    "generate": generate,
    "count_on": count_on,
    "write_hex": write_hex,
    "stderr": stderr,
    "repeat_stderr": repeat_stderr,
    "sleep": time.sleep,
    "wait_for": wait_for,
    "touch": touch,
    "exit": leave,
    "kill": kill,
    "ignore_sigterm": ignore_sigterm,
    "note_sigterm": note_sigterm,
    "grandchild": grandchild,
    "close_stdout": close_stdout,
}

if __name__ == "__main__":
    main()
