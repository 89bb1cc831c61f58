"""How our clients trust a collector with TLS, and what certificate they show; from the environment, as the token is.

FLEETMETER_CA_FILE: who signed the collector's certificate (PEM); none: the authorities that the system trusts.
FLEETMETER_CLIENT_CERT_FILE, FLEETMETER_CLIENT_KEY_FILE: the certificate that the collector asks for, and its key.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from collector.errors import PermanentError

CA, CERT, KEY = "FLEETMETER_CA_FILE", "FLEETMETER_CLIENT_CERT_FILE", "FLEETMETER_CLIENT_KEY_FILE"


def client_context(environment: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Return the context of a client's connections.

    Raises:
        PermanentError: a file is missing, or is not what it should be.
    """
    authority, cert, key = (environment.get(name) or None for name in (CA, CERT, KEY))
    if key and not cert:
        raise PermanentError(f"{KEY} is set and {CERT} is not: a key goes with its certificate")
    try:
        context = ssl.create_default_context(cafile=authority)
        if cert:
            context.load_cert_chain(cert, key)
    except (OSError, ValueError) as error:
        raise PermanentError(f"{CA}, {CERT}, {KEY} can't be used: {error}; they name PEM files") from error
    return context
