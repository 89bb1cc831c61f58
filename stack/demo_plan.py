"""What the demo is made of: its options, its folder, the configuration it writes and the parts it starts."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alerts.sinks.signatures import write_secret
from stack.errors import ConfigurationError
from stack.ports import Ports
from stack.supervisor import Part

MARKER = "made-by-fleetmeter-demo"


@dataclass(frozen=True)
class DemoConfig:
    """What the demo shall do."""

    days: int
    seed: int
    ports: Ports
    data_dir: Path
    browser: bool

    @property
    def file(self) -> Path:
        """The configuration that the demo writes and its parts read."""
        return self.data_dir / "fleetmeter.yaml"

    @property
    def api_url(self) -> str:
        """The collector's address."""
        return f"http://127.0.0.1:{self.ports.api}"

    @property
    def otlp_url(self) -> str:
        """The collector's OTLP/HTTP address."""
        return f"http://127.0.0.1:{self.ports.otlp_http}"

    @property
    def board_url(self) -> str:
        """The dashboards' address."""
        return f"http://127.0.0.1:{self.ports.dashboards}"

    @property
    def alerts_state(self) -> Path:
        """The alert evaluator's state."""
        return self.data_dir / "alerts" / "state.sqlite"

    @property
    def alerts_url(self) -> str:
        """The alert evaluator's address."""
        return f"http://127.0.0.1:{self.ports.alerts}"


def prepare(config: DemoConfig) -> None:
    """Empty the demo's folder and write its configuration.

    Raises:
        ConfigurationError: the folder holds something that no demo made.
    """
    folder = config.data_dir
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise ConfigurationError(f"{folder} is not empty and no demo made it; name another folder with --data-dir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    (folder / "webhook.secret").write_text(write_secret(secrets.token_bytes(32)))
    config.file.write_text("# Written by `fleetmeter demo`.\n" + yaml.safe_dump(sections(config), sort_keys=False))


def sections(config: DemoConfig) -> dict[str, dict[str, Any]]:
    """The demo's configuration, as a user would write it."""
    ports = config.ports
    return {
        "collector": {
            "data_dir": str(config.data_dir / "collector"),
            "api_port": ports.api,
            "otlp_http_port": ports.otlp_http,
            "otlp_grpc_port": ports.otlp_grpc,
        },
        "alerts": {
            "collector_url": config.api_url,
            "state_dir": str(config.data_dir / "alerts"),
            "port": ports.alerts,
            "dashboards_url": config.board_url,
            "receivers": [
                {
                    "name": "local-webhook",
                    "kind": "webhook",
                    "url": f"http://127.0.0.1:{ports.webhook}/",
                    "secret_file": str(config.data_dir / "webhook.secret"),
                }
            ],
        },
        "dashboards": {
            "collector_url": config.api_url,
            "alerts_url": config.alerts_url,
            "port": ports.dashboards,
        },
    }


def parts(config: DemoConfig) -> dict[str, Part]:
    """The parts, by name, in the order in which they start."""
    configured = ("--config", str(config.file))
    secret = ("--secret-file", str(config.data_dir / "webhook.secret"))
    receiver = f"http://127.0.0.1:{config.ports.webhook}/healthz"
    listed = (
        Part("collector", ("collect", *configured), f"{config.api_url}/readyz"),
        Part("webhook", ("alert", "receive", "--port", str(config.ports.webhook), *secret), receiver, visible=True),
        Part("dashboards", ("dash", "--headless", *configured), f"{config.board_url}/_stcore/health"),
        Part("alerts", ("alert", "run", *configured), f"{config.alerts_url}/healthz"),
    )
    return {part.name: part for part in listed}
