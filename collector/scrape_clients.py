"""HTTP clients of scrape jobs: tokens and passwords out of files, certificates."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx

from collector.errors import PermanentError
from collector.scrape_config import ScrapeJob

CONNECTIONS = httpx.Limits(max_connections=256, max_keepalive_connections=128)


@dataclass(slots=True)
class FileAuth(httpx.Auth):
    """Lays a secret on every request, read anew from its file: secrets are rotated."""

    file: Path
    user: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header."""
        secret = self.file.read_text(encoding="utf-8").strip()
        if self.user is None:
            request.headers["Authorization"] = f"Bearer {secret}"
        else:
            pair = base64.b64encode(f"{self.user}:{secret}".encode()).decode()
            request.headers["Authorization"] = f"Basic {pair}"
        yield request


def auth_of(job: ScrapeJob) -> FileAuth | None:
    """Return what a job's requests carry."""
    if job.bearer_file is not None:
        return FileAuth(job.bearer_file)
    if job.basic_password_file is not None:
        return FileAuth(job.basic_password_file, job.basic_user)
    return None


def client_of(job: ScrapeJob, timeout_seconds: float, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """Return the client of a job.

    Raises:
        PermanentError: a certificate or key can't be read.
    """
    return httpx.AsyncClient(
        timeout=timeout_seconds,
        transport=transport,
        follow_redirects=True,
        auth=auth_of(job),
        verify=context_of(job),
        limits=CONNECTIONS,
        trust_env=False,
    )


def context_of(job: ScrapeJob) -> ssl.SSLContext | bool:
    """Return how targets' certificates are checked, and ours shown."""
    try:
        context = ssl.create_default_context(cafile=str(job.ca_file) if job.ca_file else None)
        if job.cert_file is not None:
            context.load_cert_chain(str(job.cert_file), str(job.key_file))
    except (OSError, ssl.SSLError) as error:
        raise PermanentError(f"certificates of scrape job {job.name!r} can't be read: {error}") from error
    if job.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
