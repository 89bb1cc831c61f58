"""Who asked: what each source says, and which of them is believed. Pure.

A source that is not configured says nothing, and an untrusted header is no source at all. Team and application are
never mixed from sources that disagree: an application is taken from a later source only where that source names no
team or the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from engine_exporter.semconv import Trust

TEXT_LIMIT = 128
"""Longest string of a client that is stored."""


class Source(StrEnum):
    """Where an identity can come from."""

    TRUSTED_HEADER = "trusted_header"
    JWT = "jwt"
    API_KEY = "api_key"
    BODY = "body"


TRUST_OF: dict[Source, Trust] = {
    Source.TRUSTED_HEADER: Trust.TRUSTED_HEADER,
    Source.JWT: Trust.VERIFIED,
    Source.API_KEY: Trust.VERIFIED,
    Source.BODY: Trust.ASSERTED,
}


class Identity(NamedTuple):
    """Whom a request is charged to, as one source says it or as it was settled."""

    team: str | None = None
    app: str | None = None
    api_key_hash: str | None = None
    user: str | None = None
    """The end user's id as it came; it leaves the process hashed."""
    trust: Trust | None = None
    """How far it is to be trusted: that of the team, or of the user where nobody names a team. None: nobody known."""


NOBODY = Identity()


def clean(text: str) -> str | None:
    r"""Make a client's text storable: no spaces at its ends, no control characters, 128 characters at most.

    >>> clean("  red\x00 team\n")
    'red team'
    >>> clean("\t") is None
    True
    """
    text = text.strip()[:TEXT_LIMIT]
    if text.isprintable():
        return text or None
    return "".join(letter for letter in text if letter.isprintable()).strip() or None


def clean_header(value: bytes) -> str | None:
    """Read a header's value as UTF-8, else as Latin-1 (which fails for nothing)."""
    try:
        return clean(value.decode())
    except UnicodeDecodeError:
        return clean(value.decode("latin-1"))


def settle(claims: Iterable[tuple[Source, Identity | None]]) -> Identity:
    """Decide whom a request is charged to.

    Args:
        claims: what every source says, the most believed first.

    Returns:
        The team of the first source that names one; application and user of the first source that names them and
        does not contradict that team; the hash of the API key whoever was believed.
    """
    said = [(source, claim) for source, claim in claims if claim is not None and claim is not NOBODY]
    if not said:
        return NOBODY
    if len(said) == 1:
        return _alone(*said[0])
    team = trust = None
    for source, claim in said:
        if claim.team is not None:
            team, trust = claim.team, TRUST_OF[source]
            break
    app = user = key = None
    for source, claim in said:
        if app is None and claim.app is not None and claim.team in (None, team):
            app = claim.app
        if user is None and claim.user is not None:
            user = claim.user
            trust = trust or TRUST_OF[source]
        key = key or claim.api_key_hash
    return Identity(team, app, key, user, trust)


def _alone(source: Source, claim: Identity) -> Identity:
    if claim.trust is not None:
        return claim
    known = claim.team is not None or claim.user is not None
    return Identity(claim.team, claim.app, claim.api_key_hash, claim.user, TRUST_OF[source] if known else None)
