"""`fleetmeter slo`: status, report and check."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analytics import answers
from analytics.errors import AnalyticsError, DefinitionError, UnreadableError
from collector.options import data_options, open_data

if TYPE_CHECKING:
    from analytics.slo import SloStatus

slos_option = click.option(
    "--slos", "slos_file", type=click.Path(path_type=Path, dir_okay=False),
    help="YAML of SLO definitions.  [default: analytics.slos_file, else the packaged ones]",
)  # fmt: skip


@click.group()
def slo() -> None:
    """SLO status, reports and definition checks."""


@slo.command()
@data_options
@slos_option
@click.option("--model", help="Only this model.")
@answers.now_option
@answers.format_option
@click.pass_context
def status(
    ctx: click.Context,
    db: Path | None,
    url: str | None,
    slos_file: Path | None,
    model: str | None,
    now: datetime,
    output: str,
) -> int:
    """Tell how every SLO stands: budget left, burn rates, time to exhaustion.

    Exit code 1 where a budget is exhausted or burns fast enough to page somebody.
    """
    import polars as pl

    from analytics.slo import burning

    statuses = read_statuses(ctx, db, url, slos_file, model, now)
    states = [state_of(each) for each in statuses]
    frame = pl.DataFrame(
        {
            "slo": [each.slo.name for each in statuses],
            "model": [each.model for each in statuses],
            "objective_ratio": [each.slo.objective_ratio for each in statuses],
            "events_count": [each.events_count for each in statuses],
            "bad_count": [each.bad_count for each in statuses],
            "budget_events": [each.budget_events for each in statuses],
            "budget_left_ratio": [each.budget_left_ratio for each in statuses],
            **{f"burn_{key}": [each.burn_rates[key] for each in statuses] for key in ("5m", "1h", "6h", "3d")},
            "exhausted_in_seconds": [each.exhausted_in_seconds for each in statuses],
            "state": states,
            "alerts": [", ".join(window.name for window in burning(each)) for each in statuses],
        },
        schema_overrides=dict.fromkeys(
            ("budget_left_ratio", "burn_5m", "burn_1h", "burn_6h", "burn_3d", "exhausted_in_seconds"), pl.Float64
        ),
    )
    burns = dict.fromkeys(("burn_5m", "burn_1h", "burn_6h", "burn_3d", "budget_events"), answers.factor)
    shows: dict[str, answers.Show] = {
        **burns,
        "objective_ratio": answers.percent,
        "events_count": answers.count,
        "bad_count": answers.count,
        "budget_left_ratio": answers.percent,
        "exhausted_in_seconds": answers.duration,
    }
    answers.answer(frame, output, shows=shows)
    return int(any(state in ("exhausted", "page") for state in states))


def state_of(status: SloStatus) -> str:
    """Sum a status up in a word: no_data, exhausted, page, ticket or ok; the first that fits."""
    from analytics.slo import burning

    severities = {window.severity for window in burning(status)}
    if status.no_data or status.budget_left_ratio is None:
        return "no_data"
    if status.budget_left_ratio <= 0:
        return "exhausted"
    return next((severity for severity in ("page", "ticket") if severity in severities), "ok")


@slo.command()
@data_options
@slos_option
@click.option("--model", help="Only this model.")
@answers.now_option
@answers.format_option
@click.pass_context
def report(
    ctx: click.Context,
    db: Path | None,
    url: str | None,
    slos_file: Path | None,
    model: str | None,
    now: datetime,
    output: str,
) -> None:
    """Tell day by day how every budget was spent over its window."""
    import polars as pl

    from analytics.slo import budget_history

    statuses = [each for each in read_statuses(ctx, db, url, slos_file, model, now) if not each.no_data]
    with closing(open_data(db, url)) as client:
        days = [
            budget_history(client, now, each, bucket_seconds=86400).select(
                pl.lit(each.slo.name).alias("slo"),
                pl.lit(each.model).alias("model"),
                pl.col("bucket_at").dt.date().alias("day"),
                "events_count",
                "bad_count",
                (pl.col("bad_count") / pl.col("events_count")).alias("bad_ratio"),
                "budget_left_ratio",
            )
            for each in statuses
        ]
    if not days:
        raise AnalyticsError(
            "no SLO has an event in its window; see `fleetmeter slo status`, or look from another --now"
        )
    shows: dict[str, answers.Show] = {
        "events_count": answers.count,
        "bad_count": answers.count,
        "bad_ratio": answers.percent,
        "budget_left_ratio": answers.percent,
    }
    answers.answer(pl.concat(days), output, shows=shows)


@slo.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@answers.format_option
def check(file: Path, output: str) -> int:
    """Check a YAML of SLO definitions, and list what it promises.

    Exit code 1 where a definition can't hold, 2 where the file can't be read.
    """
    import polars as pl

    from analytics.slo import load_definitions

    if not file.is_file():
        raise UnreadableError(f"no SLO definitions at {file}; name an existing YAML file")
    try:
        definitions = load_definitions(file)
    except UnreadableError:
        raise
    except DefinitionError as error:
        click.echo(f"error: {error}", err=True)
        return 1
    frame = pl.DataFrame(
        [
            {
                "slo": each.name,
                "sli": each.sli,
                "model": each.model,
                "team": each.team,
                "threshold_seconds": each.threshold_seconds,
                "objective_ratio": each.objective_ratio,
                "window_days": each.window_days,
                "title": each.title,
            }
            for each in definitions
        ],
        infer_schema_length=None,
    )
    answers.answer(frame, output, shows={"objective_ratio": answers.percent})
    return 0


def read_statuses(
    ctx: click.Context, db: Path | None, url: str | None, slos_file: Path | None, model: str | None, now: datetime
) -> list[SloStatus]:
    """Measure all SLOs, of one model where one is given.

    Raises:
        AnalyticsError: no status is left to tell.
    """
    from analytics.slo import load_definitions, slo_statuses

    config = ctx.obj.section("analytics", slos_file=slos_file)
    definitions = load_definitions(config.slos_file)
    with closing(open_data(db, url)) as client:
        statuses = slo_statuses(client, now, definitions)
        chosen = [each for each in statuses if model in (None, each.model)]
        if not chosen:
            what = f"of model {model} " if model else ""
            before = f"before {now:%Y-%m-%d %H:%M} UTC"
            raise AnalyticsError(f"no request {what}in the window {before}; {answers.elsewhen(client)}")
    return chosen
