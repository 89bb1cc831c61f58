"""Standard Webhooks 1.0 signatures: `v1,base64(HMAC-SHA256(secret, id.timestamp.body))`, one for each secret in force.

Source: the specification at github.com/standard-webhooks; tests verify with the `standardwebhooks` library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime

from alerts.errors import ReceiverError

PREFIX = "whsec_"


def read_secrets(text: str) -> tuple[bytes, ...]:
    """Read one or several `whsec_…` secrets, separated by white space; the first is the current one.

    Raises:
        ReceiverError: one is not base64 of 24 to 64 bytes.
    """
    if not text.split():
        raise ReceiverError("the webhook secret is empty; make one with `fleetmeter alert secret`")
    return tuple(read_secret(word) for word in text.split())


def read_secret(word: str) -> bytes:
    """Read one secret."""
    try:
        key = base64.b64decode(word.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise ReceiverError(
            "a webhook secret is whsec_ and base64 of 24 to 64 bytes; make one with `fleetmeter alert secret`"
        )
    return key


def write_secret(key: bytes) -> str:
    """Write a key as people pass it on."""
    return PREFIX + base64.b64encode(key).decode()


def signature_headers(keys: Sequence[bytes], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers of a signed message.

    Args:
        keys: the secrets in force; each signs.
        message_id: the same on every retry; receivers drop what they have seen.
        at: the time of this attempt, naive UTC; receivers refuse old ones.
        body: the exact bytes sent.
    """
    timestamp = str(int(at.replace(tzinfo=UTC).timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
