"""With a missing identity or a wrong AWS configuration, every entry point shows the same message with its remedy."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aws_identities import machine, sign_in, sign_in_profile
from botocore.credentials import SSOProvider
from botocore.utils import ContainerMetadataFetcher
from servers import S3Server

from s3dest_dagster import S3Resource
from s3dest_dagster.errors import CredentialsError, S3DestError, SettingsError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import identity, open_bucket

UNSUITABLE = re.compile("Retry|s3_endpoint|not expected|report|Traceback|<.*Error|Errno")
"""What would mislead the reader."""
ROLE = "arn:aws:iam::123456789012:role/lander"
WEB_IDENTITY = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/token"}
CONTAINER = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
METADATA = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_METADATA_SERVICE_TIMEOUT": "1"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}
SOURCE = "[profile b]\naws_access_key_id=A\naws_secret_access_key=s\n"
NO_SERVER = "http://127.0.0.1:9"
"""An endpoint where nothing listens."""


@dataclass(frozen=True)
class Case:
    """An environment without a usable identity."""

    error: type[S3DestError]
    message: str
    """A regular expression that the message contains."""
    variables: dict[str, str] = field(default_factory=dict)
    config: str = ""
    credentials: str = ""
    prepare: Callable[[Path], object] = lambda folder: None
    """Writes other files."""
    settings: dict[str, object] = field(default_factory=dict)


def program(line: str) -> str:
    return f"[default]\ncredential_process = {line}\n"


def token_file(folder: Path) -> object:
    return (folder / "token").write_text("a-token")


SIGN_IN_AGAIN = r"single sign-on of profile 'default' gives none: .*`aws sso login --profile default`"
PROGRAM = r"program of profile 'default' \(credential_process\) gives none: {}.* by hand: it must"
CASES = {
    "nothing": Case(CredentialsError, "No identity: neither access keys, nor a role"),
    "half of the keys": Case(
        CredentialsError,
        r"environment .*AWS_SECRET_ACCESS_KEY.* Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY both, or neither",
        {"AWS_ACCESS_KEY_ID": "AKIA"},
    ),
    "half of the keys of a profile": Case(
        CredentialsError,
        r"profile 'default' of the credentials file .*aws_secret_access_key.* Give profile 'default' both",
        credentials="[default]\naws_access_key_id=AKIA\n",
    ),
    "half of the keys of the configuration file": Case(
        CredentialsError,
        "profile 'default' of the configuration file .* Give profile 'default' both",
        config="[default]\naws_access_key_id=AKIA\n",
    ),
    "no such profile": Case(
        CredentialsError, r"profile \(nowhere\).* Correct profile_name or AWS_PROFILE", {"AWS_PROFILE": "nowhere"}
    ),
    "no such profile of the settings": Case(
        CredentialsError, r"profile \(nowhere\).* Correct profile_name", settings={"profile_name": "nowhere"}
    ),
    "a role of a profile that is not there": Case(
        CredentialsError,
        "role of profile 'default' .*nowhere.* Check role_arn, source_profile",
        config=f"[default]\nrole_arn={ROLE}\nsource_profile=nowhere\n",
    ),
    "roles that lead to each other": Case(
        CredentialsError,
        "role of profile 'default' .*loop",
        config=f"[default]\nrole_arn={ROLE}\nsource_profile=b\n[profile b]\nrole_arn={ROLE}\nsource_profile=default\n",
    ),
    "a role of a source that nobody knows": Case(
        CredentialsError,
        "role of profile 'default' .*Moon.* Check role_arn, source_profile or credential_source",
        config=f"[default]\nrole_arn={ROLE}\ncredential_source=Moon\n",
    ),
    "a role without a service": Case(
        CredentialsError,
        "role of profile 'default' .*127.0.0.1:9.* sts_endpoint",
        config=f"[default]\nrole_arn={ROLE}\nsource_profile=b\n{SOURCE}",
        settings={"sts_endpoint": NO_SERVER},
    ),
    "a role whose source is a program that fails": Case(
        CredentialsError,
        "role of profile 'default' ",
        config=f"[default]\nrole_arn={ROLE}\nsource_profile=b\n[profile b]\ncredential_process=false\n",
    ),
    "a second factor without a terminal": Case(
        CredentialsError,
        "role of profile 'default' .*(second factor|127.0.0.1:9)",
        config=f"[default]\nrole_arn={ROLE}\nsource_profile=b\nmfa_serial=arn:aws:iam::1:mfa/me\n{SOURCE}",
        settings={"sts_endpoint": NO_SERVER},
    ),
    "the role of the settings with a dead service": Case(
        CredentialsError,
        f"{ROLE} could not be assumed.*127.0.0.1:9.*sts_endpoint",
        KEYS,
        settings={"sts_endpoint": NO_SERVER, "role_arn": ROLE},
    ),
    "the role of the settings by a sign-in that has ended": Case(
        CredentialsError,
        SIGN_IN_AGAIN,
        prepare=lambda folder: (sign_in_profile(folder), sign_in(folder, "old", 2020)),
        settings={"role_arn": ROLE},
    ),
    "a web identity without its file": Case(
        CredentialsError, r"web identity gives none: .*token.* Check AWS_WEB_IDENTITY_TOKEN_FILE", WEB_IDENTITY
    ),
    "a web identity whose file is a folder": Case(
        CredentialsError,
        "web identity gives none: .*directory.* Check AWS_WEB_IDENTITY_TOKEN_FILE",
        WEB_IDENTITY,
        prepare=lambda folder: (folder / "token").mkdir(),
    ),
    "a web identity without a role": Case(
        CredentialsError,
        "web identity gives none: .*role_arn.* Check AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN",
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/token"},
        prepare=token_file,
    ),
    "a web identity with a dead service": Case(
        CredentialsError,
        "web identity gives none: .*127.0.0.1:9.* sts_endpoint and sts_region",
        WEB_IDENTITY,
        prepare=token_file,
        settings={"sts_endpoint": NO_SERVER},
    ),
    "no sign-in": Case(CredentialsError, SIGN_IN_AGAIN, prepare=sign_in_profile),
    "a sign-in that has ended": Case(
        CredentialsError, SIGN_IN_AGAIN, prepare=lambda folder: (sign_in_profile(folder), sign_in(folder, "old", 2020))
    ),
    "a sign-in that is no JSON": Case(
        CredentialsError,
        SIGN_IN_AGAIN,
        prepare=lambda folder: (
            sign_in_profile(folder),
            sign_in(folder, "old", 2020),
            [each.write_text("<html>") for each in folder.glob("*.json")],
        ),
    ),
    "half a profile of single sign-on": Case(
        CredentialsError,
        "single sign-on of profile 'default' .*sso_account_id",
        config="[default]\nsso_start_url=https://example.com\nsso_region=us-east-1\nsso_role_name=r\n",
    ),
    "a session of single sign-on that is not there": Case(
        CredentialsError,
        "single sign-on of profile 'default' .*nowhere",
        config="[default]\nsso_session=nowhere\nsso_account_id=1\nsso_role_name=r\n",
    ),
    "a program that fails": Case(
        CredentialsError, PROGRAM.format(".*no-such-folder"), config=program("ls /no-such-folder")
    ),
    "a program that prints no JSON": Case(
        CredentialsError, PROGRAM.format("its answer is not JSON"), config=program("echo Please sign in.")
    ),
    "a program that prints nothing": Case(
        CredentialsError, PROGRAM.format("its answer is not JSON"), config=program("true")
    ),
    "a program that prints a list": Case(
        CredentialsError, PROGRAM.format("its answer does not have the form"), config=program("echo [1]")
    ),
    "a program of another version": Case(
        CredentialsError, PROGRAM.format(".*Unsupported version"), config=program("echo {}")
    ),
    "a program that prints half of it": Case(
        CredentialsError, PROGRAM.format(".*AccessKeyId"), config=program("""echo '{"Version": 1}'""")
    ),
    "a program whose keys end at no time": Case(
        CredentialsError,
        PROGRAM.format(".*soon"),
        config=program("""echo '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","Expiration":"soon"}'"""),
    ),
    "a program that prints other bytes": Case(
        CredentialsError, PROGRAM.format("its answer is not UTF-8"), config=program(r"printf '\377'")
    ),
    "a program that is not there": Case(
        CredentialsError, PROGRAM.format("no-such-program: No such file"), config=program("no-such-program")
    ),
    "a program with an open quote": Case(CredentialsError, PROGRAM.format("No closing quot"), config=program("'a")),
    "a program that hangs": Case(
        CredentialsError,
        PROGRAM.format(r".*did not end within 0\.2 s \(read_timeout_s\)"),
        config=program("sleep 60"),
        settings={"read_timeout_s": 0.2},
    ),
    "a container at a foreign host": Case(
        CredentialsError,
        f"container gives none: .*credentials.example.com.* Check {CONTAINER}",
        {CONTAINER: "http://credentials.example.com/"},
    ),
    "a container at no URL": Case(
        CredentialsError, f"container gives none: .* Check {CONTAINER}", {CONTAINER: "not a url"}
    ),
    "a container without a service": Case(
        CredentialsError, f"container gives none: .* Check {CONTAINER}", {CONTAINER: "{machine}/nothing"}
    ),
    "a container that does not know us": Case(
        CredentialsError, f"container gives none: .*401.* Check {CONTAINER}", {CONTAINER: "{machine}/container"}
    ),
    "a container whose token's file is not there": Case(
        CredentialsError,
        "container gives none: .*token.* AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        {CONTAINER: "{machine}/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{folder}/token"},
    ),
    "a container's token of two lines": Case(
        CredentialsError,
        "container gives none: .*header.* AWS_CONTAINER_AUTHORIZATION_TOKEN",
        {CONTAINER: "{machine}/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "two\nlines"},
    ),
    "a metadata service at no URL": Case(
        SettingsError,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT of the environment is wrong: .*not a url",
        {**METADATA, "AWS_EC2_METADATA_SERVICE_ENDPOINT": "not a url"},
    ),
    "a metadata service of a mode that nobody knows": Case(
        SettingsError,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE of the environment is wrong",
        {**METADATA, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "carrier-pigeon"},
    ),
    "a metadata service that is waited for as long as nobody knows": Case(
        SettingsError,
        "AWS_METADATA_SERVICE_TIMEOUT of the environment is wrong: .*soon",
        {"AWS_METADATA_SERVICE_TIMEOUT": "soon"},
    ),
    "a metadata service that nobody runs": Case(
        CredentialsError, "No identity: neither", {**METADATA, "AWS_EC2_METADATA_SERVICE_ENDPOINT": NO_SERVER}
    ),
    "a configuration file that is none": Case(SettingsError, "AWS_CONFIG_FILE of the environment is wrong", config="["),
    "a region that is none": Case(
        SettingsError, "s3_bucket_region is wrong: .*eu west", KEYS, settings={"region": "eu west"}
    ),
    "a region of the environment that is none": Case(
        SettingsError,
        "AWS_DEFAULT_REGION of the environment is wrong: .*eu west",
        {**KEYS, "AWS_DEFAULT_REGION": "eu west"},
        settings={"region": "", "endpoint": ""},
    ),
    "tries of a role that are no number": Case(
        SettingsError,
        "AWS_MAX_ATTEMPTS of the environment is wrong: .*many",
        {"AWS_MAX_ATTEMPTS": "many", **KEYS},
        settings={"role_arn": ROLE},
    ),
    "a way to try a role again that nobody knows": Case(
        SettingsError,
        "AWS_RETRY_MODE of the environment is wrong: .*bold",
        {"AWS_RETRY_MODE": "bold", **KEYS},
        settings={"role_arn": ROLE},
    ),
    "checksums that nobody knows": Case(
        SettingsError,
        "AWS_REQUEST_CHECKSUM_CALCULATION of the environment is wrong: .*never",
        {"AWS_REQUEST_CHECKSUM_CALCULATION": "never", **KEYS},
        settings={"role_arn": ROLE},
    ),
    "certificates that are not there": Case(
        SettingsError, "AWS_CA_BUNDLE.*/nowhere.pem", {**KEYS, "AWS_CA_BUNDLE": "/nowhere.pem"}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_message_has_a_remedy_and_is_the_same_at_every_entry_point(
    bare: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    bare.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path))
    bare.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    (tmp_path / "config").write_text(case.config)
    (tmp_path / "credentials").write_text(case.credentials)
    case.prepare(tmp_path)
    with machine({}) as (url, _):
        for variable, value in case.variables.items():
            bare.setenv(variable, value.replace("{machine}", url).replace("{folder}", str(tmp_path)))
        connection = S3Connection(**({"region": "eu-west-1", "endpoint": NO_SERVER, "max_attempts": 1} | case.settings))
        messages = {message_of(case.error, lambda way=way: way(connection)) for way in WAYS_IN}
    (message,) = {re.sub(r"0x\w+", "", each) for each in messages}
    assert re.search(case.message, message), message
    assert not UNSUITABLE.search(message), message
    assert "\n" not in message


def resource(connection: S3Connection) -> object:
    renamed = {"region_name": connection.region, "endpoint_url": connection.endpoint or None}
    renamed["sts_endpoint"] = connection.sts_endpoint or None
    names = ("profile_name", "role_arn", "read_timeout_s", "max_attempts")
    given = S3Resource(**renamed, **{each: getattr(connection, each) for each in names})
    return given.get_client().list_objects_v2(Bucket="lake")


WAYS_IN: list[Callable[[S3Connection], object]] = [
    identity,
    lambda connection: open_bucket(connection, "lake").put("a", b""),
    lambda connection: list(open_bucket(connection, "lake").list_objects("")),
    lambda connection: open_bucket(connection, "lake").create_upload("a", {}),
    resource,
]


def message_of(error: type[S3DestError], ask: Callable[[], object]) -> str:
    with pytest.raises(error) as raised:
        ask()
    return str(raised.value)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize(
    "value", ["not a url", "minio:9000", "localhost:9000", "ftp://minio.example.com", "https://", "/"]
)
def test_an_endpoint_of_the_environment_that_is_no_url_is_named(
    bare: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    bare.setenv(variable, value)
    connection = S3Connection(region="eu-west-1", access_key_id="AKIA", secret_access_key="secret", max_attempts=1)
    for way in WAYS_IN[1:4]:
        message = message_of(SettingsError, lambda way=way: way(connection))
        assert message.startswith(f"{variable} of the environment")
        assert "https://minio.example.com:9000" in message


@pytest.mark.parametrize("service", ["STS", "SSO"])
def test_an_endpoint_of_a_link_that_is_no_url_is_named(bare: pytest.MonkeyPatch, tmp_path: Path, service: str) -> None:
    bare.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path))
    sign_in_profile(tmp_path)
    sign_in(tmp_path, "signed-in", 2999)
    bare.setenv(f"AWS_ENDPOINT_URL_{service}", "not a url")
    role = {"role_arn": ROLE} if service == "STS" else {}
    if service == "STS":
        (tmp_path / "config").unlink()
        bare.setenv("AWS_ACCESS_KEY_ID", "AKIA")
        bare.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    connection = S3Connection(region="eu-west-1", max_attempts=1, **role)
    for way in WAYS_IN:
        message = message_of(SettingsError, lambda way=way: way(connection))
        assert message.startswith(f"AWS_ENDPOINT_URL_{service} of the environment is wrong")


def test_a_program_does_not_read_standard_input(moto_s3: S3Server, bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Standard input carries the records of `s3dest write`."""
    (tmp_path / "config").write_text(program("cat"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bare.setattr("sys.stdin", theirs.makefile())
        message = message_of(CredentialsError, lambda: identity(S3Connection(region="eu-west-1", read_timeout_s=20)))
    assert "not JSON" in message


def test_secrets_of_the_environment_are_not_shown(bare: pytest.MonkeyPatch) -> None:
    """This holds although an error quotes the values that it complains about."""
    for name, value in {**KEYS, "AWS_SESSION_TOKEN": "hush-hush", "AWS_DEFAULT_REGION": "hush hush"}.items():
        bare.setenv(name, value)
    bare.setenv("AWS_SECRET_ACCESS_KEY", "region_name 'hush hush'")
    message = message_of(SettingsError, lambda: open_bucket(S3Connection(), "lake"))
    assert message.startswith("AWS_DEFAULT_REGION")


def test_a_setting_that_only_other_clients_read_is_ignored(moto_s3: S3Server, bare: pytest.MonkeyPatch) -> None:
    """Keys in the settings use no link of the chain, so `check` works whenever a sync does."""
    bucket = moto_s3.new_bucket()
    bare.setenv("AWS_RETRY_MODE", "bold")
    connection = replace(moto_s3.connection, sts_endpoint=moto_s3.endpoint)
    open_bucket(connection, bucket).put("a", b"")
    assert identity(connection).arn
