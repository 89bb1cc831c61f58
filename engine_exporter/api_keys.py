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
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine_exporter.errors import ExporterError
from engine_exporter.identity import NOBODY, Identity
from engine_exporter.semconv import Trust
from engine_exporter.watched_file import WatchedFile

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


@dataclass(frozen=True, slots=True)
class KeyMap:
    """One reading of the file; taken into use as a whole."""

    salt: bytes | None = None
    identities: Mapping[str, Identity] = field(default_factory=dict)
    """Hash -> whom it belongs to."""
    seen: dict[bytes, Identity] = field(default_factory=dict)
    """Known keys as they were sent, so that a key is hashed once."""


class ApiKeys(WatchedFile[KeyMap]):
    """The map in use."""

    WHAT = "API keys"

    def __init__(self, path: Path | None) -> None:
        """Read the file once.

        Args:
            path: the file; None: nobody is known.
        """
        super().__init__(path, KeyMap())

    def parse(self, text: str, origin: str) -> KeyMap:
        """Read YAML or JSON."""
        return key_map(parse_key_file(text, origin))

    def size(self) -> int:
        """Keys in use."""
        return len(self.reading.identities)

    @property
    def salt(self) -> bytes | None:
        """The salt of the file, for other hashes; None without a file."""
        return self.reading.salt

    def identify(self, key: bytes) -> Identity:
        """Whom a key belongs to; its hash alone where nobody knows it."""
        current = self.reading
        if not key or current.salt is None:
            return NOBODY
        found = current.seen.get(key)
        if found is None:
            digest = hash_secret(current.salt, key)
            found = current.identities.get(digest) or Identity(api_key_hash=digest[:STORED_HASH_DIGITS])
            if found.team is not None:  # unknown keys are not kept: a guesser must not fill the memory
                current.seen[key] = found
        return found


def key_map(file: KeyFile) -> KeyMap:
    """Make the map of a file."""
    identities = {
        entry.hash: Identity(entry.team, entry.app, entry.hash[:STORED_HASH_DIGITS], trust=Trust.VERIFIED)
        for entry in file.keys
    }
    return KeyMap(bytes.fromhex(file.salt), identities)


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
