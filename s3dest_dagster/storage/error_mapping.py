"""What S3 and botocore can answer, as errors of our own: the one place where foreign errors are mapped.

It says what is worth another try; it must not try anything itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from s3dest_dagster.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    EndpointUnreachableError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageError,
    UploadVanishedError,
)
from s3dest_dagster.storage.credential_errors import of_foreign_chain

BUCKET_ACTIONS = frozenset({"s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation"})

_UNKNOWN_IDENTITY = {
    "InvalidAccessKeyId": "S3 does not know the access key id",
    "SignatureDoesNotMatch": "the secret access key does not belong to the access key id",
    "InvalidToken": "the session token is not valid",
    "InvalidTokenId": "the session token is not valid",
    "TokenRefreshRequired": "the session token must be renewed",
    "UnrecognizedClientException": "the session token is not valid",
    "InvalidClientTokenId": "AWS does not know the access key id",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the server's",
}
_IDENTITY_CALLS = {"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "GetRoleCredentials"}
"""Calls that the credential chain makes by itself before a request is signed."""
_LET_THROUGH = (FileNotFoundError, PermissionError, IsADirectoryError, RuntimeError)
"""What the chain lets through: a token's file that cannot be read, and credentials that have ended when they come."""
_OF_CHAIN = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.SSOError,
    boto.TokenRetrievalError,
    *_LET_THROUGH,
)
"""What the chain of a client meets that is not one of ours, whose chain is mapped where it is asked."""
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}
_NAMED_ACTION = re.compile(r"not authorized to perform: (\w+:\w+)(?: on resource: \"?([^\s\"]*[\w*]))?")
_KEY_ARN = re.compile(r"arn:[\w-]+:kms:[^:]*:[^:]*:key/")
_WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
_REDIRECTS = {301, 302, 303, 307, 308}
_CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_UNMET = 412
"""The status that says so, too, whatever the code: Swift's is InvalidRequest."""

