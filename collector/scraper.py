"""Reads Prometheus endpoints on their interval. What it reads goes the way of every other body, through the spool."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from collector.config import CollectorConfig
from collector.errors import PermanentError, RetryableError, TooLargeError
from collector.kubernetes_targets import KubernetesPods
from collector.receivers.intake import Intake
from collector.scrape_clients import client_of
from collector.scrape_config import ScrapeJob
from collector.scrape_texts import ended_lines, samples_count
from collector.self_metrics import SelfMetrics
from collector.target_files import TargetFiles
from collector.target_names import TargetNames
from collector.targets import Found, Target, targets_of

log = logging.getLogger(__name__)

TEXT = "text/plain;version=0.0.4"
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
AT_ONCE = 64
"""Targets that are read at one moment."""


@dataclass(slots=True)
class Scraper:
    """One task a job, which finds targets, and one a target: none waits for another.

    Args:
        config: jobs, interval, time-out and the largest body.
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
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _targets: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Scrape every target until cancelled."""
        plain = [self._watch_plain(number) for number in range(len(self.config.scrape))]
        await asyncio.gather(*plain, *(self._watch_job(job) for job in self.config.scrape_jobs))

    async def _watch_plain(self, number: int) -> None:
        """Read one target of `collector.scrape`, which has no job."""
        one = self.config.scrape[number]
        job = ScrapeJob(name="scrape", targets=(one.url,))
        async with client_of(job, self.timeout_of(job), self.transport) as client:
            await self._watch(client, job, Target(one.url, tuple(sorted(one.labels.items()))))

    async def _watch_job(self, job: ScrapeJob) -> None:
        """Look for a job's targets again and again; begin with new ones, end with those that are gone."""
        finders = finders_of(job)
        found: list[list[Found]] = [[] for _ in finders]
        running: dict[Target, asyncio.Task[None]] = {}
        async with client_of(job, self.timeout_of(job), self.transport) as client:
            try:
                while True:
                    for number, find in enumerate(finders):
                        try:
                            found[number] = await find()
                        except Exception as error:
                            # What was found before stays: a name server that is away takes no target away.
                            self.metrics.count("fleetmeter_target_lookups_failed", job=job.name)
                            log.exception("targets_not_found", extra={"job": job.name, "error": str(error)})
                    wanted = set(targets_of(job, (one for group in found for one in group)))
                    for gone in running.keys() - wanted:
                        running.pop(gone).cancel()
                    for new in wanted - running.keys():
                        running[new] = asyncio.create_task(self._watch(client, job, new))
                    self._targets[job.name] = len(wanted)
                    self.metrics.set("fleetmeter_scrape_targets", float(sum(self._targets.values())))
                    await asyncio.sleep(job.refresh_seconds)
            finally:
                for task in running.values():
                    task.cancel()

    def timeout_of(self, job: ScrapeJob) -> float:
        """Return how long one target of a job may take."""
        return job.timeout_seconds or self.config.scrape_timeout_seconds

    async def _watch(self, client: httpx.AsyncClient, job: ScrapeJob, target: Target) -> None:
        """Read one target on its own grid of time, begun at an offset that its address gives."""
        interval = job.interval_seconds or self.config.scrape_interval_seconds
        loop = asyncio.get_running_loop()
        reading = Reading(self, client, job, target)
        due = loop.time() + zlib.crc32(target.url.encode()) / 2**32 * interval
        try:
            while True:
                await asyncio.sleep(max(0.0, due - loop.time()))
                async with self._places:
                    await reading.read()
                # A scrape that took longer than the interval is followed by the next one on the old grid.
                due += interval * max(1, -(-(loop.time() - due) // interval))
        except asyncio.CancelledError:
            if job in self.config.scrape_jobs:
                await reading.end()
            raise


@dataclass(slots=True)
class Reading:
    """One target, with what it had at the last read."""

    scraper: Scraper
    client: httpx.AsyncClient
    job: ScrapeJob
    target: Target
    _last: bytes = b""
    """The last text, packed: its series end with the next read that lacks them."""

    async def read(self) -> None:
        """Read the target once: its points and `up` = 1, or `up` = 0 alone; whatever happens, it happens here."""
        meta = self.meta()
        started = time.perf_counter()
        try:
            body = await self._fetch()
            meta["duration_seconds"] = time.perf_counter() - started
            answer = await self.scraper.intake.accept("scrape", body, meta=meta)
        except RetryableError as error:
            self._failed(error)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, PermanentError) as error:
            self._failed(error)
            meta["duration_seconds"] = time.perf_counter() - started
            await self._note({**meta, "up": False}, b"")
            await self._note_ended(b"", meta)
        except Exception as error:
            log.exception("scrape_broke_off", extra={"target": self.target.url})
            self._failed(error)
        else:
            self.scraper.metrics.count("fleetmeter_scrapes", result="ok")
            self.scraper.metrics.observe("fleetmeter_scrape_seconds", meta["duration_seconds"])
            if answer.rejected_count:
                log.warning("scrape_rejected", extra={"target": self.target.url, "reason": answer.message})
            await self._note_ended(body, meta)

    async def end(self) -> None:
        """Say that all series of a target that is gone end here."""
        meta = self.meta()
        await self._note_ended(b"", meta)
        await self._note({**meta, "ended": True}, b"up 0\n")

    def meta(self) -> dict[str, Any]:
        """Return what a text's record says beside the text."""
        return {
            "target": self.target.url,
            "labels": dict(self.target.labels),
            "observed_us": int(self.scraper.clock() * 1e6),
            "up": True,
            **({"honor_labels": True} if self.job.honor_labels else {}),
        }

    def _failed(self, error: Exception) -> None:
        self.scraper.metrics.count("fleetmeter_scrapes", result="failed")
        log.warning("scrape_failed", extra={"target": self.target.url, "error": str(error) or type(error).__name__})

    async def _note_ended(self, body: bytes, meta: dict[str, Any]) -> None:
        before = zlib.decompress(self._last) if self._last else b""
        self._last = zlib.compress(body, 1) if body else b""
        if before and before != body and (ended := ended_lines(before, body)):
            await self._note({**meta, "ended": True}, ended)

    async def _note(self, meta: dict[str, Any], body: bytes) -> None:
        try:
            await self.scraper.intake.accept("scrape", body, meta=meta)
        except (RetryableError, PermanentError) as error:
            log.warning("scrape_not_noted", extra={"target": self.target.url, "error": str(error)})

    async def _fetch(self) -> bytes:
        limit = self.scraper.config.max_body_bytes
        accept = f"{OPEN_METRICS};q=1,{TEXT};q=0.9,*/*;q=0.1" if self.job.open_metrics else f"{TEXT};q=1,*/*;q=0.1"
        async with asyncio.timeout(self.scraper.timeout_of(self.job)):
            async with self.client.stream("GET", self.target.url, headers={"Accept": accept}) as response:
                response.raise_for_status()
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > limit:
                        raise TooLargeError(f"over {limit} bytes")
        if (count := samples_count(bytes(body))) > self.job.samples_limit:
            raise TooLargeError(f"{count} samples are over the limit of {self.job.samples_limit} (samples_limit)")
        return bytes(body)


def finders_of(job: ScrapeJob) -> list[Callable[[], Awaitable[list[Found]]]]:
    """Return the ways in which a job finds targets."""
    finders: list[Callable[[], Awaitable[list[Found]]]] = []
    if job.targets:
        fixed = [Found(address) for address in job.targets]
        finders.append(lambda: at_once(fixed))
    if job.files:
        files = TargetFiles(job.files)
        finders.append(lambda: asyncio.to_thread(files.find))
    finders += [TargetNames(one).find for one in job.dns]
    finders += [KubernetesPods(one).find for one in job.kubernetes]
    return finders


async def at_once(found: list[Found]) -> list[Found]:
    """Return targets that need no look."""
    return found
