"""Clients that read late or never, or end early, and input that is not as it should be."""

import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from airbyte_messages import log, record, state
from warm_process import WarmProcess

from s3dest_dagster.airbyte.standard_output import StandardOutput
from s3dest_dagster.airbyte.verbs import MAX_STREAMS
from s3dest_dagster.cli.output import OutputClosedError

from .conftest import configured

BOM = "\ufeff"


@pytest.fixture
def pipe():
    """A pipe: the file to read from, and the descriptor to write to."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader, open(writing, "wb", buffering=0) as writer:
        yield reader, writer.fileno()


def fill(descriptor: int) -> None:
    """Writes to a pipe until it is full."""
    os.set_blocking(descriptor, False)
    with suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 4096)
    os.set_blocking(descriptor, True)


# ---------------------------------------------------------------------- clients


def test_lines_wait_for_a_client_that_reads_late_and_keep_their_order(pipe):
    reading, writing = pipe
    output = StandardOutput(writing)
    lines = [b"%d %b" % (number, b"x" * 500) for number in range(1000)]
    for line in lines:
        output.write(line)
    received = bytearray()

    def read() -> None:
        while len(received) < sum(map(len, lines)) + len(lines):
            received.extend(reading.read(65536))

    thread = threading.Thread(target=read)
    thread.start()
    output.close()
    thread.join()
    assert bytes(received).splitlines() == lines


def test_a_client_that_never_reads_is_an_error_and_not_an_endless_wait(pipe):
    fill(pipe[1])
    output = StandardOutput(pipe[1], max_waiting_bytes=10_000, timeout_s=0.2)
    output.write(b"x" * 9_000)
    with pytest.raises(OutputClosedError, match=r"Nobody reads standard output: for 0\.2 s"):
        output.write(b"x" * 9_000)
    with pytest.raises(OutputClosedError, match="Nobody reads"):
        output.close()


def test_a_client_that_has_gone_is_an_error(pipe):
    reading, writing = pipe
    reading.close()
    output = StandardOutput(writing)
    with pytest.raises(OutputClosedError, match="closed"):
        _write_and_close(output)
    with pytest.raises(OutputClosedError, match="closed"):
        output.write(b"y")


def _write_and_close(output: StandardOutput) -> None:
    """The first of the two may succeed: a thread writes."""
    output.write(b"x")
    output.close()


def start(connector, settings: dict) -> WarmProcess:
    catalog = connector.file("catalog.json", {"streams": [configured("users")]})
    connector.prepare()
    return connector.start("write", "--config", connector.config(**settings), "--catalog", catalog)


def test_a_client_that_writes_everything_before_it_reads_does_not_hang(connector):
    """Checkpoints hand back more states than a pipe holds, before the end of the input."""
    settings = {"max_attempts": 1, "encode_workers": 1, "checkpoint_mb": 1, "checkpoint_interval_s": 0}
    process = start(connector, {"s3dest": settings})
    many = record("users", id=1, name="x" * 1000) * 1050
    messages = [many, *(state("users", number) for number in range(500)), many, state("users", 500), many]
    process.stdin.write("".join(messages).encode())
    process.stdin.close()
    answers = [json.loads(line) for line in process.stdout.read().splitlines()]
    assert process.wait(timeout=60) == 0
    assert sum(each["type"] == "STATE" for each in answers) == 501


def test_2000_log_lines_of_the_source_do_not_hang_a_client_that_reads_late(connector):
    process = start(connector, {})
    drained = threading.Thread(target=process.stderr.read)
    drained.start()
    process.stdin.write("".join(log(f"line {number} {'x' * 100}") for number in range(2000)).encode())
    process.stdin.write(record("users", id=1).encode())
    process.stdin.close()
    stdout = process.stdout.read()
    drained.join()
    assert process.wait(timeout=60) == 0
    assert len(stdout) < 16 << 10


def test_nothing_is_visible_after_the_client_has_gone(connector):
    process = start(connector, {"s3dest": {"max_attempts": 1, "checkpoint_interval_s": 0}})
    process.stdin.write(record("users", id=1).encode())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert connector.data_keys() == []
    assert connector.uploads() == 0


def test_a_client_that_ends_the_process_after_its_answer_sees_it_end_by_that_signal(connector):
    """Its code would otherwise be that of a failure."""
    process = connector.start("spec")
    line = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert json.loads(line)["type"] == "SPEC"
    assert process.wait(timeout=60) in (0, -signal.SIGTERM)


# ---------------------------------------------------------------------- input


@pytest.mark.parametrize(
    "change",
    [
        lambda text: BOM + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n  \n"),
        lambda text: text.removesuffix("\n"),
    ],
    ids=["BOM", "CRLF", "blank lines", "no last line break"],
)
def test_harmless_differences_change_nothing(connector, change):
    messages = record("users", id=1) + state("users", 1) + record("users", id=2) + state("users", 2)
    result = connector.sync(change(messages))
    assert result.code == 0, result.errors
    assert [each["destinationStats"]["recordCount"] for each in result.states] == [1, 1]
    assert connector.ids() == [1, 2]


def test_a_line_of_a_megabyte_lands(connector):
    result = connector.sync(record("users", id=1, name="x" * (1 << 20)) + state("users", 1))
    assert (result.code, len(result.states)) == (0, 1)
    assert connector.ids() == [1]


@pytest.mark.parametrize("cut", [record("users", id=2)[:-10], state("users", 2)[:-10]], ids=["record", "state"])
def test_an_input_that_breaks_off_publishes_nothing(connector, cut):
    result = connector.sync(record("users", id=1) + state("users", 1) + cut)
    (error,) = result.errors
    assert (result.code, result.states, error["failure_type"]) == (1, [], "system_error")
    assert connector.data_keys() == []


def test_invalid_utf_8_is_a_bad_record(connector, tmp_path):
    catalog = connector.file("catalog.json", {"streams": [configured("users")]})
    settings = {"max_attempts": 1, "encode_workers": 1, "on_bad_record": "fail"}
    connector.prepare()
    process = connector.start("write", "--config", connector.config(s3dest=settings), "--catalog", catalog)
    line = record("users", id=1, name="?").encode().replace(b"?", b"\xff")
    stdout, _ = process.communicate(line, timeout=60)
    traces = [json.loads(each)["trace"] for each in stdout.splitlines() if b"TRACE" in each]
    assert process.returncode == 1
    assert "UTF-8" in traces[0]["error"]["message"]
    assert connector.data_keys() == []


def test_a_catalog_of_very_many_streams_is_refused_before_anything_is_made_of_it(connector):
    streams = [configured("users", stream={"name": f"s{number}"}) for number in range(MAX_STREAMS + 1)]
    began = time.process_time()
    result = connector.sync(record("users", id=1), *streams)
    (error,) = result.errors
    assert (result.code, error["failure_type"]) == (1, "config_error")
    assert f"{MAX_STREAMS + 1:,} streams" in error["message"]
    assert time.process_time() - began < 10


def test_an_empty_input_deletes_nothing(connector):
    """The source may not have run at all."""
    connector.sync(record("users", id=1))
    assert connector.sync("").code == 0
    result = connector.sync("", configured("users", "overwrite"))
    assert (result.code, len(result.errors)) == (1, 1)
    assert connector.ids() == [1]


def test_the_environment_of_a_platform_is_taken(connector):
    """The job's id fills `{sync_id}` in the names of objects."""
    catalog = connector.file("catalog.json", {"streams": [configured("users")]})
    config = connector.config(file_name_pattern="{sync_id}_{part_number}{format_extension}")
    connector.prepare()
    result = connector.call(
        "write", "--config", config, "--catalog", catalog, stdin=record("users", id=1), WORKER_JOB_ID="417"
    )
    assert result.code == 0, result.errors
    assert [Path(key).name.partition("_")[0] for key in connector.data_keys()] != []
    assert all("417_0" in key for key in connector.data_keys())
