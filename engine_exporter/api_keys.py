"""API keys to teams: a file of salted SHA-256 hashes, read again when it changes. Plain keys are never stored.

salt: 4f1c…            # hex, made once
keys:
  - hash: 9d2e…        # SHA-256 over salt and key, hex
    team: search
    app: ranker        # optional
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine_exporter.errors import ExporterError

log = logging.getLogger("vllm.fleetmeter")  # under vLLM's logger, so that its handlers and format apply

STORED_HASH_DIGITS = 16
"""Hex digits of a key's hash that go on the wire: enough to tell keys apart."""


class KeyEntry(BaseModel):
    """One key of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hash: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 over salt and key, 64 lowercase hex digits.")
    team: str = Field(min_length=1, description="The team that is charged.")
    app: str | None = Field(default=None, description="The application of that team.")
    note: str | None = Field(default=None, description="For people; not sent anywhere.")


class KeyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str = Field(pattern=r"^([0-9a-f]{2}){8,}$", description="Hex, at least 8 bytes.")
    keys: tuple[KeyEntry, ...] = Field(default=(), description="The keys.")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a request is charged to."""

    team: str | None = None
    app: str | None = None
    api_key_hash: str | None = None


NOBODY = Identity()


def hash_secret(salt: bytes, secret: bytes) -> str:
    """SHA-256 over salt and secret, 64 hex digits. API keys are long random strings, so no slow hash is needed."""
    return hashlib.sha256(salt + secret).hexdigest()


def parse_key_file(text: str, origin: str) -> KeyFile:
    """Read YAML or JSON.

    Raises:
        ExporterError: it is neither, or a field is missing or wrong.
    """
    import yaml

    try:
        data: Any = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
        return KeyFile.model_validate(data)
    except (yaml.YAMLError, ValueError) as error:
        reason = "; ".join(_lines(error)) if isinstance(error, ValidationError) else str(error)
        raise ExporterError(
            f"{origin} is not an API-key file: {reason}; `fleetmeter export hash-key` writes one"
        ) from error


def _lines(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, problem['loc'])) or 'top'}: {problem['msg']}" for problem in error.errors()]


class ApiKeys:
    """The map in use: looks a key up, and reads the file again when its time of change does.

    A file that breaks while the engine runs leaves the last good map in place, and says so in the log.
    """

    def __init__(self, path: Path | None, *, now: Callable[[], float], check_seconds: float = 2.0) -> None:
        """Read the file.

        Args:
            path: the file; None: nobody is known.
            now: monotonic clock, seconds.
            check_seconds: the least time between two looks at the file.
        """
        self._path = path
        self._now = now
        self._check_seconds = check_seconds
        self._checked_at = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._salt: bytes | None = None
        self._identities: Mapping[str, Identity] = {}
        self._seen: dict[bytes, Identity] = {}
        self.problem: str | None = None
        """Why the file is not in use or is out of date; None where all is well."""
        self.refresh()

    @property
    def salt(self) -> bytes | None:
        """The salt of the file, for other hashes; None without a file."""
        return self._salt

    def identify(self, key: bytes) -> Identity:
        """Whom a key belongs to; its hash alone where nobody knows it."""
        if self._now() - self._checked_at >= self._check_seconds:
            self.refresh()
        if not key or self._salt is None:
            return NOBODY
        found = self._seen.get(key)
        if found is None:
            digest = hash_secret(self._salt, key)
            found = self._identities.get(digest) or Identity(api_key_hash=digest[:STORED_HASH_DIGITS])
            if found.team is not None:  # unknown keys are not kept: a guesser must not fill the memory
                self._seen[key] = found
        return found

    def refresh(self) -> None:
        """Read the file if it changed since the last look. Never raises."""
        self._checked_at = self._now()
        if self._path is None:
            return
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._take(parse_key_file(self._path.read_text(encoding="utf-8"), str(self._path)))
            self.problem = None
        except (OSError, UnicodeError, ExporterError) as error:
            problem = str(error)
            if problem != self.problem:
                log.error("API keys: %s; requests keep the last good map (%d keys)", problem, len(self._identities))
            self.problem = problem

    def _take(self, file: KeyFile) -> None:
        self._salt = bytes.fromhex(file.salt)
        self._identities = {
            entry.hash: Identity(entry.team, entry.app, entry.hash[:STORED_HASH_DIGITS]) for entry in file.keys
        }
        self._seen = {}


def add_key(path: Path, key: str, team: str, app: str | None = None, note: str | None = None) -> KeyEntry:
    """Add one key to a file, making the file where there is none; JSON stays JSON, all else is YAML.

    Raises:
        ExporterError: the file is not an API-key file, the key is in it, or it cannot be written.
    """
    import yaml

    try:
        file = parse_key_file(path.read_text(encoding="utf-8"), str(path)) if path.exists() else None
        file = file or KeyFile(salt=secrets.token_hex(16))
        entry = KeyEntry(hash=hash_secret(bytes.fromhex(file.salt), key.encode()), team=team, app=app, note=note)
        if any(known.hash == entry.hash for known in file.keys):
            raise ExporterError(f"this key is in {path} already; remove its entry first to move it to another team")
        data = KeyFile(salt=file.salt, keys=(*file.keys, entry)).model_dump(exclude_none=True, mode="json")
        text = json.dumps(data, indent=2) if path.suffix == ".json" else yaml.safe_dump(data, sort_keys=False)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise ExporterError(f"cannot write {path}: {error.strerror}") from error
    except ValidationError as error:
        raise ExporterError("; ".join(_lines(error))) from error
    return entry
