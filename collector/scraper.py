"""Reads Prometheus endpoints on their interval. What it reads goes the way of every other body, through the spool."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from collector.config import CollectorConfig, ScrapeTarget
from collector.errors import PermanentError, RetryableError, TooLargeError
from collector.receivers.intake import Intake
from collector.self_metrics import SelfMetrics

log = logging.getLogger(__name__)

ACCEPT = "text/plain;version=0.0.4;q=1, */*;q=0.1"


@dataclass(slots=True)
class Scraper:
    """One task a target.

    Args:
        config: targets, interval, time-out and the largest body.
        intake: takes the texts.
        metrics: told about every scrape.
        clock: seconds since 1970.
        transport: how to reach the targets; None is the network.
    """

    config: CollectorConfig
    intake: Intake
    metrics: SelfMetrics
    clock: Callable[[], float] = time.time
    transport: httpx.AsyncBaseTransport | None = None

    async def run(self) -> None:
        """Scrape every target until cancelled."""
        timeout = self.config.scrape_timeout_seconds
        async with httpx.AsyncClient(timeout=timeout, transport=self.transport, follow_redirects=True) as client:
            await asyncio.gather(*(self._watch(client, target) for target in self.config.scrape))

    async def _watch(self, client: httpx.AsyncClient, target: ScrapeTarget) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self.scrape(client, target)
            # A scrape that took longer than the interval is followed by the next one on the old grid.
            due += self.config.scrape_interval_seconds * max(
                1, -(-(loop.time() - due) // self.config.scrape_interval_seconds)
            )
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def scrape(self, client: httpx.AsyncClient, target: ScrapeTarget) -> None:
        """Read a target once: its points and `up` = 1, or `up` = 0 alone."""
        observed_us = int(self.clock() * 1e6)
        meta: dict[str, Any] = {"target": target.url, "labels": target.labels, "observed_us": observed_us, "up": True}
        try:
            body = await self._read(client, target.url)
            answer = await self.intake.accept("scrape", body, meta=meta)
        except RetryableError as error:
            self._failed(target, error)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, PermanentError) as error:
            self._failed(target, error)
            await self._note_down(meta)
        else:
            self.metrics.count("fleetmeter_scrapes", result="ok")
            if answer.rejected_count:
                log.warning("scrape_rejected", extra={"target": target.url, "reason": answer.message})

    def _failed(self, target: ScrapeTarget, error: Exception) -> None:
        self.metrics.count("fleetmeter_scrapes", result="failed")
        log.warning("scrape_failed", extra={"target": target.url, "error": str(error) or type(error).__name__})

    async def _note_down(self, meta: dict[str, Any]) -> None:
        try:
            await self.intake.accept("scrape", b"", meta={**meta, "up": False})
        except RetryableError as error:
            log.warning("scrape_not_noted", extra={"target": meta["target"], "error": str(error)})

    async def _read(self, client: httpx.AsyncClient, url: str) -> bytes:
        async with asyncio.timeout(self.config.scrape_timeout_seconds):
            async with client.stream("GET", url, headers={"Accept": ACCEPT}) as response:
                response.raise_for_status()
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > self.config.max_body_bytes:
                        raise TooLargeError(f"over {self.config.max_body_bytes} bytes")
        return bytes(body)
