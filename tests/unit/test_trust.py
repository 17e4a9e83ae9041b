"""Java is made to trust what the machine trusts, and nothing where the machine says nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from twinrun.session import trust


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in trust._BUNDLE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: SimpleNamespace(cafile=None))


def company_certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A company")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(7).not_valid_before(start).not_valid_after(start + timedelta(days=9000))
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_the_certificates_of_the_machine_are_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(company_certificate() * 2)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    options = trust.trust_options(tmp_path)
    assert options[0] == f"-Djavax.net.ssl.trustStore={tmp_path / 'trust.p12'}"
    read = pkcs12.load_pkcs12((tmp_path / "trust.p12").read_bytes(), b"changeit")
    assert [entry.certificate.serial_number for entry in read.additional_certs] == [7, 7]


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_without_a_readable_list_java_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    bundle = tmp_path / "bundle.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    if content is not None:
        bundle.write_bytes(content)
    assert trust.trust_options(tmp_path) == []
