"""What the sidecar reads: addresses from the configuration and from a file that may change while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from engine_exporter.errors import ExporterError


@dataclass(frozen=True, slots=True)
class Target:
    """One page to read."""

    url: str
    labels: tuple[tuple[str, str], ...] = ()
    """Laid on its points, besides those of the configuration."""

    @property
    def instance(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        """Where on its server the page is."""
        return urlsplit(self.url).path

    @property
    def base(self) -> str:
        """The server's address without a path."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


def parse_target(raw: object, origin: str) -> Target:
    """Read one target: an address, or a mapping of `url` and `labels`.

    Raises:
        ExporterError: it is neither; the message says where and how to mend it.
    """
    labels: Any = {}
    url = raw
    if isinstance(raw, dict):
        if unknown := set(raw) - {"url", "labels"}:
            raise ExporterError(f"{origin}: {', '.join(map(str, sorted(unknown)))} is not known; write url and labels")
        url, labels = raw.get("url"), raw.get("labels") or {}
    if not isinstance(url, str) or not isinstance(labels, dict):
        raise ExporterError(f"{origin}: {raw!r} is no target; write http://host:port/metrics, or url and labels")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ExporterError(f"{origin}: {url!r} is not an address; write e.g. http://127.0.0.1:8000/metrics")
    if parts.username is not None:
        raise ExporterError(f"{origin}: an address with a password would stand in logs; give the server's without one")
    path = parts.path if parts.path not in ("", "/") else "/metrics"
    address = parts._replace(path=path, fragment="").geturl()
    return Target(address, tuple(sorted((str(key), str(value)) for key, value in labels.items())))


def parse_targets(raw: Iterable[object], origin: str) -> tuple[Target, ...]:
    """Read several; one that is named twice is read once.

    Raises:
        ExporterError: one of them is none.
    """
    return tuple({target.url: target for target in (parse_target(one, origin) for one in raw)}.values())


def instances_of(targets: Iterable[Target]) -> dict[str, str]:
    """Name the instance of every target by its address: host and port, and the path where two share those."""
    listed = tuple(targets)
    shared = Counter(target.instance for target in listed)
    return {target.url: target.instance + (target.path if shared[target.instance] > 1 else "") for target in listed}


@dataclass(slots=True)
class Targets:
    """The targets of the moment. A file that breaks leaves the last good list in use."""

    fixed: tuple[Target, ...]
    file: Path | None = None
    problem: str | None = None
    """What is wrong with the file now; None where all is well."""
    _of_file: tuple[Target, ...] = ()
    _stamp: tuple[int, int] | None = field(default=None)

    def now(self) -> tuple[Target, ...]:
        """Return all targets, reading the file again where it has changed."""
        if self.file is not None:
            try:
                self._look(self.file)
            except ExporterError as error:
                self.problem = str(error)
        return tuple({target.url: target for target in (*self.fixed, *self._of_file)}.values())

    def _look(self, file: Path) -> None:
        try:
            status = file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeError) as error:
            self._stamp = None
            raise ExporterError(f"{file}: cannot be read: {error}; the last targets stay in use") from error
        except yaml.YAMLError as error:
            self._stamp = stamp
            raise ExporterError(f"{file}: is no YAML: {error}; the last targets stay in use") from error
        self._stamp = stamp
        if raw is not None and not isinstance(raw, list):
            raise ExporterError(f"{file}: is no list; write one line `- http://host:port/metrics` a target")
        self._of_file = parse_targets(raw or (), str(file))
        self.problem = None
