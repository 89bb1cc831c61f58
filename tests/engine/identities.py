"""Other words than a key's for a team: a gateway's header, and a token of an identity provider that is made here."""

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

PREFIX = "FLEETMETER__ENGINE_EXPORTER__"
IDENTITY = {
    f"{PREFIX}TEAM_HEADER": "x-team",
    f"{PREFIX}TRUSTED_PEERS": "127.0.0.1",
    f"{PREFIX}JWT_HEADER": "x-token",
    "VLLM_ENABLE_RESPONSES_API_STORE": "1",
}


def key_pair(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, Path]:
    """A provider's key, and the file of its public half."""
    signer = ec.generate_private_key(ec.SECP256R1())
    path = folder / "provider.pem"
    path.write_bytes(
        signer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return signer, path


def token_of(signer: ec.EllipticCurvePrivateKey, team: str) -> str:
    return jwt.encode({"exp": time.time() + 3600, "team": team}, signer, algorithm="ES256")
