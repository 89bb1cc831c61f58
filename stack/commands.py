"""The commands that see the whole stack: demo, up, config, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from stack.settings import Settings


def tell(message: str = "") -> None:
    """Narrate on stderr."""
    click.echo(message, err=True)


@click.command()
@click.option("--days", type=click.IntRange(1, 60), default=14, show_default=True, help="How much past to simulate.")
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed is another fleet.")
@click.option("--ports-from", type=int, metavar="N", help="Use N, N+1 … in place of the documented ports.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/demo"),
    show_default=True,
    help="Where the demo lives; what an earlier demo left there is removed.",
)
@click.option("--no-browser", is_flag=True, help="Don't open the board in a browser.")
@click.option("--once", is_flag=True, help="Load, evaluate the rules once, print a summary as JSON, end.")
def demo(days: int, seed: int, ports_from: int | None, data_dir: Path, no_browser: bool, once: bool) -> int:
    """Start everything on sample input and print the addresses.

    Replays a recording of a real vLLM server and a simulated fleet with seeded incidents up to now, evaluates the alert
    rules, delivers what fires to a local webhook receiver and keeps the fleet live until Ctrl-C.
    """
    from stack.demo import Demo
    from stack.demo_plan import DemoConfig
    from stack.ports import Ports

    ports = Ports() if ports_from is None else Ports.counted_from(ports_from)
    return Demo(DemoConfig(days, seed, ports, data_dir, browser=not (no_browser or once)), tell).run(once=once)


@click.command()
@click.pass_context
def up(ctx: click.Context) -> int:
    """Run collector, alerts and dashboards under one supervisor, from one YAML."""
    from stack.up import run_stack

    return run_stack(ctx.obj, tell)


@click.group()
def config() -> None:
    """Check, show or describe the configuration."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_context
def check(ctx: click.Context, file: Path | None) -> None:
    """Validate a configuration and tell every problem at once."""
    from stack.settings import load

    origin = file or ctx.obj.file
    load(origin)
    click.echo(f"{origin or 'the default configuration'}: ok")


@config.command()
@click.pass_context
def show(ctx: click.Context) -> None:
    """Print the configuration in force, defaults and environment included, as YAML."""
    import yaml

    settings: Settings = ctx.obj
    click.echo(yaml.safe_dump(settings.whole().model_dump(mode="json"), sort_keys=False), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON schema of the configuration, for an editor."""
    import json

    from stack.settings import SECTIONS, section_model

    sections: dict[str, Any] = {name: section_model(name).model_json_schema() for name in SECTIONS}
    click.echo(json.dumps({"type": "object", "properties": sections, "additionalProperties": False}, indent=2))


@click.command()
@click.pass_context
def doctor(ctx: click.Context) -> int:
    """Check this installation; exit code 1 where something is wrong."""
    from stack.doctor import examine

    findings = examine(ctx.obj)
    for finding in findings:
        click.echo(f"{finding.verdict:<5} {finding.subject:<24} {finding.detail}")
    return int(any(finding.verdict == "fail" for finding in findings))
