"""Logs and errors show no secrets."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.printable import Masking
from s3dest_dagster.sources.airbyte.config import find_secrets


def masking(*configs):
    return Masking([text for config in configs for text in find_secrets(config)])


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "db_passwd",
        "client_secret",
        "api_key",
        "apiKey",
        "access_token",
        "private_key",
        "aws_secret_access_key",
        "access_key_id",
        "service_account_json",
        "Authorization",
        "connection_string",
        "webhook_url",
        "key",
    ],
)
def test_a_text_under_a_secret_looking_key_is_masked(key):
    config = {key: "hunter22"} if key != "service_account_json" else {"credentials": {key: "hunter22"}}
    assert masking(config)("tried hunter22 twice: hunter22!") == "tried **** twice: ****!"


@pytest.mark.parametrize("key", ["host", "user", "start_date", "region", "monkey", "primary_keys", "auth_type"])
def test_other_texts_stay_visible(key):
    assert masking({key: "visible-text"})("visible-text") == "visible-text"


def test_all_texts_within_a_secret_are_masked_except_the_choice_of_method():
    masked = masking({"credentials": {"auth_type": "oauth2.0", "login": "somebody", "list": [{"x": "deeper"}]}})
    assert masked("oauth2.0 somebody deeper") == "oauth2.0 **** ****"


def test_only_the_password_of_a_url_is_masked():
    masked = masking({"url": "postgresql://me:hunter22@db.example.com/x"})
    assert masked("to postgresql://me:hunter22@db.example.com/x") == "to postgresql://me:****@db.example.com/x"


def test_short_texts_and_other_values_stay_visible():
    assert (
        masking({"password": "abc", "token": 1234, "secret": None, "api_key": ""})("abc 1234 None") == "abc 1234 None"
    )


def test_secrets_that_contain_each_other_are_masked_completely():
    assert masking({"password": "hunter", "token": "hunter22"})("hunter22") == "****"


def test_several_configs_are_masked_together():
    assert masking({"password": "hunter22"}, {"API_TOKEN": "abcd1234"})("hunter22 abcd1234") == "**** ****"


def test_a_key_of_several_lines_is_masked_line_by_line():
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\n"
    masked = masking({"private_key": key})
    assert "MIIEvQ" not in masked("error near MIIEvQIBADANBg")
    assert "MIIEvQ" not in masked(json.dumps({"private_key": key}))


@pytest.mark.parametrize("spelled", [str, lambda s: json.dumps(s)[1:-1], lambda s: quote(s, safe=""), quote_plus])
@given(secret=st.text(min_size=4))
def test_a_secret_is_masked_in_plain_text_json_and_urls(spelled, secret):
    assert masking({"password": secret})(f"<{spelled(secret)}>") == "<****>"


def test_half_a_surrogate_pair_in_a_secret_does_no_harm():
    assert masking({"password": "hunter\ud800"})("hunter\ud800") == "****"
