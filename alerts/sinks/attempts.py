"""One HTTP attempt, and what its answer means: accepted, worth another try, or never again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from alerts.outbox import Answer, Attempt

RETRYABLE_CODES = frozenset({408, 425, 429})
"""Client errors that mean "not now"; every 5xx does too. All other codes outside 2xx are permanent."""


def post(http: httpx.Client, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
    """Send one body and classify the answer. Redirects are not followed: a page must not be led elsewhere."""
    try:
        response = http.post(url, content=body, headers={"Content-Type": "application/json", **headers})
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        return Attempt(Answer.PERMANENT, f"the address does not work: {error}")
    except httpx.HTTPError as error:
        return Attempt(Answer.RETRYABLE, f"{type(error).__name__}: {error}")
    if response.is_success:
        return Attempt(Answer.ACCEPTED, str(response.status_code))
    detail = f"HTTP {response.status_code}: {response.text[:300]}".strip().rstrip(":")
    if response.status_code >= 500 or response.status_code in RETRYABLE_CODES:
        return Attempt(Answer.RETRYABLE, detail, retry_after_seconds(response.headers.get("Retry-After"), utc()))
    return Attempt(Answer.PERMANENT, detail)


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Read `Retry-After`: seconds or an HTTP date; None where it is absent or unreadable. Unit: s."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def utc() -> datetime:
    """Return the time with its zone, as HTTP dates are compared."""
    return datetime.now(UTC)
