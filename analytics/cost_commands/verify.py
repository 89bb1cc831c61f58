"""`fleetmeter cost verify`."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import click

from analytics import answers
from collector.options import data_options, open_data


@click.command()
@data_options
@click.option("--head", help="A hash written down earlier; the ledger must still have the close that it is of.")
@answers.format_option
def verify(db: Path | None, url: str | None, head: str | None, output: str) -> int:
    """Check that the ledger is as it was written: every hash, every sum.

    Lists the closes with their hashes. Keep the last one where the ledger can't reach it; `--head` proves later that
    nothing up to it was changed or cut off. Exit code 1 where something is not as it was written.
    """
    import polars as pl

    from analytics.ledger_reading import closes_of
    from analytics.ledger_reading import verify as verify_ledger

    with closing(open_data(db, url)) as client:
        closes = closes_of(client)
        found = [str(fault) for fault in verify_ledger(client)]
    if head is not None and not any(close["close_hash"].startswith(head.rstrip("…")) for close in closes):
        found.append(f"no close has the hash {head}: the ledger was changed or cut off since it was written down")
    rows = [
        {
            "close": close["close_number"],
            "kind": close["kind"],
            "from": close["start_day"],
            "to": close["end_day"] - timedelta(days=1),
            "closed_at": close["closed_at"],
            "bill_units": close["bill_units"],
            "changed_units": close["amount_units"],
            "currency": close["currency"],
            "method": close["method"],
            "code_version": close["code_version"],
            "hash": close["close_hash"],
        }
        for close in closes
    ]
    if not rows:
        click.echo("nothing is closed yet (fleetmeter cost close --month …)", err=True)
        return int(bool(found))
    shows: dict[str, answers.Show] = {
        **dict.fromkeys(("bill_units", "changed_units"), answers.money),
        "closed_at": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}",
    }
    answers.answer(pl.DataFrame(rows), output, shows=shows)
    for line in found:
        click.echo(line, err=True)
    if not found:
        click.echo(
            f"all {len(rows)} closes are as they were written" if len(rows) > 1 else "as it was written", err=True
        )
    return int(bool(found))
