"""JSON Web Tokens to teams: signatures checked against keys of a file, with PyJWT.

The file is a JWKS (as an identity provider serves it) or public keys in PEM, and is read again when it changes. Which
algorithms count is configured, never read from the token (RFC 8725, section 3.1). A token is verified once: what it
said is kept until it expires, in a bounded map that forgets the longest unused first.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine_exporter.errors import ExporterError
from engine_exporter.identity import NOBODY, Identity, clean
from engine_exporter.semconv import Trust
from engine_exporter.watched_file import WatchedFile

log = logging.getLogger("vllm.fleetmeter")  # under vLLM's logger, so that its handlers and format apply

TOKEN_LIMIT_BYTES = 16_384
"""Longer tokens are not looked at."""
KEPT_LIMIT = 4096
"""Tokens remembered, good ones; and as many bad ones, apart, so that a guesser pushes out nobody."""
_PEM = re.compile(r"-----BEGIN [A-Z ]*PUBLIC KEY-----.*?-----END [A-Z ]*PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must be, and which of its claims say what."""

    algorithms: tuple[str, ...]
    issuer: str | None = None
    audience: str | None = None
    leeway_seconds: float = 30.0
    team_claim: str = "team"
    app_claim: str = "app"
    user_claim: str = "sub"


@dataclass(slots=True)
class KeySet:
    """One reading of the key file, with what its keys have verified so far."""

    by_id: Mapping[str, Any] = field(default_factory=dict)
    all: Sequence[Any] = ()
    good: OrderedDict[bytes, tuple[float, Identity]] = field(default_factory=OrderedDict)
    """Digest of the token -> (when it expires, seconds since 1970; who it is)."""
    bad: OrderedDict[bytes, None] = field(default_factory=OrderedDict)


def looks_like_token(value: bytes) -> bool:
    """Whether a bearer value is a JWT and no API key: three parts, the first of which is a JSON object.

    >>> looks_like_token(b"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), looks_like_token(b"sk-1")
    (True, False)
    """
    return value.startswith(b"ey") and value.count(b".") == 2


class JwtClaims(WatchedFile[KeySet]):
    """Verifies tokens. Only made where a key file is configured, so that nobody else needs PyJWT."""

    WHAT = "JWT keys"

    def __init__(self, path: Path | None, rules: TokenRules, unix_seconds: Callable[[], float] = time.time) -> None:
        """Read the key file once.

        Args:
            path: JWKS or PEM; None: no token says anything.
            rules: what a token must be.
            unix_seconds: wall clock, for tokens that expire after they were verified.
        """
        self._rules = rules
        self._unix_seconds = unix_seconds
        self.refused_count = 0
        """Tokens that were not believed, each time they came."""
        super().__init__(path, KeySet())

    def parse(self, text: str, origin: str) -> KeySet:
        """Read JWKS or PEM."""
        return parse_keys(text, origin)

    def size(self) -> int:
        """Keys in use."""
        return len(self.reading.all)

    def identify(self, token: bytes) -> Identity:
        """Say who a token is; nobody where it is not valid."""
        keys = self.reading
        if not keys.all or len(token) > TOKEN_LIMIT_BYTES or not looks_like_token(token):
            return NOBODY
        digest = hashlib.blake2b(token, digest_size=16).digest()
        kept = keys.good.get(digest)
        if kept is not None:
            if kept[0] > self._unix_seconds():
                keys.good.move_to_end(digest)
                return kept[1]
            del keys.good[digest]
        if digest in keys.bad:
            self.refused_count += 1
            return NOBODY
        return self._verify(keys, token, digest)

    def _verify(self, keys: KeySet, token: bytes, digest: bytes) -> Identity:
        claims = verified_claims(keys, token, self._rules)
        if claims is None:
            self.refused_count += 1
            _keep(keys.bad, digest, None)
            return NOBODY
        found = identity_of(claims, self._rules)
        _keep(keys.good, digest, (float(claims["exp"]) + self._rules.leeway_seconds, found))
        return found


def _keep(kept: OrderedDict[bytes, Any], digest: bytes, value: Any) -> None:
    kept[digest] = value
    if len(kept) > KEPT_LIMIT:
        kept.popitem(last=False)


def parse_keys(text: str, origin: str) -> KeySet:
    """Read public keys.

    Raises:
        ExporterError: the text is neither JWKS nor PEM, holds no usable key, or PyJWT is not installed.
    """
    try:
        import jwt
    except ImportError as error:
        raise ExporterError("JWTs need PyJWT: pip install 'fleetmeter[jwt]'") from error
    try:
        if text.lstrip().startswith("{"):
            found = jwt.PyJWKSet.from_dict(json.loads(text)).keys
            return KeySet({key.key_id: key for key in found if key.key_id}, found)
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        public = [load_pem_public_key(block.encode()) for block in _PEM.findall(text)]
    except (ValueError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise ExporterError(f"{origin} holds no usable JWT keys: {error}") from error
    except ImportError as error:
        raise ExporterError("public keys need cryptography: pip install 'fleetmeter[jwt]'") from error
    if not public:
        raise ExporterError(f"{origin} is neither a JWKS nor public keys in PEM")
    return KeySet({}, public)


def verified_claims(keys: KeySet, token: bytes, rules: TokenRules) -> dict[str, Any] | None:
    """Check signature, algorithm, times, issuer and audience; None where one of them is wrong."""
    import jwt

    try:
        name = jwt.get_unverified_header(token).get("kid")
        named = keys.by_id.get(name) if isinstance(name, str) else None
        candidates = [named] if named is not None else keys.all
    except (ValueError, jwt.PyJWTError):
        return None
    for key in candidates:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(rules.algorithms),
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway_seconds,
                options={"require": ["exp"], "verify_aud": rules.audience is not None},
            )
            return claims
        except (ValueError, TypeError, RecursionError, jwt.PyJWTError):
            continue
    return None


def identity_of(claims: Mapping[str, Any], rules: TokenRules) -> Identity:
    """Read team, application and user from verified claims."""
    team, app, user = (claim_text(claims, name) for name in (rules.team_claim, rules.app_claim, rules.user_claim))
    if team is None and app is None and user is None:
        return NOBODY
    return Identity(team, app, None, user, Trust.VERIFIED if team or user else None)


def claim_text(claims: Mapping[str, Any], name: str) -> str | None:
    """Read one claim: by its whole name (which may be an address), else as a path of names with dots between.

    A list stands for its only entry; with several there is no saying which is meant.

    >>> claim_text({"realm": {"team": ["search"]}}, "realm.team")
    'search'
    """
    value: Any = claims.get(name)
    if value is None and "." in name:
        value = claims
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    return clean(value) if isinstance(value, str) else None
