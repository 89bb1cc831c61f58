"""`fleetmeter up`: the collector, the alert evaluator and the dashboards under one supervisor, from one YAML."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stack.errors import ConfigurationError
from stack.interrupts import exit_code, ignore_interrupts, interruptible
from stack.ports import is_taken
from stack.supervisor import Part, Supervisor

if TYPE_CHECKING:
    from stack.settings import Settings


def parts(settings: Settings) -> list[Part]:
    """The parts of a whole stack, in the order in which they start."""
    configured = ("--config", str(settings.file)) if settings.file else ()
    collector, alerts, dashboards = (settings.section(name) for name in ("collector", "alerts", "dashboards"))
    scheme = "https" if collector.tls_cert_file else "http"
    return [
        Part("collector", ("collect", *configured), f"{scheme}://{collector.host}:{collector.api_port}/readyz"),
        Part("alerts", ("alert", "run", *configured), f"http://{alerts.host}:{alerts.port}/healthz"),
        Part(
            "dashboards",
            ("dash", "--headless", *configured),
            f"http://{dashboards.host}:{dashboards.port}/_stcore/health",
        ),
    ]


def run_stack(settings: Settings, tell: Callable[[str], None]) -> int:
    """Start all parts, tend them until interrupted, end them.

    Returns:
        The exit code: it ends by an interruption, 0 by SIGTERM, 130 by Ctrl-C.

    Raises:
        ConfigurationError: a port is taken, or a part can't be started as configured.
    """
    require_own_ports(settings)
    folder = Path(settings.section("collector").data_dir)
    supervisor = Supervisor(folder / "logs", tell)
    with interruptible():
        try:
            for part in parts(settings):
                supervisor.start(part)
                supervisor.wait_ready(part)
                tell(f"{part.name} is ready: {address(part)}")
            tell(f"logs: {supervisor.log_folder}; Ctrl-C ends everything")
            while True:
                supervisor.tend()
                time.sleep(0.5)
        except KeyboardInterrupt as interruption:
            tell("ending …")
            return exit_code(interruption)
        finally:
            ignore_interrupts()
            supervisor.stop()


def address(part: Part) -> str:
    """Where people reach a part."""
    scheme, _, rest = (part.ready_url or "").partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def require_own_ports(settings: Settings) -> None:
    """Check that every port is free: another stack that answers there would pass for this one.

    Raises:
        ConfigurationError: naming the key of every port that is taken.
    """
    keys = {
        "collector": ("api_port", "otlp_http_port", "otlp_grpc_port"),
        "alerts": ("port",),
        "dashboards": ("port",),
    }
    taken = []
    for name, ports in keys.items():
        section = settings.section(name)
        for key in ports:
            if is_taken(section.host, number := getattr(section, key)):
                taken.append(f"{section.host}:{number} ({name}.{key})")
    if taken:
        raise ConfigurationError(
            f"can't listen on {', '.join(taken)}; end what listens there, or set another port in the configuration"
        )
