"""Certificates for a fleet: an authority of its own, and one certificate for its hosts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from linklab.errors import LabError, UsageError

_DAYS = 825


def make_certificates(folder: Path) -> None:
    """Write ca.pem, cert.pem and key.pem into a new folder that only its owner can read.

    The authority's own key is not kept: nobody can make another certificate
    of it. Raises `UsageError` where the folder holds something.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise LabError("certificates need `pip install -e '.[fleet]'` in the checkout") from error
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--make-certificates {folder}: it is not empty, nothing was written")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    now = datetime.now(UTC)

    def certificate(name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("linklab fleet"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=24))  # clocks of hosts differ
            .not_valid_after(now + timedelta(days=_DAYS))
        )

    authority, member = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    ca = certificate("linklab fleet", authority.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    cert = certificate("linklab", member.public_key()).add_extension(
        x509.ExtendedKeyUsage(usages), critical=False
    )
    pem = serialization.Encoding.PEM
    key = member.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(ca.sign(authority, hashes.SHA256()).public_bytes(pem))
    (folder / "cert.pem").write_bytes(cert.sign(authority, hashes.SHA256()).public_bytes(pem))
    (folder / "key.pem").touch(mode=0o600)
    (folder / "key.pem").write_bytes(key)
