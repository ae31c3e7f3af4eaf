"""The settings of a connection: how S3 is reached, and as whom.

Frozen values, validated when they are made. It must not know what is landed there, nor the library that talks to S3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.setting_types import above_zero, at_least, check_types

MASKED_SECRET = "********"
"""What Dagster's launchpad shows instead of a secret."""

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1|.*\.localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Connection:
    """How S3 is reached, and as whom.

    Access keys win over `role_arn`; without either the default chain gives the identity (environment, profile, web
    identity, container, instance profile). `external_id` falls back to AWS_ASSUME_ROLE_EXTERNAL_ID where the session
    is made. `endpoint` "" means AWS; without a scheme it is https, and plain http is refused but for loopback hosts
    or with `allow_plain_http`. `ca_bundle` is the path of a private certificate authority. `path_style` None means:
    path style for custom endpoints, virtual hosts for AWS.
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
    allow_plain_http: bool = False
    ca_bundle: str | None = None
    path_style: bool | None = None
    max_attempts: int = 8
    connect_timeout_s: float = 10
    read_timeout_s: float = 60

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("access_key_id", "secret_access_key", "session_token", "profile_name", "role_arn", "external_id"):
            object.__setattr__(self, name, getattr(self, name) or None)
        if bool(self.access_key_id) != bool(self.secret_access_key):
            given, missing = ("access_key_id", "secret_access_key")[:: 1 if self.access_key_id else -1]
            raise SettingsError(f"{given} is set and {missing} is not. Set both, or neither.", setting=missing)
        if MASKED_SECRET in (self.secret_access_key, self.session_token, self.external_id):
            raise SettingsError(
                "A secret is '********': that is the placeholder which Dagster's launchpad shows instead of a secret. "
                "Remove it from the run config, so that the resource's own value is used.",
                setting="secret_access_key",
            )
        for name in ("endpoint", "sts_endpoint"):
            object.__setattr__(self, name, self._checked_endpoint(name, getattr(self, name)))
        at_least("max_attempts", self.max_attempts, 1)
        at_least("role_duration_s", self.role_duration_s, 900)
        for name in ("connect_timeout_s", "read_timeout_s"):
            above_zero(name, getattr(self, name))

    def _checked_endpoint(self, setting: str, text: str) -> str:
        """The endpoint with its scheme; refuses what is no host, and plain http beyond this machine."""
        text = text.strip().rstrip("/")
        if not text:
            return ""
        url = urlsplit(text if "://" in text else f"https://{text}")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise SettingsError(
                f"{setting} {text!r} is no URL. Write it like https://minio.example.com:9000.", setting=setting
            )
        if url.scheme == "http" and not (self.allow_plain_http or _LOOPBACK.fullmatch(url.hostname)):
            raise SettingsError(
                f"{setting} {text!r} does not use HTTPS: data and signatures would travel unencrypted. Use https://, "
                "or set allow_plain_http when the network is yours.",
                setting=setting,
            )
        return url.geturl()
