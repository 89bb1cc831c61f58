"""The ports of a whole stack, and whether they are free."""

from __future__ import annotations

import socket
from dataclasses import dataclass, fields

from stack.errors import ConfigurationError


@dataclass(frozen=True)
class Ports:
    """One port a door; the defaults are the documented ones."""

    otlp_http: int = 4318
    otlp_grpc: int = 4317
    api: int = 8320
    dashboards: int = 8501
    alerts: int = 8330
    webhook: int = 8340

    @classmethod
    def counted_from(cls, first: int) -> Ports:
        """Six ports in a row, in the order of the fields."""
        if not 1024 <= first <= 65535 - len(fields(cls)):
            raise ConfigurationError(f"--ports-from {first}: take a number from 1024 to {65535 - len(fields(cls))}")
        return cls(*range(first, first + len(fields(cls))))


def require_free(ports: Ports, *, host: str = "127.0.0.1", advice: str) -> None:
    """Check that nobody listens on any of the ports.

    Raises:
        ConfigurationError: naming every port that is taken, with the advice.
    """
    if taken := taken_of(ports, host=host):
        raise ConfigurationError(f"port in use: {', '.join(taken)}; {advice}")


def taken_of(ports: Ports, *, host: str = "127.0.0.1") -> list[str]:
    """Name every door whose port can't be bound now, with its number."""
    numbers = {door.name.replace("_", " "): getattr(ports, door.name) for door in fields(ports)}
    return [f"{name} {number}" for name, number in numbers.items() if is_taken(host, number)]


def is_taken(host: str, port: int) -> bool:
    """Whether the port can't be bound now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
