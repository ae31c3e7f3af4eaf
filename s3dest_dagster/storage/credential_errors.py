"""What the AWS SDK meets while it looks for an identity or reads its configuration, as errors of our own with a cure.

An identity that cannot be had is a CredentialsError, a wrong setting of the environment or of a profile a
SettingsError that names it. It must not know S3, and never shows a secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore import exceptions as boto

from s3dest_dagster.errors import CredentialsError, S3DestError, SettingsError
from s3dest_dagster.settings.connection import S3Connection

_LONGEST_TEXT = 400
_SECRETS = ("SECRET", "TOKEN", "ACCESS_KEY", "EXTERNAL_ID")


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the credential chain in people's words, and what to do when it fails."""

    words: str
    cure: str


_KEYS_OF_PROFILE = "Give {profile} both aws_access_key_id and aws_secret_access_key."
_LINKS = {
    "explicit": Link("access keys of the settings", "Set access_key_id and secret_access_key."),
    "env": Link(
        "environment (AWS_ACCESS_KEY_ID)", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY both, or neither of them."
    ),
    "assume-role": Link(
        "role of {profile}",
        "Check role_arn, source_profile or credential_source, and external_id of {profile}, that the source may "
        "sts:AssumeRole, sts_endpoint and sts_region.",
    ),
    "assume-role-with-web-identity": Link(
        "web identity",
        "Check AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (or web_identity_token_file and role_arn of {profile}), "
        "the role's trust policy, sts_endpoint and sts_region.",
    ),
    "sso": Link(
        "single sign-on of {profile}",
        "Sign in with `aws sso login --profile {name}`; if that does not help, check the sso_ keys of {profile}.",
    ),
    "login": Link("sign-in of {profile}", "Sign in with `aws login --profile {name}`."),
    "shared-credentials-file": Link("{profile} of the credentials file", _KEYS_OF_PROFILE),
    "custom-process": Link(
        "program of {profile} (credential_process)",
        "Run the credential_process of {profile} by hand: it must end with exit code 0 and print one JSON object with "
        '"Version": 1, AccessKeyId and SecretAccessKey.',
    ),
    "config-file": Link("{profile} of the configuration file", _KEYS_OF_PROFILE),
    "ec2-credentials-file": Link("file of AWS_CREDENTIAL_FILE", "Check the file that AWS_CREDENTIAL_FILE names."),
    "boto-config": Link("configuration file of boto 2", "Check the file that BOTO_CONFIG names, or remove it."),
    "container-role": Link(
        "container",
        "Check AWS_CONTAINER_CREDENTIALS_FULL_URI or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, and "
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE or AWS_CONTAINER_AUTHORIZATION_TOKEN, which the container's platform "
        "sets.",
    ),
    "iam-role": Link(
        "instance profile",
        "Check that the instance has a role, and that its metadata service answers (AWS_EC2_METADATA_SERVICE_ENDPOINT, "
        "AWS_METADATA_SERVICE_TIMEOUT).",
    ),
}
"""The links of the SDK's chain by its own names for them."""


def link(method: str, profile: str) -> Link:
    """The link that the SDK calls `method`, in words that name the profile."""
    found = _LINKS.get(method) or Link(f"{method} of the AWS chain", "Check the AWS configuration.")
    words = {"profile": f"profile {profile!r}", "name": profile}
    return Link(found.words.format(**words), found.cure.format(**words))


def no_identity() -> CredentialsError:
    """The error for a chain of which no link gave an identity."""
    return CredentialsError(
        "No identity: neither access keys, nor a role, nor the default chain (environment, profile, web identity, "
        "container, instance profile) gave credentials. Set access_key_id and secret_access_key, or role_arn, or give "
        "the machine an identity."
    )


def nobody_for(role: str) -> CredentialsError:
    """The error for a role that nobody is there to assume."""
    return CredentialsError(
        f"No identity: nobody is there who could assume {role}. Give the identity that assumes it as "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, as profile_name, or as the machine's own; "
        "access_key_id among the settings would win over the role.",
        setting="role_arn",
    )


