"""Maps the errors of boto3 and botocore to the library's errors. No other module reads foreign errors.

Determines which requests are worth a retry; must not retry anything itself, and never shows a secret. It relies on
codes and exception classes. The only message texts that it reads are AWS's, by `_NAMED_ACTION` and `_EXPLICIT_DENY`.
"""

from __future__ import annotations

import json
import re
import ssl
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
"""Calls that the credential chain makes on its own before a request is signed."""
_UNMAPPED_BY_BOTOCORE = (FileNotFoundError, PermissionError, IsADirectoryError, RuntimeError)
"""Errors that botocore's chain does not wrap: an unreadable token file, and credentials that are already expired."""
_CHAIN_ERRORS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.SSOError,
    boto.TokenRetrievalError,
    *_UNMAPPED_BY_BOTOCORE,
)
"""Errors of a foreign client's chain. Errors of our own chain are mapped where its links are called."""
CLIENT_ERRORS = (boto.ClientError, boto.BotoCoreError, ResponseParserError, *_UNMAPPED_BY_BOTOCORE)
"""The errors that a call of a boto3 client can raise."""

_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}
_NAMED_ACTION = re.compile(r"not authorized to perform: (\w+:\w+)(?: on resource: \"?([^\s\"]*[\w*]))?")
"""The action and the resource in AWS's message, as
https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html shows it. No field holds them."""
_EXPLICIT_DENY = "explicit deny"
"""The wording, on the same page, of a denial that no further `Allow` can lift."""
_KEY_ARN = re.compile(r"arn:[\w-]+:kms:[^:]*:[^:]*:key/")
_BUCKET_ACTIONS = {"s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation"}
"""Actions on the bucket itself; all others are on its objects."""

_WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
_REDIRECTS = {301, 302, 303, 307, 308}
_CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_PRECONDITION_FAILED = 412
"""Means an unmet condition, whatever the code is: Swift's code is InvalidRequest."""
_UNANSWERED = (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, ResponseParserError)
"""No complete answer arrived: no connection, a reset, a timeout, or an answer that was truncated or is not S3's."""
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
_DAMAGED = {"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
"""Codes that mean that the server did not receive what was sent."""
_NO_REFUSAL = {401, 403, 408, 409, 412, 429}
"""4xx statuses that do not mean that the server lacks this kind of request."""
_UNSUPPORTED = {"InvalidArgument", "InvalidRequest", "MethodNotAllowed", "NotImplemented"}
_WRONG_TLS = {"CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER"}
"""OpenSSL's reasons that a retry cannot fix."""

_LONGEST_TEXT = 400


# ---------------------------------------------------------------------- what an error means for the next try


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed on a retry, because no answer arrived or the server was busy."""
    if isinstance(error, boto.ClientError):
        code, status = _code_and_status(error)
        return code in _BUSY or code in _DAMAGED or status in _BUSY_STATUS
    if isinstance(error, boto.SSLError):
        return _openssl_reason(error) not in _WRONG_TLS
    return isinstance(error, _UNANSWERED)


def is_refusal(error: StorageError) -> bool:
    """Whether the server definitely does not support this kind of request.

    This means a 4xx that is not about rights, load or another writer; a 501; or a 304, with which some servers answer a
    write whose condition is not met.
    """
    cause = error.__cause__
    if type(error) not in (StorageError, ObjectNotFoundError) or error.setting is not None:
        return False
    if not isinstance(cause, boto.ClientError) or is_transient(cause):
        return False
    code, status = _code_and_status(cause)
    if not status:
        # One key of a DeleteObjects answer, which has only a code.
        return code in _UNSUPPORTED
    return status in (304, 501) or (400 <= status < 500 and status not in _NO_REFUSAL)


def refuses_identity(answer: Mapping[str, Any], method: str) -> bool:
    """Whether a parsed answer says that the keys that signed the request are not, or no longer, valid.

    The answer to a HEAD has no body, so expired credentials show as a plain 400.
    """
    code = str(answer.get("Error", {}).get("Code", ""))
    return code in _UNKNOWN_IDENTITY.keys() - {"RequestTimeTooSkewed"} or (method == "HEAD" and code == "400")


def _code_and_status(error: boto.ClientError) -> tuple[str, int]:
    answer: dict[str, Any] = error.response
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(answer.get("Error", {}).get("Code", status or "")), status


def _openssl_reason(error: BaseException | None) -> str | None:
    """OpenSSL's name for the failure, from the `ssl.SSLError` that caused botocore's and urllib3's errors."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return None if error is None else error.reason


# ---------------------------------------------------------------------- requests


def map_error(
    error: Exception, action: str, bucket: str, key: str | None = None, *, tried: str = "", partition: str = "aws"
) -> StorageError:
    """The StorageError for one of `CLIENT_ERRORS`.

    Args:
        action: the IAM action of the request, which a denial names.
        tried: a sentence that says how often and how long the request was tried.
        partition: the AWS partition for the ARNs of a policy.
    """
    if isinstance(error, boto.ClientError):
        return _map_answer(error, action, bucket, key, tried, partition)
    if isinstance(error, _CHAIN_ERRORS):
        return _map_chain_error(error)
    return _map_unanswered(error, action, _name(bucket, key), key, tried)


def access_denied(
    action: str, bucket: str, key: str | None, text: str = "", *, kms_key: str | None = None, partition: str = "aws"
) -> AccessDeniedError:
    """The error for a denied action, with the policy statement to add.

    Args:
        text: the server's message. If it names the missing action, such as one on an encryption key, that action
            replaces `action`. If it is an explicit deny, the error has no statement, which would not help.
    """
    if (named := _NAMED_ACTION.search(text)) is not None:
        action, kms_key = named[1], named[2] or kms_key
    if _EXPLICIT_DENY in text:
        cure = f"A policy denies it explicitly, so that allowing it does not help: {text}"
    else:
        cure = f"Add this statement to the identity's policy: {_policy_statement(action, bucket, kms_key, partition)}"
    return AccessDeniedError(f"S3 denied {action} on {_name(bucket, key)}. {cure}", key=key, action=action)


def _policy_statement(action: str, bucket: str, kms_key: str | None, partition: str) -> str:
    """The IAM policy statement that allows the action on the bucket or the KMS key, as JSON to paste."""
    if action.startswith("kms:"):
        # A policy cannot name an alias.
        resource = kms_key if kms_key and _KEY_ARN.match(kms_key) else f"arn:{partition}:kms:*:*:key/*"
    else:
        resource = f"arn:{partition}:s3:::{bucket}" + ("" if action in _BUCKET_ACTIONS else "/*")
    return json.dumps({"Effect": "Allow", "Action": action, "Resource": resource})


def _name(bucket: str, key: str | None) -> str:
    return f"s3://{bucket}/{key}" if key else f"bucket {bucket!r}"


def _map_answer(
    error: boto.ClientError, action: str, bucket: str, key: str | None, tried: str, partition: str
) -> StorageError:
    code, status = _code_and_status(error)
    details = error.response.get("Error", {})
    text = details.get("Message", "")
    # The answer to DeleteObjects names the key.
    key = details.get("Key", key)
    where = _name(bucket, key)
    if error.operation_name in _IDENTITY_CALLS:
        return _map_chain_error(error)
    if code in _UNKNOWN_IDENTITY:
        return CredentialsError(
            f"S3 refused the credentials for {where}: {_UNKNOWN_IDENTITY[code]} ({code}). Check access_key_id and "
            "secret_access_key, or the role or profile that the identity comes from.",
            key=key,
        )
    if code in _DENIED:
        return access_denied(action, bucket, key, text, partition=partition)
    if code == "NoSuchBucket" or (code == "404" and key is None):
        return BucketNotFoundError(
            f"Bucket {bucket!r} does not exist at this endpoint. Create it, or correct s3_bucket_name, "
            "s3_bucket_region or s3_endpoint.",
            setting="s3_bucket_name",
        )
    if code == "NoSuchUpload":
        return UploadVanishedError(f"The server does not know the multipart upload of {where} (any more).", key=key)
    if code in ("NoSuchKey", "404", "NotFound"):
        return ObjectNotFoundError(f"{where} does not exist.", key=key)
    if code in _CONFLICTS or status == _PRECONDITION_FAILED:
        return PreconditionFailedError(f"{where} is not what this sync last saw: another writer changed it.", key=key)
    if code in _WRONG_REGION:
        return StorageError(
            f"{where} is not in the region that was asked ({code}: {text}). Correct s3_bucket_region.",
            key=key,
            setting="s3_bucket_region",
        )
    failed = _sentence(f"S3 failed on {where} ({action}): {code}: {text}".rstrip(": "))
    return StorageError(f"{failed} {tried}".rstrip(), key=key)


def _map_unanswered(error: Exception, action: str, where: str, key: str | None, tried: str) -> StorageError:
    if isinstance(error, boto.SSLError):
        return EndpointUnreachableError(
            f"The TLS connection for {where} failed: {error}. If the endpoint speaks plain http, write http:// (and "
            "allow_plain_http beyond this machine); if its certificate is private, set ca_bundle.",
            setting="s3_endpoint",
        )
    if isinstance(error, _UNANSWERED):
        return EndpointUnreachableError(
            f"No answer for {where} ({action}): {_sentence(str(error))} {f'{tried} ' if tried else ''}Check "
            "s3_endpoint (without one: s3_bucket_region), the network and the server.",
            key=key,
            setting="s3_endpoint",
        )
    failed = _sentence(f"The request for {where} ({action}) failed: {error}")
    return StorageError(f"{failed} {tried}".rstrip(), key=key)


def refuse_redirect(response_dict: Mapping[str, Any], **_: Any) -> None:
    """Raises StorageError if an answer is a redirect. A handler of botocore's `before-parse` event.

    botocore does not follow redirects either. It asks for the bucket's region instead, which never ends on a server
    that redirects everything.
    """
    if response_dict["status_code"] in _REDIRECTS:
        url = urlsplit(str(response_dict["headers"].get("location", "")))
        to = f"to {url.scheme}://{url.netloc}" if url.netloc else "without saying where"
        raise StorageError(
            f"The server at s3_endpoint redirects {to}; the redirect is not followed. Correct s3_endpoint.",
            setting="s3_endpoint",
        )


# ---------------------------------------------------------------------- the identity


def no_identity() -> CredentialsError:
    """The error if no link of the credential chain provided an identity."""
    return CredentialsError(
        "No identity: neither access keys, nor a role, nor the default chain (environment, profile, web identity, "
        "container, instance profile) gave credentials. Set access_key_id and secret_access_key, or role_arn, or give "
        "the machine an identity."
    )


def _map_chain_error(error: Exception) -> CredentialsError:
    if isinstance(error, boto.NoCredentialsError):
        return no_identity()
    return CredentialsError(
        f"No identity: {describe_error(error)} Check the profile, the AWS variables of the environment and the files "
        "that they name, the region, and this machine's clock."
    )


def describe_error(error: Exception) -> str:
    """The text of an exception, as one sentence on one line."""
    if isinstance(error, json.JSONDecodeError):
        text = f"its answer is not JSON ({error})"
    elif isinstance(error, UnicodeDecodeError):
        text = "its answer is not UTF-8"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, KeyError):
        text = f"its answer has no {error}"
    elif isinstance(error, TypeError | AttributeError):
        text = f"its answer does not have the form that AWS describes ({error})"
    else:
        text = str(error) or type(error).__name__
    text = " ".join(text.split())
    return _sentence(f"{text[:_LONGEST_TEXT]}…" if len(text) > _LONGEST_TEXT else text)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
