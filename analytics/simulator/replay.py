"""Sending OTLP bodies to a receiver, with retries where the receiver asks for them."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable

import httpx

from analytics.simulator.errors import ReceiverError, SimulatorError

RETRIES = 6
RETRIED = {408, 429, 502, 503, 504}


class Receiver:
    """An OTLP/HTTP receiver of traces."""

    def __init__(self, url: str, *, sleep: Callable[[float], None] = time.sleep, timeout_seconds: float = 30.0) -> None:
        """Take `http://host:port` or the full address of `/v1/traces`."""
        self.url = url if url.rstrip("/").endswith("/v1/traces") else url.rstrip("/") + "/v1/traces"
        self._http, self._sleep = httpx.Client(timeout=timeout_seconds), sleep

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def send(self, body: bytes) -> None:
        """Post one body; on backpressure wait as told and try again.

        Raises:
            SimulatorError: the receiver refuses the body.
            ReceiverError: it can't be reached, or stays busy.
        """
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        packed = gzip.compress(body, 1)
        problem = ""
        for attempt in range(RETRIES):
            try:
                response = self._http.post(self.url, content=packed, headers=headers)
            except httpx.InvalidURL as error:
                raise SimulatorError(f"{self.url} is not an address: {error}") from error
            except httpx.UnsupportedProtocol as error:
                raise SimulatorError(f"{self.url} is not an address: {error}; begin it with http://") from error
            except httpx.HTTPError as error:
                raise ReceiverError(
                    f"no OTLP receiver answers at {self.url} ({error}); start one with `fleetmeter collect`"
                ) from error
            if response.status_code == 200:
                return
            problem = f"{self.url} answered {response.status_code}: {response.text[:300]}"
            if response.status_code not in RETRIED:
                raise SimulatorError(problem)
            wait = response.headers.get("Retry-After", "")
            self._sleep(float(wait) if wait.isdigit() else 0.2 * 2**attempt)
        raise ReceiverError(f"{problem}; tried {RETRIES} times")
