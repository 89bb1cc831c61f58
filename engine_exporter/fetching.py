"""Read and send over HTTP with the standard library: all that a sidecar needs."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request

from engine_exporter.errors import ExporterError, UnreachableError

PAGE_BYTES_MAX = 32 * 2**20
"""A larger page is no page of metrics."""
_PIECE_BYTES = 65536


def fetch_text(url: str, timeout_seconds: float = 10.0) -> str:
    """Read one page of text, within this time as a whole.

    Raises:
        UnreachableError: nobody answers, or not in time, or with an error of the server.
        ExporterError: the address is no http address, there is no such page, or it is absurdly large.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:
            body = bytearray()
            while piece := response.read1(_PIECE_BYTES):
                body += piece
                if len(body) > PAGE_BYTES_MAX:
                    raise ExporterError(f"{url} serves more than {PAGE_BYTES_MAX // 2**20} MiB: is it a /metrics page?")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not all of it came within {timeout_seconds:g} s")
            return body.decode("utf-8", errors="replace")
    except urllib.error.HTTPError as error:
        kind = UnreachableError if error.code >= 500 else ExporterError
        raise kind(f"{url} answers {error.code} {error.reason}; name the engine's /metrics address") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UnreachableError(f"{url} does not answer: {reason}; is the engine up?") from error
    except ValueError as error:
        raise ExporterError(f"{url!r} is not an address; write e.g. http://127.0.0.1:8000/metrics") from error


def send_compressed(
    url: str, body: bytes, token: str | None, timeout_seconds: float = 10.0, tls: ssl.SSLContext | None = None
) -> None:
    """Post one OTLP message in protobuf that is gzip already.

    Raises:
        UnreachableError: the collector does not take it now; later may help.
        ExporterError: the collector refuses it; the same again will not help.
    """
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds, context=tls) as response:
            response.read()
    except urllib.error.HTTPError as error:
        kind = UnreachableError if error.code in (408, 429) or error.code >= 500 else ExporterError
        raise kind(
            f"the collector at {url} answers {error.code}: {error.read(300).decode(errors='replace')}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UnreachableError(
            f"no collector answers at {url}: {reason}; start one with `fleetmeter collect`"
        ) from error
    except ValueError as error:
        raise ExporterError(f"{url!r} is not an address; write e.g. http://127.0.0.1:4318") from error
