"""fleetmeter: the version and the command tree. Commands load their package only when they run."""

from __future__ import annotations

import difflib
import importlib
import signal
import sys
from importlib import metadata
from typing import Any

import click

# command -> (module:object, one line of help shown without importing the module)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("stack.commands:demo", "Start everything on sample input and print the addresses."),
    "up": ("stack.commands:up", "Run collector, alerts and dashboards under one supervisor."),
    "collect": ("collector.commands:collect", "Run the collector alone."),
    "import": ("collector.commands:import_", "Load public traces or your own request logs."),
    "query": ("collector.commands:query", "Run read-only SQL."),
    "store": ("collector.commands:store", "Verify, back up, restore and compact the collector's data."),
    "export": ("engine_exporter.commands:export", "Run the sidecar exporter beside an engine."),
    "catalog": ("engine_exporter.commands:catalog", "Check which metric names a live engine serves."),
    "simulate": ("analytics.simulator.command:simulate", "Simulate a fleet, with its ground truth."),
    "slo": ("analytics.commands:slo", "SLO status, reports and definition checks."),
    "cost": ("analytics.commands:cost", "Cost per team out of the GPU bill."),
    "drift": ("analytics.commands:drift", "Find what shifted against a stream's own past."),
    "alert": ("alerts.commands:alert", "Evaluate rules and page people."),
    "dash": ("dashboards.commands:dash", "Run the dashboards alone."),
    "config": ("stack.commands:config", "Check, show or describe the configuration."),
    "doctor": ("stack.commands:doctor", "Check this installation."),
}


def __getattr__(name: str) -> str:
    if name == "__version__":
        return metadata.version("fleetmeter")
    raise AttributeError(name)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, never for `--help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command, and give it and its subcommands `--config`."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        add_config_option(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; name the nearest one where there is no such."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(COMMANDS)}"
            ctx.fail(f"No such command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List every command with its line of help, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


def add_config_option(command: click.Command) -> None:
    """Let every command read the one YAML: `--config FILE`, kept on the root context for all parts."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            add_config_option(child)
        if hasattr(command, "on_import"):  # a lazy group: each of its commands, once it is imported
            command.on_import = add_config_option
    runs = not isinstance(command, click.Group) or command.invoke_without_command
    if runs and not any(parameter.name == "config_file" for parameter in command.params):
        command.params.append(
            click.Option(
                ["--config", "config_file"],
                type=click.Path(dir_okay=False),
                envvar="FLEETMETER_CONFIG",
                expose_value=False,
                is_eager=True,
                callback=lambda ctx, _, value: setattr(ctx.find_root().obj, "file", value or ctx.find_root().obj.file),
                help="The configuration, one YAML for all parts.",
            )
        )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fleetmeter")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Observability and cost analytics for inference fleets."""
    from stack.settings import Settings

    ctx.obj = Settings()


def main(arguments: list[str] | None = None) -> None:
    """Run one command. Exit codes: 0 ok, 1 a finding, 2 usage or configuration, 3 unreachable, 130 interrupted."""
    code = run(cli, arguments)
    if code == 130:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C while it ends would print a traceback
    sys.exit(code)


def run(command: click.Command, arguments: list[str] | None = None, **context: Any) -> int:
    """Run a command and turn every error of the product into one clear line and its exit code."""
    try:
        result = command.main(arguments, prog_name="fleetmeter", standalone_mode=False, **context)
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        if (code := getattr(error, "exit_code", None)) is None:
            raise
        click.echo(f"error: {error}", err=True)
        return int(code)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    main()
