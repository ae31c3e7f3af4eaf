"""What the library reads from foreign errors: codes and classes of the installed botocore, and AWS's documented
wording."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from recording_proxy import recording_proxy
from servers import S3Server
from tls import new_authority

from s3dest_dagster.errors import EndpointUnreachableError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import Bucket, RetryPolicy, access_denied, open_client

KEYS = {"access_key_id": "AKIA", "secret_access_key": "secret", "max_attempts": 1}
USER = "User: arn:aws:iam::123456789012:user/Jane"
KEY_ARN = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd"


def pauses_of_a_put(endpoint: str) -> tuple[list[float], str]:
    """The pauses between the attempts of a failing put, and the error message."""
    pauses: list[float] = []
    policy = RetryPolicy(max_attempts=3, pause=pauses.append)
    with pytest.raises(EndpointUnreachableError) as failed:
        Bucket(open_client(S3Connection(endpoint=endpoint, **KEYS)), "lake", policy).put("a", b"")
    return pauses, str(failed.value)


class TestTls:
    """OpenSSL's reason decides whether a retry may help."""

    def test_an_unknown_authority_is_not_retried(self, moto_s3: S3Server, tmp_path: Path) -> None:
        with recording_proxy(tls=new_authority(tmp_path).server) as server:
            pauses, message = pauses_of_a_put(server.endpoint)
        assert pauses == []
        assert "CERTIFICATE_VERIFY_FAILED" in message

    def test_a_server_that_speaks_plain_http_is_not_retried(self, moto_s3: S3Server) -> None:
        pauses, message = pauses_of_a_put(moto_s3.endpoint.replace("http://", "https://"))
        assert pauses == []
        assert "write http://" in message

    @pytest.fixture
    def hanging_up(self) -> Iterator[str]:
        """The endpoint of a server that ends each connection in the middle of the TLS handshake."""
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def hang_up() -> None:
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    with connection:
                        connection.recv(1 << 16)

            thread = threading.Thread(target=hang_up, daemon=True)
            thread.start()
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)

    def test_an_interrupted_handshake_is_retried(self, hanging_up: str) -> None:
        pauses, _ = pauses_of_a_put(hanging_up)
        assert len(pauses) == 2


class TestAwsDenials:
    """AWS names the action and the kind of policy only in the message, as
    https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html shows."""

    def test_the_named_action_and_resource_replace_those_of_the_request(self) -> None:
        text = f"{USER} is not authorized to perform: kms:GenerateDataKey on resource: {KEY_ARN} because no identity-"
        error = access_denied("s3:PutObject", "lake", "a", f"{text}based policy allows the kms:GenerateDataKey action")
        assert error.action == "kms:GenerateDataKey"
        assert f'"Action": "kms:GenerateDataKey", "Resource": "{KEY_ARN}"' in error.message

    def test_a_quoted_resource_is_not_part_of_the_action(self) -> None:
        text = f'{USER} is not authorized to perform: s3:PutObjectAcl on resource: "arn:aws:s3:::lake/a" because …'
        error = access_denied("s3:PutObject", "lake", "a", text)
        assert '"Action": "s3:PutObjectAcl", "Resource": "arn:aws:s3:::lake/*"' in error.message

    def test_no_statement_is_suggested_against_an_explicit_deny(self) -> None:
        text = f"{USER} is not authorized to perform: s3:PutObject with an explicit deny in a service control policy"
        error = access_denied("s3:PutObject", "lake", "a", text)
        assert "A policy denies it explicitly" in error.message
        assert "Effect" not in error.message

    def test_without_a_named_action_the_one_of_the_request_counts(self) -> None:
        error = access_denied("s3:ListBucket", "lake", None, "Access Denied")
        assert '"Action": "s3:ListBucket", "Resource": "arn:aws:s3:::lake"}' in error.message
