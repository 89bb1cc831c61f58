"""TLS of the collector's three ports, and certificates that clients must show (mTLS)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.config import CollectorConfig
from collector.errors import PermanentError


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate, key, and the authority of the clients' certificates."""

    cert_file: Path
    """The certificate and its chain, PEM."""
    key_file: Path
    """Its key, PEM, without a pass phrase."""
    client_ca_file: Path | None
    """Who signs clients' certificates, PEM; None: clients need none."""

    def for_uvicorn(self) -> dict[str, Any]:
        """Return the arguments of uvicorn's configuration."""
        asked = {"ssl_certfile": str(self.cert_file), "ssl_keyfile": str(self.key_file)}
        if self.client_ca_file is None:
            return asked
        return {**asked, "ssl_ca_certs": str(self.client_ca_file), "ssl_cert_reqs": ssl.CERT_REQUIRED}

    def for_grpc(self) -> Any:
        """Return gRPC's server credentials."""
        import grpc

        pair = (self.key_file.read_bytes(), self.cert_file.read_bytes())
        authority = self.client_ca_file.read_bytes() if self.client_ca_file else None
        return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def tls_of(config: CollectorConfig) -> Tls | None:
    """Return the TLS of a configuration, or None where it has none.

    Raises:
        PermanentError: a file is missing, or is not what it should be.
    """
    cert, key, authority = config.tls_cert_file, config.tls_key_file, config.tls_client_ca_file
    if cert is None and key is None and authority is None:
        return None
    if cert is None or key is None:
        raise PermanentError("TLS needs both collector.tls_cert_file and collector.tls_key_file")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key, password=lambda: "")
        if authority is not None:
            context.load_verify_locations(authority)
    except (OSError, ValueError) as error:
        files = ", ".join(str(file) for file in (cert, key, authority) if file)
        raise PermanentError(f"no TLS can be had from {files}: {error}; give PEM files that belong together") from error
    return Tls(cert, key, authority)
