"""A standard stream is closed or full: no sync is lost because of it, and nothing wrong lands."""

from __future__ import annotations

import json

import pytest
from airbyte_messages import record, state

MESSAGES = record("users", id=1) + record("orders", id=1) + state("users", 7)


def options(lake) -> list[str]:
    return ["--config", lake.config(), "--catalog", lake.catalog("users", "orders")]


def test_with_standard_error_closed_everything_lands(lake):
    process = lake.start_alone("write", *options(lake), closed=2)
    stdout, _ = process.communicate(MESSAGES.encode(), timeout=60)
    assert process.returncode == 0
    assert json.loads(stdout) == json.loads(state("users", 7))
    assert (lake.ids("users"), lake.ids("orders")) == ([1], [1])


@pytest.mark.parametrize("verbose", [[], ["--verbose"]])
def test_with_standard_error_on_a_full_disk_everything_lands(lake, verbose):
    answer = lake.run_into({"stderr": "/dev/full"}, "write", *options(lake), *verbose, stdin=MESSAGES)
    assert answer.returncode == 0
    assert json.loads(answer.stdout) == json.loads(state("users", 7))
    assert (lake.ids("users"), lake.ids("orders")) == ([1], [1])


def test_standard_output_on_a_full_disk_is_reported(lake):
    answer = lake.run_into({"stdout": "/dev/full"}, "write", *options(lake), stdin=MESSAGES)
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == "Error: Standard output cannot be written to: No space left on device."
    assert (lake.ids("users"), lake.ids("orders")) == ([1], [1])


def test_a_closed_standard_input_is_not_an_empty_source(lake):
    assert lake.write(record("users", id=1)).returncode == 0
    process = lake.start_alone("write", *options(lake), closed=0)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (
        2,
        b"Error: Standard input is closed; the messages of a source are expected there. "
        b"Help: docs/troubleshooting.md#settingserror\n",
    )
    assert lake.ids("users") == [1]
