"""The settings of a connection: how to reach S3, and with which identity.

They are frozen values, which are checked when they are created. Must not know: what is landed there, the library that
talks to S3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from urllib.parse import SplitResult, urlsplit

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import about, check_settings, documented, setting

MASKED_SECRET = "********"
"""The placeholder that Dagster's launchpad shows instead of a secret."""

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1|.*\.localhost")
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".ic.gov", ".sgov.gov", ".adc-e.uk")
_SHORTEST_ROLE_S, _LONGEST_ROLE_S = 900, 43_200
_ROLE_ARN = re.compile(r"arn:\S+")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class S3Connection:
    """How to reach S3, and with which identity.

    Access keys take precedence over a role. Without either, the default chain provides the identity (environment,
    profile, web identity, container, instance profile). For a role, it provides the identity that assumes the role.
    Raises SettingsError like `S3Destination`; its message never contains a secret.
    """

    region: str = setting(
        "Region of the bucket. Empty: the region in the AWS configuration.",
        default="",
        connector="s3_bucket_region",
        resource="region_name",
    )
    endpoint: str = setting(
        "URL of another server that speaks S3. Without a scheme it is https. Empty: AWS.",
        default="",
        connector="s3_endpoint",
        resource="endpoint_url",
    )
    access_key_id: str | None = setting(
        "Access key id. Takes precedence over `role_arn`.",
        default=None,
        connector="access_key_id",
        resource="aws_access_key_id",
    )
    secret_access_key: str | None = setting(
        "The secret for the access key id.",
        default=None,
        secret=True,
        needs="access_key_id",
        connector="secret_access_key",
        resource="aws_secret_access_key",
    )
    session_token: str | None = setting(
        "Session token of temporary access keys.",
        default=None,
        secret=True,
        needs="access_key_id",
        resource="aws_session_token",
    )
    profile_name: str | None = setting("Profile of the AWS configuration files.", default=None)
    role_arn: str | None = setting(
        "Role to assume. It is assumed again before its credentials end.", default=None, connector="role_arn"
    )
    external_id: str | None = setting(
        "External id for assuming the role. `None`: the environment's `AWS_ASSUME_ROLE_EXTERNAL_ID`, or no external "
        "id if that is not set.",
        default=None,
        secret=True,
        needs="role_arn",
    )
    role_session_name: str = setting(
        "Name of the role's sessions, which CloudTrail shows: 2 to 64 letters, digits and `_+=,.@-`.", default="s3dest"
    )
    role_duration_s: int = setting(
        "Lifetime of the role's credentials in seconds, 900 to 43,200. They are renewed before they end.",
        default=3600,
        at_least=_SHORTEST_ROLE_S,
        at_most=_LONGEST_ROLE_S,
    )
    sts_endpoint: str = setting(
        "URL of the security token service, for every role and for `s3dest check`. Empty: the URL in the AWS "
        "configuration, or else AWS.",
        default="",
    )
    sts_region: str = setting("Region of the security token service. Empty: the region of the bucket.", default="")
    allow_plain_http: bool = setting(
        "Whether `http://` endpoints outside this machine are accepted. Loopback hosts are always accepted.",
        default=False,
    )
    ca_bundle: str | None = setting("Path of the certificates of a private certificate authority.", default=None)
    path_style: bool | None = setting(
        "Whether the bucket is in the path of the URL instead of its host. `None`: in the host for AWS, in the path "
        "for other endpoints.",
        default=None,
    )
    max_attempts: int = setting(
        "The most attempts at a request, including the first. The pauses between them grow and vary.",
        default=8,
        at_least=1,
    )
    retry_deadline_s: float = setting(
        "No attempt begins later than this many seconds after the first, regardless of `max_attempts`.",
        default=300,
        above=0,
    )
    connect_timeout_s: float = setting("Seconds to wait for a connection.", default=10, above=0)
    read_timeout_s: float = setting("Seconds to wait for the next bytes of an answer.", default=60, above=0)

    def __post_init__(self) -> None:
        check_settings(self)
        self._refuse_contradictions()
        for name in ("endpoint", "sts_endpoint"):
            object.__setattr__(self, name, self.accepted(getattr(self, name), name))
        if not _SESSION_NAME.fullmatch(self.role_session_name):
            raise SettingsError(
                f"role_session_name is {self.role_session_name!r}. AWS takes 2 to 64 letters, digits and _+=,.@-.",
                setting="role_session_name",
            )

    def _refuse_contradictions(self) -> None:
        if any(about(each).secret and getattr(self, each.name) == MASKED_SECRET for each in fields(self)):
            raise SettingsError(
                "A secret is '********': that is the placeholder which Dagster's launchpad shows instead of a secret. "
                "Remove it from the run config, so that the resource's own value is used.",
                setting="secret_access_key",
            )
        if bool(self.access_key_id) != bool(self.secret_access_key):
            given, missing = ("access_key_id", "secret_access_key")[:: 1 if self.access_key_id else -1]
            raise SettingsError(f"{given} is set and {missing} is not. Set both, or neither.", setting=missing)
        if self.role_arn and not _ROLE_ARN.fullmatch(self.role_arn):
            raise SettingsError(
                f"role_arn {self.role_arn!r} is not the ARN of a role, like arn:aws:iam::123456789012:role/loader.",
                setting="role_arn",
            )
        for each in fields(self):
            name, needed = each.name, about(each).needs
            if needed and getattr(self, name) and not getattr(self, needed):
                raise SettingsError(
                    f"{name} has no effect without {needed}. Set {needed} too, or leave {name} out.", setting=name
                )

    def with_location(self, endpoint: str, region: str) -> S3Connection:
        """This connection, with another process's endpoint and region where it has none of its own.

        Args:
            endpoint: The URL that the other process uses. It was accepted there, so plain http is accepted here, too.
            region: The region of the bucket.
        """
        if self.endpoint or is_aws(endpoint):
            endpoint = self.endpoint
        allowed = self.allow_plain_http or (not self.endpoint and endpoint.startswith("http://"))
        return replace(self, endpoint=endpoint, region=self.region or region, allow_plain_http=allowed)

    def accepted(self, endpoint: str, setting: str) -> str:
        """The endpoint with its scheme; "" if it is empty.

        Args:
            endpoint: A URL, or a host and port.
            setting: The name of the setting that it comes from.

        Raises:
            SettingsError: The endpoint is not a URL, has a user name or password, or uses plain http outside this
                machine although that is not allowed.
        """
        text = endpoint.strip().rstrip("/")
        if not text:
            return ""
        url = _url(text)
        if url is not None and "@" in url.netloc:
            raise SettingsError(
                f"{setting} holds a user name or password. Leave it out of the URL, and set access_key_id and "
                "secret_access_key.",
                setting=setting,
            )
        if url is None or url.scheme not in ("http", "https") or not url.hostname:
            raise SettingsError(
                f"{setting} {text!r} is not a URL. Write it like https://minio.example.com:9000.", setting=setting
            )
        if url.scheme == "http" and not (self.allow_plain_http or is_loopback(text)):
            raise SettingsError(
                f"{setting} {text!r} does not use HTTPS: data and signatures would travel unencrypted. Use https://, "
                "or set allow_plain_http when the network is yours.",
                setting=setting,
            )
        return url.geturl()


def is_loopback(endpoint: str) -> bool:
    """Whether requests to this URL stay on this machine."""
    return bool(_LOOPBACK.fullmatch(urlsplit(endpoint).hostname or ""))


def is_aws(endpoint: str) -> bool:
    """Whether the host of this URL is one of AWS's own."""
    return (urlsplit(endpoint).hostname or "").endswith(_AWS_DOMAINS)


def console_host(endpoint: str, region: str) -> str | None:
    """The host of the web console for the URL's AWS partition; None if it is not known."""
    host = urlsplit(endpoint).hostname or ""
    if host.endswith(".amazonaws.com.cn"):
        return "console.amazonaws.cn"
    if not host.endswith(".amazonaws.com"):
        return None
    if region.startswith("us-gov-"):
        return "console.amazonaws-us-gov.com"
    return f"{region}.console.aws.amazon.com" if region and region != "aws-global" else "console.aws.amazon.com"


def _url(text: str) -> SplitResult | None:
    """The parts of an endpoint, with https if it has no scheme; None if it cannot be parsed."""
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        _ = url.port
    except ValueError:
        return None
    return url
