"""Whose identity headers are believed.

Anybody who reaches the server can send `X-Team: red`. So a header that names a team counts only where the sender
proved to be the gateway: by its address, by a shared secret, or by the operator's word that nobody else can connect.
All proofs that are configured must hold; with none configured no header is believed.

An address counts only if it is the connection's own. Behind uvicorn's proxy headers the address in the scope comes
from `X-Forwarded-For`, which a client may have written: uvicorn sets the port to 0 then, and it is not believed.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REMEMBERED = 1024


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses and networks (`10.0.0.0/8`, `10.1.2.3`, `fd00::/8`).

    Raises:
        ValueError: one of them is neither.
    """
    return tuple(ipaddress.ip_network(text.strip(), strict=False) for text in texts)


class TrustedPeers:
    """Decides whether a request's identity headers are believed."""

    def __init__(self, peers: Iterable[str], secret: str | None, trust_any_peer: bool) -> None:
        """Take the proofs that are asked for.

        Args:
            peers: addresses and networks of gateways.
            secret: what the gateway sends in its secret header.
            trust_any_peer: nobody but the gateway can connect, says the operator.
        """
        self._networks = networks(peers)
        self._secret = secret.encode() if secret else None
        self.possible = bool(self._networks or self._secret or trust_any_peer)
        """Whether any request can be believed."""
        self._known: dict[str, bool] = {}

    def allows(self, client: Any, secret: bytes | None) -> bool:
        """Whether the headers of this request are believed.

        Args:
            client: the scope's (host, port), or None.
            secret: the value of the secret header, or None.
        """
        if not self.possible:
            return False
        if self._secret is not None and not hmac.compare_digest(secret or b"", self._secret):
            return False
        return not self._networks or self._is_peer(client)

    def _is_peer(self, client: Any) -> bool:
        if not client or not client[1]:
            return False
        host = str(client[0])
        known = self._known.get(host)
        if known is None:
            known = self._within(host)
            if len(self._known) < _REMEMBERED:
                self._known[host] = known
        return known

    def _within(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