_UNANSWERED = (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, ResponseParserError)
"""No whole answer came: no connection, a reset, a timeout, an answer that was cut short or is no S3 answer."""
_BUSY_STATUS = {408, 429, 500, 502, 503, 504}
_BUSY = {
    "BandwidthLimitExceeded",
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
}
_SAYS_NOTHING = {401, 403, 408, 409, 412, 429}
"""Statuses of the 4xx that do not say that a kind of request is not known."""
_NOT_TAKEN = {"InvalidArgument", "InvalidRequest", "MethodNotAllowed", "NotImplemented"}
_DAMAGED = {"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
"""The server noticed that what it received is not what was sent."""
_WRONG_TLS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")


def policy_statement(action: str, bucket: str, kms_key: str | None = None, partition: str = "aws") -> str:
    """The IAM policy statement that allows `action` on the bucket, or on the key of KMS, as JSON text to paste.
    `partition` is the part of AWS that its ARNs name."""
    if action.startswith("kms:"):
        # An alias is not what policies name.
        resource = kms_key if kms_key and _KEY_ARN.match(kms_key) else f"arn:{partition}:kms:*:*:key/*"
    else:
        resource = f"arn:{partition}:s3:::{bucket}" + ("" if action in BUCKET_ACTIONS else "/*")
    return json.dumps({"Effect": "Allow", "Action": action, "Resource": resource})


ASKED = (boto.ClientError, boto.BotoCoreError, ResponseParserError, *_LET_THROUGH)
"""What a client of boto3 raises."""


def refuses_identity(answer: Mapping[str, Any], method: str) -> bool:
    """Whether a parsed answer says that the keys which the request was signed by are not, or no longer, good.

    The answer to a HEAD has no body: credentials that have ended make it a plain 400.
    """
    code = str(answer.get("Error", {}).get("Code", ""))
    return code in _UNKNOWN_IDENTITY.keys() - {"RequestTimeTooSkewed"} or (method == "HEAD" and code == "400")


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed when it is sent again: nobody answered, or the server was busy or broken."""
    if isinstance(error, boto.ClientError):
        answer: dict[str, Any] = error.response
        code = str(answer.get("Error", {}).get("Code", ""))
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return code in _BUSY or code in _DAMAGED or status in _BUSY_STATUS
    if isinstance(error, boto.SSLError):
        return not any(reason in str(error) for reason in _WRONG_TLS)
    return isinstance(error, _UNANSWERED)


def is_refusal(error: StorageError) -> bool:
    """Whether a server definitely refused a kind of request: a 4xx that says neither who may, nor that it is busy, nor
    that somebody else was first; a 501; or a 304, which some answer to a write whose condition is not met."""
    cause = error.__cause__
    if type(error) not in (StorageError, ObjectNotFoundError) or error.setting is not None:
        return False
    if not isinstance(cause, boto.ClientError) or is_transient(cause):
        return False
    status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(cause.response.get("Error", {}).get("Code", ""))
    if not status:
        # One of the keys of a deletion.
        return code in _NOT_TAKEN
    return status in (304, 501) or (400 <= status < 500 and status not in _SAYS_NOTHING)


def translated(
    error: Exception, action: str, bucket: str, key: str | None = None, *, tried: str = "", partition: str = "aws"
) -> StorageError:
    """The StorageError that tells of one of `ASKED`: with bucket, key, missing action, and how long it was tried."""
    if isinstance(error, boto.ClientError):
        return _of_answer(error, action, bucket, key, tried, partition)
    if isinstance(error, _OF_CHAIN):
        return of_foreign_chain(error)
    return _of_client(error, action, bucket, key, tried)


def _of_answer(
    error: boto.ClientError, action: str, bucket: str, key: str | None, tried: str, partition: str
) -> StorageError:
    answer: dict[str, Any] = error.response
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = str(answer.get("Error", {}).get("Code", status))
    text = answer.get("Error", {}).get("Message", "")
    # One of the keys of a deletion.
    key = answer.get("Error", {}).get("Key", key)
    where = f"s3://{bucket}/{key}" if key else f"bucket {bucket!r}"
    if error.operation_name in _IDENTITY_CALLS:
        return of_foreign_chain(error)
    if code in _UNKNOWN_IDENTITY:
        return CredentialsError(
            f"S3 refused the credentials for {where}: {_UNKNOWN_IDENTITY[code]} ({code}). Check access_key_id and "
            "secret_access_key, or the role or profile that the identity comes from.",
            key=key,
        )
    if code in _DENIED:
        return denied(action, bucket, key, text, partition=partition)
    if code == "NoSuchBucket" or (code == "404" and key is None):
        return BucketNotFoundError(
            f"Bucket {bucket!r} does not exist at this endpoint. Create it, or correct s3_bucket_name, "
            "s3_bucket_region or s3_endpoint.",
            setting="s3_bucket_name",
        )
    if code == "NoSuchUpload":
        return UploadVanishedError(f"The multipart upload of {where} is not known to the server (any more).", key=key)
    if code in ("NoSuchKey", "404", "NotFound"):
        return ObjectNotFoundError(f"{where} does not exist.", key=key)
    if code in _CONFLICTS or status == _UNMET:
        return PreconditionFailedError(f"{where} is not what this sync last saw: another writer changed it.", key=key)
    if code in _WRONG_REGION:
        return StorageError(
            f"{where} is not in the region that was asked ({code}: {text}). Correct s3_bucket_region.",
            key=key,
            setting="s3_bucket_region",
        )
    failed = _ended(f"S3 failed on {where} ({action}): {code}: {text}".rstrip(": "))
    return StorageError(f"{failed} {tried}".rstrip(), key=key)


def refuse_redirect(response_dict: Mapping[str, Any], **_: Any) -> None:
    """Takes an answer before it is read, and raises StorageError when it redirects.

    The SDK follows no redirect either, but looks for the bucket's region where it meets one: on a server that redirects
    everything it does so without end.
    """
    if response_dict["status_code"] in _REDIRECTS:
        place = urlsplit(str(response_dict["headers"].get("location", "")))
        to = f"to {place.scheme}://{place.netloc}" if place.netloc else "without saying where"
        raise StorageError(
            f"The server at s3_endpoint sends elsewhere, {to}; it is not followed. Correct s3_endpoint.",
            setting="s3_endpoint",
        )


def denied(
    action: str,
    bucket: str,
    key: str | None,
    text: str = "",
    *,
    kms_key: str | None = None,
    partition: str = "aws",
) -> AccessDeniedError:
    """The error for a refused action. `text` is the server's: it wins where it names the action that is missing, such
    as one of a header or of an encryption key, and where it says that allowing would not help."""
    if (named := _NAMED_ACTION.search(text)) is not None:
        action, kms_key = named[1], named[2] or kms_key
    where = f"s3://{bucket}/{key}" if key else f"bucket {bucket!r}"
    if "explicit deny" in text:
        cure = f"A policy denies it explicitly, so that allowing it does not help: {text}"
    else:
        cure = f"Add this statement to the identity's policy: {policy_statement(action, bucket, kms_key, partition)}"
    return AccessDeniedError(f"S3 denied {action} on {where}. {cure}", key=key, action=action)


def _of_client(error: Exception, action: str, bucket: str, key: str | None, tried: str) -> StorageError:
    where = f"s3://{bucket}/{key}" if key else f"bucket {bucket!r}"
    if isinstance(error, boto.SSLError):
        return EndpointUnreachableError(
            f"The TLS connection for {where} failed: {error}. If the endpoint speaks plain http, write http:// (and "
            "allow_plain_http beyond this machine); if its certificate is private, set ca_bundle.",
            setting="s3_endpoint",
        )
    if isinstance(error, _UNANSWERED):
        return EndpointUnreachableError(
            f"No answer for {where} ({action}): {_ended(str(error))} {f'{tried} ' if tried else ''}Check s3_endpoint "
            "(without one: s3_bucket_region), the network and the server.",
            key=key,
            setting="s3_endpoint",
        )
    failed = _ended(f"S3 could not be asked about {where} ({action}): {error}")
    return StorageError(f"{failed} {tried}".rstrip(), key=key)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith(".") else f"{sentence}."
