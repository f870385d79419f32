"""The simulator's own certificate authority and server certificate: the real client insists on TLS.

The authority's key is thrown away once it has signed, so that a leaked folder lets nobody impersonate anything else.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)
_NAMES: list[x509.GeneralName] = [
    x509.DNSName("localhost"),
    x509.DNSName("market-simulator"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
]


def ensure_certificate(folder: Path) -> tuple[Path, Path]:
    """The server's certificate and key in ``folder``, made anew, with ``ca.pem``, when absent or near its end."""
    certificate, key = folder / "server.pem", folder / "server.key"
    if not all(path.is_file() for path in (folder / "ca.pem", certificate, key)) or not _will_do(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(folder)
    return certificate, key


def _will_do(folder: Path) -> bool:
    """Whether the certificate is of the authority beside it, and not near its end."""
    try:
        made = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
        made.verify_directly_issued_by(x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return made.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE


def _make(folder: Path) -> None:
    now = datetime.now(UTC)
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name(f"AI-OTS market simulator {now:%Y-%m-%d %H:%M:%S}")
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        _certificate(issuer, issuer, authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(authority_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        _certificate(_name("market-simulator"), issuer, server_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_NAMES), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(server_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    _write(folder / "ca.pem", authority.public_bytes(pem), 0o644)
    _write(folder / "server.pem", server.public_bytes(pem), 0o644)
    private = server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(folder / "server.key", private, 0o600)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _write(path: Path, data: bytes, mode: int) -> None:
    # in place at once, so that a client never reads half a certificate
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    part.replace(path)
