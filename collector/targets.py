"""Targets of a scrape job: what is found becomes an address with labels. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from collector.scrape_config import ScrapeJob


@dataclass(frozen=True, slots=True)
class Found:
    """What a discovery says of one target."""

    address: str
    """host:port, or a whole address."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels to lay on its series, sorted."""
    scheme: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint that is read."""

    url: str
    """Its address."""
    labels: tuple[tuple[str, str], ...]
    """Labels laid on every series, `job` among them; sorted."""


def targets_of(job: ScrapeJob, found: Iterable[Found]) -> list[Target]:
    """Return the targets of a job, once each; those that `keep` does not match are left out."""
    targets: dict[str, Target] = {}
    for one in found:
        url = url_of(job, one)
        if url is None:
            continue
        labels = {"job": job.name, **dict(one.labels), **job.labels}
        seen = {**labels, "instance": urlsplit(url).netloc.rpartition("@")[2]}
        if matches(job.keep, seen):
            targets.setdefault(url, Target(url, tuple(sorted(labels.items()))))
    return list(targets.values())


def url_of(job: ScrapeJob, found: Found) -> str | None:
    """Return the whole address of a target; None where what was found is none."""
    if found.address.startswith(("http://", "https://")):
        parts = urlsplit(found.address)
        return found.address if parts.path not in ("", "/") or parts.query else found.address.rstrip("/") + job.path
    if not found.address or re.search(r"[\s/]", found.address):
        return None
    path = found.path or job.path
    return f"{found.scheme or job.scheme}://{found.address}{path if path.startswith('/') else '/' + path}"


def matches(keep: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether every expression matches its label whole."""
    return all(re.fullmatch(expression, labels.get(name, "")) for name, expression in keep.items())


def sorted_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return labels as a target keeps them; Prometheus' own (`__meta_…`) are left out."""
    return tuple(sorted((name, value) for name, value in labels.items() if value and not name.startswith("__")))
