"""`fleetmeter cost`: the table of its commands. Each is imported when it runs; add one by a file and a line here."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any

import click

# command -> (module:object, one line of help shown without importing the module)
COMMANDS: dict[str, tuple[str, str]] = {
    "report": ("analytics.cost_commands.report:report", "Tell what every team's tokens cost."),
    "explain": (
        "analytics.cost_commands.explain:explain",
        "Open a figure down to its requests, prices and arithmetic.",
    ),
    "energy": ("analytics.cost_commands.energy:energy", "Tell the energy and carbon behind the tokens."),
    "focus": ("analytics.cost_commands.focus:focus", "Write the chargeback as FOCUS rows; check such files."),
    "statement": ("analytics.cost_commands.statement:statement", "Write a team's statement, to print or to load."),
    "whatif": ("analytics.cost_commands.whatif:whatif", "Tell what the bill would have been otherwise."),
    "units": ("analytics.cost_commands.units:units", "Tell what tokens and good requests cost, and the coverage."),
    "change": ("analytics.cost_commands.change:change", "Tell why the bill of a month is not that of another."),
    "close": ("analytics.cost_commands.close:close", "Freeze a month in the ledger, or correct it."),
    "verify": ("analytics.cost_commands.verify:verify", "Check that the ledger is as it was written."),
    "rates": ("analytics.cost_commands.rates:rates", "Prices of GPUs, and what APIs list for tokens."),
    "budget": ("analytics.cost_commands.budget:budget", "Budgets of teams, apps and models."),
    "invoice": ("analytics.cost_commands.invoice:invoice", "Bills that providers sent."),
    "load": ("analytics.cost_commands.load:load", "Load inventory, prices, invoices or budgets from a CSV."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, never for `--help`.

    Args:
        table: command -> (module:object, its line of help).
    """

    def __init__(self, *args: Any, table: dict[str, tuple[str, str]] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self.table = table or {}
        self.on_import: Callable[[click.Command], None] = lambda command: None
        """Called with each command after its import, e.g. to give it an option that all commands have."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        self.on_import(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; name the nearest one where there is no such."""
        if args and args[0] not in self.table and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.table, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(self.table)}"
            ctx.fail(f"No such command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List every command with its line of help, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in self.table.items()])


@click.group(cls=LazyGroup, table=COMMANDS)
def cost() -> None:
    """What every team's tokens cost, out of the real GPU bill, to the last unit."""
