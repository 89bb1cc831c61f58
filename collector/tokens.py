"""Bearer tokens: a YAML file of SHA-256 hashes, so that the file itself opens no door.

    tokens:
      - name: exporters of cluster eu-1
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        may: [write]            # write, read, or both (the default)

`printf %s "$TOKEN" | sha256sum` makes a hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from collector.errors import PermanentError

Right = Literal["read", "write"]


class UnknownTokenError(PermanentError):
    """No token, a wrong one, or one without the right."""


class Token(BaseModel):
    """One token that opens doors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Who holds it, for people.")
    sha256: str = Field(pattern="^[0-9a-fA-F]{64}$", description="SHA-256 of the token, in hex.")
    may: frozenset[Right] = Field(default=frozenset({"read", "write"}), description="read, write, or both.")


class TokensFile(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[Token, ...] = Field(min_length=1, description="The tokens.")


class Tokens:
    """Who may come in; without any token everybody on the network that the collector listens on."""

    def __init__(self, tokens: tuple[Token, ...] = ()) -> None:
        self._rights = {token.sha256.lower(): token.may for token in tokens}

    def __len__(self) -> int:
        """Return how many tokens there are."""
        return len(self._rights)

    def check(self, authorization: str | None, right: Right) -> None:
        """Let the bearer of a token in.

        Args:
            authorization: the header, `Bearer <token>`.
            right: what the bearer wants to do.

        Raises:
            UnknownTokenError: there is no token, it is unknown, or it may not.
        """
        if not self._rights:
            return
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnknownTokenError("a bearer token is needed: send the header 'Authorization: Bearer <token>'")
        # The hash is what is looked up, so the time taken tells nothing of the token.
        rights = self._rights.get(hashlib.sha256(token.strip().encode()).hexdigest())
        if rights is None or right not in rights:
            raise UnknownTokenError(f"this bearer token is unknown or may not {right}; see collector.tokens_file")


def load_tokens(file: Path | None) -> Tokens:
    """Read the tokens; no file means that everybody may.

    Raises:
        PermanentError: the file is missing or not as it should be.
    """
    if file is None:
        return Tokens()
    try:
        return Tokens(TokensFile.model_validate(yaml.safe_load(file.read_text())).tokens)
    except OSError as error:
        raise PermanentError(f"the tokens file can't be read: {error}; name another with --tokens-file") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise PermanentError(
            f"{file} is not a tokens file ({error}); it holds 'tokens: [{{name, sha256, may}}]'"
        ) from error
