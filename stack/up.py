"""`fleetmeter up`: the collector, the alert evaluator and the dashboards under one supervisor, from one YAML."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stack.interrupts import interruptible
from stack.supervisor import Part, Supervisor

if TYPE_CHECKING:
    from stack.settings import Settings


def parts(settings: Settings) -> list[Part]:
    """The parts of a whole stack, in the order in which they start."""
    configured = ("--config", str(settings.file)) if settings.file else ()
    collector, alerts, dashboards = (settings.section(name) for name in ("collector", "alerts", "dashboards"))
    return [
        Part("collector", ("collect", *configured), f"http://{collector.host}:{collector.api_port}/readyz"),
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
        130: it ends by an interruption.

    Raises:
        ConfigurationError: a part can't be started as configured.
    """
    folder = Path(settings.section("collector").data_dir)
    supervisor = Supervisor(folder / "logs", tell)
    with interruptible():
        try:
            for part in parts(settings):
                supervisor.start(part)
                supervisor.wait_ready(part)
                tell(f"{part.name} is ready: {(part.ready_url or '').rsplit('/', 1)[0]}")
            tell(f"logs: {supervisor.log_folder}; Ctrl-C ends everything")
            while True:
                supervisor.tend()
                time.sleep(0.5)
        except KeyboardInterrupt:
            tell("ending …")
            return 130
        finally:
            supervisor.stop()
