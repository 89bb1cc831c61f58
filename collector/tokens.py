"""Bearer tokens: a YAML file of SHA-256 hashes, so that the file itself opens no door.

    tokens:
      - name: exporters of cluster eu-1
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        may: [write]                 # write, read, admin; read and write are the default
      - name: finance of team search
        sha256: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
        may: [read]
        team: search                 # sees the rows of this team, and no other
        expires_at: 2027-01-01T00:00:00Z
        write_bytes_per_second: 5000000
        queries_per_minute: 120

`printf %s "$TOKEN" | sha256sum` makes a hash. The file is read again when it changes, so a token is revoked by
taking it out, and `tokens: []` lets nobody in; a file that is missing or broken then is told in the log at every look,
and the last good one stays in force. What stands in the file is never told.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from collector.errors import PermanentError
from collector.quotas import Bucket, QuotaError

log = logging.getLogger(__name__)

Right = Literal["read", "write", "admin"]
Stamp = tuple[int, int, int, int]
LOOK_SECONDS = 2.0
"""The file is looked at again after so long."""


class UnknownTokenError(PermanentError):
    """No token, a wrong one, or one that has expired."""


class ForbiddenError(PermanentError):
    """A good token without the right."""


class Token(BaseModel):
    """One token that opens doors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(min_length=1, description="Who holds it, for people and for the audit log.")
    sha256: str = Field(pattern="^[0-9a-fA-F]{64}$", description="SHA-256 of the token, in hex.")
    may: frozenset[Right] = Field(default=frozenset({"read", "write"}), description="read, write, admin.")
    team: str | None = Field(default=None, min_length=1, description="It reads the rows of this team alone.")
    expires_at: AwareDatetime | None = Field(default=None, description="From then on it opens nothing.")
    write_bytes_per_second: float | None = Field(default=None, gt=0, description="Bodies over that are answered 429.")
    queries_per_minute: float | None = Field(default=None, gt=0, description="Queries over that are answered 429.")

    @model_validator(mode="after")
    def _a_team_administers_nothing(self) -> Token:
        if self.team is not None and "admin" in self.may:
            raise ValueError("a team's token may not be admin: what it administers is everybody's")
        return self


class TokensFile(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tokens: tuple[Token, ...] = Field(description="The tokens; without any nobody comes in.")

    @model_validator(mode="after")
    def _each_once(self) -> TokensFile:
        hashes = [token.sha256.lower() for token in self.tokens]
        if twice := {token.name for token in self.tokens if hashes.count(token.sha256.lower()) > 1}:
            raise ValueError(f"the same token stands there more than once: {', '.join(sorted(twice))}")
        return self


class Bearer:
    """Somebody whose token was good, and what is left of its quotas."""

    def __init__(self, token: Token | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = token.name if token else "anybody"
        self.team = token.team if token else None
        self.token = token
        writes = token.write_bytes_per_second if token else None
        queries = token.queries_per_minute if token else None
        self._bytes = Bucket(writes, clock=clock) if writes else None
        self._queries = Bucket(queries / 60, burst_seconds=60, clock=clock) if queries else None

    def spend_bytes(self, count: int) -> None:
        """Count a body against the quota.

        Raises:
            QuotaError: it is used up.
        """
        if self._bytes is not None and (wait := self._bytes.take(count)):
            raise QuotaError(f"{self.name} sends more than its write_bytes_per_second; send again later", wait)

    def spend_query(self) -> None:
        """Count a query against the quota.

        Raises:
            QuotaError: it is used up.
        """
        if self._queries is not None and (wait := self._queries.take(1)):
            raise QuotaError(f"{self.name} asks more than its queries_per_minute; ask again later", wait)


ANYBODY = Bearer(None)


class Tokens:
    """Who may come in; without a file everybody on the network that the collector listens on.

    Args:
        file: the tokens file; None lets everybody in.
        clock: seconds of a clock that only goes on.
        now: the time, UTC.

    Raises:
        PermanentError: the file is missing or not as it should be.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._file = file
        self._clock = clock
        self._now = now
        self._bearers: dict[str, Bearer] = {}
        self._seen: Stamp | None = None
        self._looked_at = clock()
        if file is not None:
            self._read(file)

    def __len__(self) -> int:
        """Return how many tokens there are."""
        return len(self._bearers)

    def check(self, authorization: str | None, right: Right) -> Bearer:
        """Let the bearer of a token in.

        Args:
            authorization: the header, `Bearer <token>`.
            right: what the bearer wants to do.

        Raises:
            UnknownTokenError: there is no token, it is unknown, or it has expired.
            ForbiddenError: it is good, but not for that.
        """
        if self._file is None:
            return ANYBODY
        self._look_again()
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnknownTokenError("a bearer token is needed: send the header 'Authorization: Bearer <token>'")
        # The hash is what is looked up, so the time taken tells nothing of the token.
        bearer = self._bearers.get(hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest())
        if bearer is None or bearer.token is None:
            raise UnknownTokenError("this bearer token is unknown; see collector.tokens_file")
        expires_at = bearer.token.expires_at
        if expires_at is not None and self._now() >= expires_at:
            raise UnknownTokenError(f"the token of {bearer.name} expired at {expires_at.isoformat()}; get a new one")
        if right not in bearer.token.may:
            raise ForbiddenError(f"the token of {bearer.name} may not {right}; see collector.tokens_file")
        return bearer

    def _look_again(self) -> None:
        """Read the file again where it has changed; a broken one leaves the last good one in force."""
        if self._file is None or (now := self._clock()) - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            if self._read(self._file):
                log.info("tokens_read_again", extra={"tokens": len(self._bearers)})
        except PermanentError as error:
            log.error("tokens_file_broken", extra={"error": str(error), "in_force": "the last good one"})

    def _read(self, file: Path) -> bool:
        """Put the file in force where it is not the one that was seen last; say whether it is another.

        Raises:
            PermanentError: the file is missing or not as it should be; it is read again the next time.
        """
        try:
            stamp = stamp_of(file)  # before the file is read: what is written meanwhile is seen the next time
            if stamp == self._seen:
                return False
            tokens = read_tokens(file)
        except OSError as error:
            raise PermanentError(f"the tokens file can't be read: {error}; name another with --tokens-file") from error
        self._take(tokens)
        self._seen = stamp
        return True

    def _take(self, tokens: tuple[Token, ...]) -> None:
        """Put tokens in force; one that did not change keeps what is left of its quotas."""
        known = {bearer.token: bearer for bearer in self._bearers.values()}
        self._bearers = {one.sha256.lower(): known.get(one) or Bearer(one, self._clock) for one in tokens}


def stamp_of(file: Path) -> Stamp:
    """Return what changes when a file is written or another takes its place.

    Raises:
        OSError: there is none.
    """
    status = file.stat()
    return status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size


def read_tokens(file: Path) -> tuple[Token, ...]:
    """Read a tokens file.

    Raises:
        OSError: it can't be read.
        PermanentError: it is not as it should be; the message holds nothing of what stands in it.
    """
    try:
        return TokensFile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))).tokens
    except yaml.MarkedYAMLError as error:  # it would tell the line as it stands there
        why = f"line {error.problem_mark.line + 1} is no YAML" if error.problem_mark else "it is no YAML"
    except ValidationError as error:
        why = str(error)
    except (yaml.YAMLError, ValueError, RecursionError):
        why = "it is no YAML"
    raise PermanentError(f"{file} is not a tokens file ({why}); it holds 'tokens: [{{name, sha256, may}}]'")