@contextmanager
def mapped_link(asked: Link) -> Iterator[None]:
    """Asks a link of the chain; whatever that meets leaves as a CredentialsError that names the link and its cure.

    A link runs programs, reads files and asks servers that are not ours, and lets through whatever they do to it: so
    every exception is meant here.
    """
    try:
        yield
    except S3DestError:
        raise
    except Exception as error:
        raise CredentialsError(f"No identity: the {asked.words} gives none: {_said(error)} {asked.cure}") from error


@contextmanager
def mapped_role(role: str) -> Iterator[None]:
    """Assumes a role; what botocore raises leaves as a CredentialsError that names it."""
    try:
        yield
    except (boto.ClientError, boto.BotoCoreError) as error:
        raise CredentialsError(
            f"No identity: {role} could not be assumed: {_said(error)} Check role_arn, external_id, the role's trust "
            "policy, that the base identity may sts:AssumeRole, sts_endpoint and sts_region.",
            setting="role_arn",
        ) from error


@contextmanager
def mapped_configuration(connection: S3Connection) -> Iterator[None]:
    """Makes a session or a client, which reads the AWS configuration.

    A profile that is not there leaves as a CredentialsError, anything else that is wrong as a SettingsError that names
    the setting, the variable of the environment, or the files.
    """
    try:
        yield
    except S3DestError:
        raise
    except boto.ProfileNotFound as error:
        raise CredentialsError(
            f"No identity: {_said(error)} Correct profile_name or AWS_PROFILE, or add the profile to the files of "
            "AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE (~/.aws/config and ~/.aws/credentials without them).",
            setting="profile_name",
        ) from error
    except (boto.BotoCoreError, ValueError, OSError) as error:
        raise _of_configuration(error, connection) from error


def of_foreign_chain(error: Exception) -> CredentialsError:
    """What the credential chain of a client met that is not one of ours."""
    if isinstance(error, boto.NoCredentialsError):
        return no_identity()
    return CredentialsError(
        f"No identity: {_said(error)} Check the profile, the AWS variables of the environment and the files that they "
        "name, the region, and this machine's clock."
    )


def _of_configuration(error: Exception, connection: S3Connection) -> SettingsError:
    text = _said(error)
    settings = {
        "s3_endpoint": connection.endpoint,
        "sts_endpoint": connection.sts_endpoint,
        "s3_bucket_region": connection.region,
        "sts_region": connection.sts_region,
    }
    if (name := _named_in(text, settings)) is not None:
        return SettingsError(f"{name} is wrong: {text} Correct it.", setting=name)
    variables = {name: value for name, value in os.environ.items() if _is_shown(name)}
    if (name := _named_in(text, variables)) is not None:
        form = ", and write it like https://minio.example.com:9000" if "ENDPOINT" in name else ""
        return SettingsError(f"{name} of the environment is wrong: {text} Correct it{form}, or unset it.", setting=name)
    return SettingsError(
        f"The AWS configuration is wrong: {text} Correct the AWS variables of the environment, or the profile in the "
        "files of AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE (~/.aws/config and ~/.aws/credentials without them)."
    )


def _is_shown(variable: str) -> bool:
    """Whether it is one of the SDK's that holds no secret."""
    return variable.startswith("AWS_") and not any(part in variable for part in _SECRETS)


def _named_in(text: str, values: dict[str, str]) -> str | None:
    """The name whose value stands in the text; of several the one with the longest value."""
    found = [(len(value), name) for name, value in values.items() if value and value in text]
    return max(found)[1] if found else None


def _said(error: Exception) -> str:
    """What an exception says, as one sentence."""
    if isinstance(error, json.JSONDecodeError):
        text = f"what it gives is not JSON ({error})"
    elif isinstance(error, UnicodeDecodeError):
        text = "what it gives is not UTF-8"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, KeyError):
        text = f"what it gives has no {error}"
    elif isinstance(error, TypeError | AttributeError):
        text = f"what it gives has another form than AWS describes ({error})"
    else:
        text = str(error) or type(error).__name__
    text = " ".join(text.split())
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}…"
    return text if text.endswith(".") else f"{text}."
