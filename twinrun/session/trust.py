"""Let a Java trust the certificates that this machine trusts.

A Java that brings its own list of certificates cannot download behind a proxy that signs with a company's
certificate, although pip and git can. What is downloaded is verified by SHA-256 in any case.
"""

from __future__ import annotations

import os
import ssl
import warnings
from pathlib import Path

_PASSWORD = b"changeit"  # not a secret: Java wants a word for every list of certificates, and this is its usual one
_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")


def trust_options(folder: Path) -> list[str]:
    """Java options that make it trust the machine's own certificates.

    Parameters
    ----------
    folder : Path
        Where the converted list is written; it must live as long as the Java that is given the options.

    Returns
    -------
    list of str
        Empty where the machine has no such list.
    """
    bundle = _bundle()
    if bundle is None:
        return []
    store = folder / "trust.p12"
    try:
        store.write_bytes(_java_store(bundle.read_bytes()))
    except (ImportError, OSError, ValueError):
        return []
    return [
        f"-Djavax.net.ssl.trustStore={store}",
        "-Djavax.net.ssl.trustStoreType=PKCS12",
        f"-Djavax.net.ssl.trustStorePassword={_PASSWORD.decode()}",
    ]


def _bundle() -> Path | None:
    named = [os.environ.get(name, "") for name in _BUNDLE_VARIABLES]
    candidates = [*named, ssl.get_default_verify_paths().cafile or ""]
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)


def _java_store(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
    from cryptography.x509 import load_pem_x509_certificates

    with warnings.catch_warnings():
        # Old root certificates have serial numbers that are frowned upon; that is not ours to say here.
        warnings.simplefilter("ignore")
        certificates = [
            pkcs12.PKCS12Certificate(certificate, f"ca-{number}".encode())
            for number, certificate in enumerate(load_pem_x509_certificates(pem))
        ]
    return pkcs12.serialize_java_truststore(certificates, BestAvailableEncryption(_PASSWORD))
