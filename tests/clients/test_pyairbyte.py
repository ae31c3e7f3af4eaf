"""PyAirbyte drives the destination with airbyte-source-faker, and the bucket has the records that it should have.

Run by `make test-clients`, which makes the environments.
"""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

USERS = PRODUCTS = 20


@pytest.mark.parametrize(("cached", "times"), [(False, 1), (True, 2)], ids=["uncached", "cached"])
def test_a_second_incremental_write_continues_from_the_states_that_came_back(client, cached, times):
    """With a cache, PyAirbyte sends the whole cache each time."""
    call = {"write_strategy": "append", "cached": cached}
    answer = client.talk(call, call)
    print(f"PyAirbyte {answer['version']}: {answer['written']} records confirmed")
    assert (client.rows("users"), client.rows("products")) == (times * USERS, times * PRODUCTS)


def test_a_full_refresh_replaces_what_was_there(client):
    call = {"write_strategy": "replace", "force_full_refresh": True, "cached": False}
    client.talk(call, call)
    assert (client.rows("users"), client.rows("products")) == (USERS, PRODUCTS)


def test_the_default_strategy_lands_with_one_setting(client):
    client.talk({"cached": False}, dedup="append")
    assert (client.rows("users"), client.rows("products")) == (USERS, PRODUCTS)


def test_a_forced_append_adds(client):
    call = {"write_strategy": "append", "force_full_refresh": True, "cached": False}
    client.talk(call, call)
    assert (client.rows("users"), client.rows("products")) == (2 * USERS, 2 * PRODUCTS)


@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_2000_log_lines_of_the_source_neither_block_nor_lose_anything(client, cached):
    """With PyAirbyte's default strategy. It reads no answer before it has written everything."""
    answer = client.talk({"cached": cached}, source=client.chatty_source(2000), dedup="append")
    print(f"PyAirbyte {answer['version']}: {answer['written']} records confirmed after 2 x 2,000 log lines")
    assert answer["written"] == [USERS + PRODUCTS]
    assert (client.rows("users"), client.rows("products")) == (USERS, PRODUCTS)
