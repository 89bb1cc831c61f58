"""docs/commands.md, from the help of every command."""

from collections.abc import Iterator

import click

import fleetmeter
from tests.contracts.describe import markdown

WIDTH = 100

INTRODUCTION = """\
stdout is data, stderr is narration and progress. Exit codes: 0 ok, 1 a finding (a breach, drift, a failed check, rows
that could not be read), 2 usage or configuration, 3 unreachable (a retry may help), 130 interrupted. SIGTERM ends
a server with 0.

Commands that read take `--db FILE` (a DuckDB file, with no collector running on it) or `--url ADDRESS` (a collector;
`FLEETMETER_URL` and `FLEETMETER_DB` do the same); without either they ask the collector that the configuration
describes. A collector with a tokens file wants its bearer token in `FLEETMETER_TOKEN`. Every command takes
`--config FILE`."""


def page() -> str:
    return markdown.page("Commands", INTRODUCTION, *(describe(path, help_text) for path, help_text, _ in walk()))


def walk() -> Iterator[tuple[str, str, click.Command]]:
    """Go through the command tree: path, help and command of each."""
    form = {"terminal_width": WIDTH, "max_content_width": WIDTH, "color": False}
    root = click.Context(fleetmeter.cli, info_name="fleetmeter", **form, **fleetmeter.cli.context_settings)
    yield from below(root, fleetmeter.cli)


def below(context: click.Context, command: click.Command) -> Iterator[tuple[str, str, click.Command]]:
    yield context.command_path, command.get_help(context), command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from below(click.Context(child, parent=context, info_name=name, color=False), child)


def describe(path: str, help_text: str) -> str:
    return f"{'#' * (1 + min(len(path.split()), 3))} {path}\n\n```text\n{help_text}\n```"
