"""`fleetmeter drift`: scan and compare."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from analytics import answers
from analytics.errors import AnalyticsError
from collector.options import data_options, open_data

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

window_option = click.option(
    "--window-hours", type=click.FloatRange(0, 24, min_open=True),
    help="Length of the window that ends at --now.  [default: analytics.drift.window_hours]",
)  # fmt: skip


@click.group()
def drift() -> None:
    """Find what shifted against a stream's own past."""


@drift.command()
@data_options
@window_option
@click.option("--model", help="Only this model (significance still counts all streams).")
@click.option("--drifted-only", is_flag=True, help="Leave out what is usual or can't be judged.")
@answers.now_option
@answers.format_option
@click.pass_context
def scan(
    ctx: click.Context,
    db: Path | None,
    url: str | None,
    window_hours: float | None,
    model: str | None,
    drifted_only: bool,
    now: datetime,
    output: str,
) -> int:
    """Compare every stream with the same hours of its own earlier days. Exit code 1 where one drifted."""
    import polars as pl

    from analytics.drift import drift_scan

    config = ctx.obj.section("analytics").drift
    with closing(open_data(db, url)) as client:
        frame = drift_scan(client, now, window_hours=window_hours, config=config)
        if frame.is_empty():
            before = f"in the {config.history_days} days before {now:%Y-%m-%d %H:%M} UTC"
            raise AnalyticsError(f"no request {before}; {answers.elsewhen(client)}")
    if model is not None:
        frame = frame.filter(pl.col("model") == model)
    drifted = int(frame["drifted"].sum())
    judged = frame.height - frame["drifted"].null_count()
    click.echo(f"{drifted} of {judged} judged streams drifted; {frame.height - judged} could not be judged", err=True)
    if drifted_only:
        frame = frame.filter(pl.col("drifted"))
    figures = ("current_median", "reference_median", "statistic", "effect_threshold", "p_value", "q_value")
    shows: dict[str, answers.Show] = dict.fromkeys(figures, answers.factor)
    shows |= {"current_count": answers.count, "reference_count": answers.count}
    answers.answer(frame, output, shows=shows)
    return int(drifted > 0)


@drift.command()
@data_options
@window_option
@click.option("--model", required=True, help="The model of the stream.")
@click.option("--team", help="The team of the stream.  [default: all teams together]")
@click.option(
    "--metric", type=click.Choice(["input_tokens", "output_tokens", "cached_ratio", "ttft_seconds"]),
    default="input_tokens", show_default=True, help="What is compared.",
)  # fmt: skip
@answers.now_option
@answers.format_option
@click.pass_context
def compare(
    ctx: click.Context,
    db: Path | None,
    url: str | None,
    window_hours: float | None,
    model: str,
    team: str | None,
    metric: str,
    now: datetime,
    output: str,
) -> int:
    """Lay one stream's window beside its own past, quantile by quantile. Exit code 1 where it drifted."""
    import polars as pl

    from analytics.drift import drift_samples, drift_scan

    config = ctx.obj.section("analytics").drift
    with closing(open_data(db, url)) as client:
        found = drift_scan(client, now, window_hours=window_hours, config=config).filter(
            pl.col("model") == model, pl.col("team").eq_missing(pl.lit(team)), pl.col("metric") == metric
        )
        if found.is_empty():
            whose = f" of team {team}" if team else ""
            raise AnalyticsError(f"no request to model {model}{whose} in the history; see `fleetmeter drift scan`")
        current, reference = drift_samples(
            client, now, model, team, metric, window_hours=window_hours, config=config  # type: ignore[arg-type]
        )  # fmt: skip
    frame = pl.DataFrame(
        {
            "quantile": LEVELS,
            "reference": [reference.quantile(level, "linear") for level in LEVELS],
            "current": [current.quantile(level, "linear") for level in LEVELS],
        },
        schema={"quantile": pl.Float64, "reference": pl.Float64, "current": pl.Float64},
    ).with_columns(change_ratio=pl.when(pl.col("reference") > 0).then(pl.col("current") / pl.col("reference") - 1))
    row = found.row(0, named=True)
    click.echo(f"{'drifted: ' if row['drifted'] else ''}{row['reason']}", err=True)
    answers.answer(
        frame,
        output,
        shows={"reference": answers.factor, "current": answers.factor, "change_ratio": answers.percent},
    )
    return int(bool(row["drifted"]))
