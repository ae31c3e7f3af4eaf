"""A private certificate authority, and servers on this machine with its certificates."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Authority:
    """`bundle` is the file of its certificate. `server` is what a server at 127.0.0.1 presents."""

    bundle: Path
    server: ssl.SSLContext


def new_authority(folder: Path, name: str = "ours", hosts: Sequence[str] = ()) -> Authority:
    """A new authority with its files in the folder. `hosts` are further names of the server."""
    root, shown = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    itself = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
    host = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOST)])
    bundle, chain = folder / f"{name}.pem", folder / f"{name}-server.pem"
    of_root = _certificate(itself, root, itself, root, x509.BasicConstraints(ca=True, path_length=None))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(_HOST)), *map(x509.DNSName, hosts)])
    of_host = _certificate(host, shown, itself, root, names)
    bundle.write_bytes(of_root)
    chain.write_bytes(shown.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + of_host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return Authority(bundle, context)


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signed_by: ec.EllipticCurvePrivateKey,
    *extensions: x509.ExtensionType,
) -> bytes:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False)
    )
    for each in extensions:
        builder = builder.add_extension(each, critical=isinstance(each, x509.BasicConstraints))
    return builder.sign(signed_by, hashes.SHA256()).public_bytes(Encoding.PEM)
