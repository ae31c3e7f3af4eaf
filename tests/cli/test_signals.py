"""A `s3dest write` that is stopped or killed leaves nothing visible, and a sweep can remove what it left."""

import json
import os
import signal
import threading

import pytest
from airbyte_messages import log, record
from fault_proxy import Fault, fault_proxy
from warm_process import WarmProcess

from s3dest_dagster.cli.signals import Interrupted, Interruption, interruptible

PART_BYTES = 5 * 2**20


def with_uploaded_parts(lake, *options: str) -> WarmProcess:
    """A running write that has sent at least one part of an object, and waits for more."""
    config = lake.config(s3dest={"part_size_mb": 5, "encode_workers": 1, "max_attempts": 1})
    process = lake.start("write", "--config", config, "--catalog", lake.catalog("users", "orders"), *options)
    lines = [record("users", id=number, name="x" * 100_000) for number in range(PART_BYTES // 100_000 + 10)]
    process.stdin.write("".join([*lines, log("so far")]).encode())
    process.stdin.flush()
    lake.await_line(process, "so far")
    while not lake.uploads():
        assert process.poll() is None
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_aborts_the_uploads_and_is_reported_in_a_sentence(lake, number, code):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored by these tests and therefore by what they start, as under nohup")
    lake.write(record("users", id=1))
    before = lake.all_keys()
    process = with_uploaded_parts(lake)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    lake.watch(stderr.decode())
    assert (process.returncode, stdout) == (code, b"")
    assert stderr.decode().splitlines()[-1] == f"Error: Stopped by {number.name}. Nothing of this sync was published."
    assert lake.all_keys() == before
    assert lake.uploads() == 0


def test_a_killed_write_leaves_nothing_visible_and_can_be_repeated(any_lake):
    any_lake.write(record("users", id=1))
    before = any_lake.all_keys()
    process = with_uploaded_parts(any_lake, "--sync-id", "killed")
    process.kill()
    process.communicate(timeout=60)
    assert any_lake.all_keys() == before
    assert any_lake.write(record("users", id=2), "--sync-id", "killed").returncode == 0
    assert any_lake.ids() == [2]


def test_the_uploads_of_a_killed_write_are_swept_once_they_are_old(rclone_lake):
    """The server reports when an upload began."""
    lake = rclone_lake
    lake.write(record("users", id=1))
    process = with_uploaded_parts(lake)
    process.kill()
    process.communicate(timeout=60)
    assert lake.uploads() == 1
    young = lake.run("sweep", "--config", lake.config())
    assert young.stdout == "public.users: 0 abandoned uploads aborted, 1 kept\n"
    later = lake.run("sweep", "--config", lake.config(), "--now", "2100-01-01T00:00:00Z", "--json")
    (report,) = json.loads(later.stdout)
    assert (report["stream"], report["aborted"], report["kept"]) == ("users", 1, 0)
    assert lake.uploads() == 0
    assert lake.ids() == [1]


def test_a_source_that_stalls_beyond_the_timeout_fails_the_sync(lake):
    process = with_uploaded_parts(lake, "--stall-timeout", "1")
    assert process.wait(timeout=60) == 1
    report = process.stderr.read().decode()
    process.stdin.close()
    assert "The source stalls: it has written nothing for" in report
    assert "Nothing of this sync was published." in report
    assert lake.uploads() == 0


def test_a_line_can_be_as_long_as_the_limit(lake):
    line = record("users", id=1, name="x" * (2 << 20))
    refused = lake.write(line, "--max-line-mb", "1")
    assert refused.returncode == 1
    assert "more than max_line_mb = 1 MB" in refused.stderr
    assert lake.write(line, "--max-line-mb", "3").returncode == 0


class TestInterruption:
    def test_a_signal_raises(self):
        with pytest.raises(Interrupted, match="SIGTERM") as caught:
            Interruption().on_signal(signal.SIGTERM, None)
        assert caught.value.exit_code == 143

    def test_a_deferred_signal_waits_for_the_end_of_the_block(self):
        interruption, done = Interruption(), []
        with pytest.raises(Interrupted), interruption.deferred():  # noqa: PT012
            interruption.on_signal(signal.SIGINT, None)
            done.append("published")
        assert done == ["published"]

    def test_a_second_signal_does_not_wait(self):
        interruption, done = Interruption(), []
        with pytest.raises(Interrupted, match="SIGTERM"), interruption.deferred():  # noqa: PT012
            interruption.on_signal(signal.SIGINT, None)
            interruption.on_signal(signal.SIGTERM, None)
            done.append("published")
        assert done == []

    def test_a_deferred_signal_waits_no_longer_than_the_grace_period(self):
        """With a server that hangs, the block would never end."""
        with (  # noqa: PT012
            interruptible(grace_s=0.05) as interruption,
            pytest.raises(Interrupted, match="SIGTERM"),
            interruption.deferred(),
        ):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()

    def test_a_block_that_ends_within_the_grace_period_is_not_interrupted(self):
        with interruptible(grace_s=600) as interruption:
            before = threading.active_count()
            with pytest.raises(Interrupted), interruption.deferred():
                os.kill(os.getpid(), signal.SIGINT)
            while threading.active_count() > before:
                pass

    def test_the_error_of_the_block_is_not_replaced(self):
        interruption = Interruption()
        with pytest.raises(ZeroDivisionError), interruption.deferred():  # noqa: PT012
            interruption.on_signal(signal.SIGINT, None)
            raise ZeroDivisionError


def test_a_signal_is_obeyed_within_the_grace_when_the_server_hangs(lake, tmp_path):
    """Reads would time out only after ten minutes."""
    with fault_proxy(lake.server) as proxy:
        own = {"part_size_mb": 5, "encode_workers": 1, "max_attempts": 9, "read_timeout_s": 600, "abort_grace_s": 0.3}
        config = lake.config(s3_endpoint=proxy.server.endpoint, s3dest=own)
        lake.prepare(proxy.server.endpoint)
        process = lake.start("write", "--config", config, "--catalog", lake.catalog("users"))
        proxy.always(Fault.HANG, "UploadPart", "AbortMultipartUpload")
        lines = [record("users", id=number, name="x" * 100_000) for number in range(PART_BYTES // 100_000 + 10)]
        process.stdin.write("".join([*lines, log("so far")]).encode())
        process.stdin.flush()
        while "UploadPart" not in proxy.calls:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Stopped by SIGTERM. Nothing of this sync was published." in stderr.decode()
    assert "abort_grace_s = 0.3" in stderr.decode()
    assert lake.data_keys() == []
