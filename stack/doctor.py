"""Checks an installation the way a support engineer would: names, versions, ports, disk, database, engine plugin."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stack.errors import ConfigurationError
from stack.ports import Ports, is_taken

if TYPE_CHECKING:
    from stack.settings import Settings

IMPORT_NAMES = ("fleetmeter", "engine_exporter", "collector", "analytics", "alerts", "dashboards", "stack")
PARTS = {
    "collector": ("duckdb", "pyarrow", "fastapi", "grpc", "uvicorn"),
    "analytics": ("polars", "numpy", "scipy", "sklearn", "numba"),
    "dashboards": ("streamlit",),
    "exporter": ("opentelemetry.sdk", "prometheus_client"),
}
LOW_DISK_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    verdict: Literal["ok", "warn", "fail"]
    subject: str
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; a check that can't be made is a finding, never an exception."""
    return [
        Finding("ok", "python", sys.version.split()[0]),
        *import_names(metadata.packages_distributions()),
        *dependencies(),
        *configuration(settings),
        engine_plugin(),
    ]


def import_names(owners: dict[str, list[str]] | object) -> Iterator[Finding]:
    """Each import name must be owned by this distribution alone: another one could shadow it."""
    table = owners if isinstance(owners, dict) else dict(owners)  # type: ignore[call-overload]
    for name in IMPORT_NAMES:
        others = sorted(set(table.get(name, ())) - {"fleetmeter"})
        if others:
            yield Finding(
                "fail",
                f"import {name}",
                f"also owned by {', '.join(others)}; uninstall that, or use an environment of its own",
            )
        else:
            yield Finding("ok", f"import {name}", "owned by fleetmeter alone")


def dependencies() -> Iterator[Finding]:
    """Say which parts can run here; a part that is not installed is no fault."""
    for part, modules in PARTS.items():
        missing = [module for module in modules if not installed(module)]
        if missing:
            yield Finding("warn", f"[{part}]", f"not installed: {', '.join(missing)}; pip install 'fleetmeter[{part}]'")
        else:
            yield Finding("ok", f"[{part}]", "installed")


def installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def configuration(settings: Settings) -> Iterator[Finding]:
    """The configuration is valid, its folder writable, its disk not full, its ports free or ours."""
    try:
        collector = settings.section("collector")
    except ConfigurationError as error:
        yield Finding("fail", "configuration", str(error))
        return
    yield Finding("ok", "configuration", str(settings.file or "defaults"))
    yield disk(Path(collector.data_dir))
    for door in fields(Ports):
        port = {
            "api": collector.api_port,
            "otlp_http": collector.otlp_http_port,
            "otlp_grpc": collector.otlp_grpc_port,
        }.get(door.name, getattr(Ports(), door.name))
        taken = is_taken(collector.host, port)
        yield Finding(
            "warn" if taken else "ok",
            f"port {port}",
            f"{door.name.replace('_', ' ')}: {'in use' if taken else 'free'}",
        )


def disk(folder: Path) -> Finding:
    """The data folder can be written, and has room."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < LOW_DISK_BYTES:
        return Finding(
            "fail",
            "disk",
            f"{free_bytes / 2**30:.1f} GiB free at {folder}; make room or set collector.data_dir",
        )
    return Finding("ok", "disk", f"{free_bytes / 2**30:.0f} GiB free at {folder}")


def engine_plugin() -> Finding:
    """vLLM finds the stat-logger plugin by its entry point."""
    found = [
        point.name for point in metadata.entry_points(group="vllm.stat_logger_plugins") if point.name == "fleetmeter"
    ]
    if not found:
        return Finding("fail", "vLLM plugin", "the entry point is not registered; reinstall fleetmeter")
    here = "vLLM is installed here" if installed("vllm") else "vLLM is not installed in this environment"
    return Finding("ok", "vLLM plugin", f"registered; {here}")
