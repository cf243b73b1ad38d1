"""Create the TLS certificates of a run: an authority, and one each for head and workers.

The files are in the run directory and are removed when the run ends.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Security

ROLES = ("head", "worker")

# Covers the longest walltime of any site (168 h) and weeks in the queue.
_LIFETIME = datetime.timedelta(days=60)


def security(directory: Path, role: str) -> Security:
    """Return Dask's security settings for a role; peers need a certificate of the same authority.

    Parameters
    ----------
    role : str
        ``head``, which is scheduler and client, or ``worker``.
    """
    key, cert = str(directory / f"{role}.key"), str(directory / f"{role}.pem")
    parts = ("scheduler", "client") if role == "head" else ("worker",)
    return Security(
        require_encryption=True,
        tls_ca_file=str(directory / "ca.pem"),
        **{f"tls_{part}_{kind}": path for part in parts for kind, path in (("key", key), ("cert", cert))},
    )


@contextlib.contextmanager
def authority(directory: Path) -> Iterator[None]:
    """Create a certificate for each role, readable by the user only, and remove them at the end.

    The key that signs them is never written to disk.
    """
    directory.mkdir(mode=0o700)
    try:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = _name("hpcml run")
        ca = _builder(ca_name, ca_name, ca_key).add_extension(x509.BasicConstraints(True, 0), True)
        _write(directory / "ca.pem", ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        for role in ROLES:
            key = ec.generate_private_key(ec.SECP256R1())
            cert = _builder(_name(role), ca_name, key).add_extension(x509.BasicConstraints(False, None), True)
            _write(
                directory / f"{role}.pem", cert.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            )
            form = serialization.PrivateFormat.PKCS8
            plain = serialization.NoEncryption()
            _write(directory / f"{role}.key", key.private_bytes(serialization.Encoding.PEM, form, plain))
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks of nodes differ
        .not_valid_after(now + _LIFETIME)
    )


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
