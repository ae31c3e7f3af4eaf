"""The settings of a connection: how S3 is reached, and as whom.

Frozen values, validated when they are made. It must not know what is landed there, nor the library that talks to S3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.setting_types import above_zero, at_least, check_types

MASKED_SECRET = "********"
"""What Dagster's launchpad shows instead of a secret."""

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1|.*\.localhost")
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".ic.gov", ".sgov.gov", ".adc-e.uk")
_SHORTEST_ROLE_S, _LONGEST_ROLE_S = 900, 43_200
_TEXTS_OR_NONE = (
    "access_key_id",
    "secret_access_key",
    "session_token",
    "profile_name",
    "role_arn",
    "external_id",
    "ca_bundle",
)
_ROLE_ARN = re.compile(r"arn:\S+")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Connection:
    """How S3 is reached, and as whom.

    Access keys win over `role_arn`; without either the default chain gives the identity (environment, profile, web
    identity, container, instance profile), and for a role it gives the identity that assumes it. `external_id` falls
    back to AWS_ASSUME_ROLE_EXTERNAL_ID where the session is made; `role_duration_s` is 900 to 43,200 seconds.
    `endpoint` and `sts_endpoint` "" mean what the AWS configuration says, which without any is AWS; `sts_region` ""
    means `region`. An endpoint without a scheme is https, and plain http is refused but for loopback hosts or with
    `allow_plain_http`. `ca_bundle` is the path of a private certificate authority. `path_style` None means: path style
    for custom endpoints, virtual hosts for AWS. A request is tried `max_attempts` times, after pauses that grow and
    vary, and no try begins later than `retry_deadline_s` after the first.
    """

    region: str = ""
    endpoint: str = ""
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile_name: str | None = None
    role_arn: str | None = None
    external_id: str | None = field(default=None, repr=False)
    role_session_name: str = "s3dest"
    role_duration_s: int = 3600
    sts_endpoint: str = ""
    sts_region: str = ""
    allow_plain_http: bool = False
    ca_bundle: str | None = None
    path_style: bool | None = None
    max_attempts: int = 8
    retry_deadline_s: float = 300
    connect_timeout_s: float = 10
    read_timeout_s: float = 60

    def __post_init__(self) -> None:
        check_types(self)
        for name in _TEXTS_OR_NONE:
            object.__setattr__(self, name, getattr(self, name) or None)
        self._refuse_contradictions()
        for name in ("endpoint", "sts_endpoint"):
            object.__setattr__(self, name, self.accepted(getattr(self, name), name))
        at_least("max_attempts", self.max_attempts, 1)
        for name in ("retry_deadline_s", "connect_timeout_s", "read_timeout_s"):
            above_zero(name, getattr(self, name))
        at_least("role_duration_s", self.role_duration_s, _SHORTEST_ROLE_S)
        if self.role_duration_s > _LONGEST_ROLE_S:
            raise SettingsError(
                f"role_duration_s is {self.role_duration_s}. AWS gives a role for {_LONGEST_ROLE_S} seconds at most.",
                setting="role_duration_s",
            )
        if not _SESSION_NAME.fullmatch(self.role_session_name):
            raise SettingsError(
                f"role_session_name is {self.role_session_name!r}. AWS takes 2 to 64 letters, digits and _+=,.@-.",
                setting="role_session_name",
            )

    def _refuse_contradictions(self) -> None:
        if MASKED_SECRET in (self.secret_access_key, self.session_token, self.external_id):
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
                f"role_arn {self.role_arn!r} is no ARN of a role. It looks like arn:aws:iam::123456789012:role/loader.",
                setting="role_arn",
            )
        for name, needed in (("session_token", "access_key_id"), ("external_id", "role_arn")):
            if getattr(self, name) and not getattr(self, needed):
                raise SettingsError(
                    f"{name} has no effect without {needed}. Set {needed} too, or leave {name} out.", setting=name
                )

    def accepted(self, endpoint: str, setting: str) -> str:
        """The endpoint with its scheme, "" for none; `setting` is who named it.

        Raises SettingsError for what is no host, and for plain http beyond this machine unless it is allowed.
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
                f"{setting} {text!r} is no URL. Write it like https://minio.example.com:9000.", setting=setting
            )
        if url.scheme == "http" and not (self.allow_plain_http or is_loopback(text)):
            raise SettingsError(
                f"{setting} {text!r} does not use HTTPS: data and signatures would travel unencrypted. Use https://, "
                "or set allow_plain_http when the network is yours.",
                setting=setting,
            )
        return url.geturl()


def is_loopback(endpoint: str) -> bool:
    """Whether what is sent to this URL stays on this machine."""
    return bool(_LOOPBACK.fullmatch(urlsplit(endpoint).hostname or ""))


def is_aws(endpoint: str) -> bool:
    """Whether the host of this URL is one of AWS's own."""
    return (urlsplit(endpoint).hostname or "").endswith(_AWS_DOMAINS)


def console_host(endpoint: str, region: str) -> str | None:
    """The host of the web console of the part of AWS that this URL belongs to; None where it has none that is known."""
    host = urlsplit(endpoint).hostname or ""
    if host.endswith(".amazonaws.com.cn"):
        return "console.amazonaws.cn"
    if not host.endswith(".amazonaws.com"):
        return None
    if region.startswith("us-gov-"):
        return "console.amazonaws-us-gov.com"
    return f"{region}.console.aws.amazon.com" if region and region != "aws-global" else "console.aws.amazon.com"


def _url(text: str) -> SplitResult | None:
    """The parts of an endpoint, https where it has no scheme; None when it cannot be taken apart."""
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        _ = url.port
    except ValueError:
        return None
    return url
