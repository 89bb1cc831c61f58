"""Targets behind DNS names: A, AAAA and SRV."""

from __future__ import annotations

from dataclasses import dataclass

from collector.addresses import bracketed
from collector.errors import RetryableError
from collector.scrape_config import DnsTargets
from collector.targets import Found

LOOK_UP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TargetNames:
    """One name that is looked up."""

    config: DnsTargets

    async def find(self) -> list[Found]:
        """Return what the name leads to now; none where it does not exist.

        Raises:
            RetryableError: no name server answers.
        """
        import dns.asyncresolver
        import dns.exception
        import dns.resolver

        resolver = dns.asyncresolver.Resolver(configure=self.config.server is None)
        if self.config.server is not None:
            host, _, port = self.config.server.rpartition(":")
            resolver.nameservers, resolver.port = [host], int(port)
        try:
            answer = await resolver.resolve(self.config.name, self.config.type, lifetime=LOOK_UP_SECONDS)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as error:
            raise RetryableError(f"{self.config.name} can't be looked up: {error}") from error
        return sorted((self._found(record) for record in answer), key=lambda one: one.address)

    def _found(self, record: object) -> Found:
        if self.config.type == "SRV":
            host, port = str(record.target).rstrip("."), int(record.port)  # type: ignore[attr-defined]
        else:
            host, port = str(record), self.config.port or 0
        return Found(f"{bracketed(host)}:{port}")
