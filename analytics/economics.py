"""Unit economics: what a token, a good request and a GPU-second cost, and how much of the bill is attributed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from analytics.bill_sources import read_inventory
from analytics.ledger import midnight
from analytics.replica_intervals import MICROSECOND
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from analytics.ledger import CostReport
    from analytics.slo_definitions import SloDefinition
    from collector.client import Client

COVERAGE_TARGET = 0.98
"""Share of the busy bill and of requests that should have a team: below it, an API-key map or a header is missing."""
USED = ("request", "wasted")


def gpu_types(client: Client, report: CostReport) -> pl.DataFrame:
    """The GPU type of each replica in the range (the last one, where it changed): replica, gpu_type."""
    import polars as pl

    there = read_inventory(client, midnight(report.start_day), midnight(report.end_day))
    last = {interval.replica: interval.gpu_type for interval in there}
    return pl.DataFrame(list(last.items()), {"replica": pl.String, "gpu_type": pl.String}, orient="row")


def token_costs(client: Client, report: CostReport, by: str = "model") -> pl.DataFrame:
    """What a million tokens of each kind cost.

    A token of a prompt that was computed, one read from the prefix cache, and one generated, each by the part of the
    bill that the method gave to it. Idle, faults and cold starts are not in it.

    Args:
        client: where the inventory is.
        report: any report, with or without an idle policy.
        by: model, team, app, replica or gpu_type.

    Returns:
        One row per value of `by` with requests: requests_count, input_tokens (computed), cached_tokens, output_tokens;
        input_units, cached_units, output_units; usd_per_million_input_tokens, usd_per_million_cached_tokens,
        usd_per_million_output_tokens, usd_per_million_tokens (all three; in the bill's currency; null without tokens);
        saved_units: what the cached tokens would have cost beyond that at the hour's price of a computed one.
    """
    import polars as pl

    entries = report.entries
    if by == "gpu_type":
        entries = entries.join(gpu_types(client, report), on="replica", how="left")
    units, tokens = ("input_units", "cached_units", "output_units"), ("input_tokens", "cached_tokens", "output_tokens")
    sums = (
        entries.filter(pl.col("method").is_not_null())
        .group_by(by)
        .agg(pl.col("requests_count", *tokens, *units, "saved_units").sum())
        .with_columns(input_tokens=pl.col("input_tokens") - pl.min_horizontal("cached_tokens", "input_tokens"))
    )

    def price(cost: pl.Expr, count: pl.Expr) -> pl.Expr:
        """Units of 1e-9 over tokens, as currency per million."""
        return pl.when(count > 0).then(cost / count / 1000)

    prices = {
        f"usd_per_million_{name}": price(pl.col(unit), pl.col(name)) for unit, name in zip(units, tokens, strict=True)
    }
    everything = price(pl.sum_horizontal(units), pl.sum_horizontal(tokens))
    return sums.with_columns(**prices, usd_per_million_tokens=everything).sort(by)


def cache_savings(report: CostReport) -> pl.DataFrame:
    """What the prefix cache saved each team: no part of the bill, a line of its own.

    A cached token is charged what it cost; computed, it would have cost what a computed prompt token did in that hour
    on that replica. Who warmed the prefix is in no row of `requests`, so it is not told.

    Returns:
        One row per team with cached tokens, the largest saving first: team, cached_tokens, cached_units, saved_units.
    """
    import polars as pl

    return (
        report.entries.filter(pl.col("cached_tokens") > 0)
        .group_by("team")
        .agg(pl.col("cached_tokens", "cached_units", "saved_units").sum())
        .sort(-pl.col("saved_units"), "team")
    )


class Limit(NamedTuple):
    """A latency that was promised."""

    sli: str
    """ttft, tpot or e2e."""
    seconds: float
    """The most that it may be. Unit: s."""
    model: str | None = None
    """The one model that it is for; None is any."""
    team: str | None = None
    """The one team that it is for; None is any."""


def limits_of(definitions: Sequence[SloDefinition], **instead: float | None) -> list[Limit]:
    """Take the latencies out of SLO definitions; those of an SLI in `instead` (ttft=2.0) give way to that one."""
    given = {sli: seconds for sli, seconds in instead.items() if seconds is not None}
    promised = [
        Limit(slo.sli, slo.threshold_seconds, slo.model, slo.team)
        for slo in definitions
        if slo.threshold_seconds is not None and slo.sli not in given
    ]
    return [*promised, *(Limit(sli, seconds) for sli, seconds in given.items())]


def good_request_costs(
    client: Client, report: CostReport, limits: Sequence[Limit], *, known_at: datetime | None = None
) -> pl.DataFrame:
    """What a request cost that met its objective; one that was abandoned, rejected or failed met none.

    Args:
        client: where the requests are.
        report: any report.
        limits: the latencies that were promised; one that was not measured breaks none, and of several that apply to
            a request the least holds.
        known_at: only requests received by then; None is all. Naive UTC.

    Returns:
        One row per team: requests_count, good_count, amount_units (of all its requests, the bad ones too),
        units_per_good_request (null without one).
    """
    import polars as pl

    counts = ask(
        client, "cost_good_team", start=report.start_day, end=report.end_day, known_at=known_at,
        slis=[limit.sli for limit in limits], models=[limit.model for limit in limits],
        teams=[limit.team for limit in limits], seconds=[limit.seconds for limit in limits],
    )  # fmt: skip
    used = report.entries.filter(pl.col("method").is_not_null() | (pl.col("bucket") == "idle_share"))
    amounts = used.group_by("team").agg(pl.col("amount_units").sum())
    return counts.join(amounts, on="team", how="left", nulls_equal=True).with_columns(
        pl.col("amount_units").fill_null(0),
        units_per_good_request=pl.when(pl.col("good_count") > 0).then(
            pl.col("amount_units").fill_null(0) // pl.col("good_count")
        ),
    )


def coverage(report: CostReport) -> dict[str, float | None]:
    """How much of a report is attributed, and how it was spent; None where there is nothing to be a share of.

    Returns:
        bill_ratio: share of the bill that teams bear; busy_ratio: the same of the bill without idle, cold starts and
        faults; requests_ratio: share of requests with a team; idle_ratio: share of the bill that is warm idle;
        target_ratio: what busy_ratio and requests_ratio should reach.
    """
    import polars as pl

    entries = report.entries
    teams = entries.filter(pl.col("team").is_not_null())
    idle = entries.filter(pl.col("bucket").is_in(["warm_idle", "cold_start", "fault", "idle_share"]))
    used = report.bill_units - int(idle["amount_units"].sum())
    mine = int(teams.filter(pl.col("bucket").is_in(USED))["amount_units"].sum())
    requests = int(entries["requests_count"].sum())

    def ratio(part: int, whole: int) -> float | None:
        """A share; None of nothing."""
        return part / whole if whole else None

    warm = entries.filter(pl.col("bucket") == "warm_idle")
    return {
        "bill_ratio": ratio(int(teams["amount_units"].sum()), report.bill_units),
        "busy_ratio": ratio(mine, used),
        "requests_ratio": ratio(int(teams["requests_count"].sum()), requests),
        "idle_ratio": ratio(int(warm["amount_units"].sum()), report.bill_units),
        "target_ratio": COVERAGE_TARGET,
    }


def tokens_per_gpu_second(client: Client, report: CostReport) -> pl.DataFrame:
    """Tokens (computed prompt and output) over all GPU-seconds that were there, idle ones too.

    Returns:
        One row per model: gpu_seconds, tokens, tokens_per_gpu_second (null without GPU time).
    """
    import polars as pl

    times: dict[str | None, int] = defaultdict(int)
    for interval in read_inventory(client, midnight(report.start_day), midnight(report.end_day)):
        assert interval.valid_to is not None
        length = (interval.valid_to - interval.valid_from) // MICROSECOND
        times[interval.model] += length * max(interval.gpu_count or 0, 0)
    seconds = [(model, us // 1_000_000) for model, us in times.items()]
    hours = pl.DataFrame(seconds, {"model": pl.String, "gpu_seconds": pl.Int64}, orient="row").sort("model")
    made = report.entries.group_by("model").agg(
        tokens=(
            pl.col("input_tokens") - pl.min_horizontal("cached_tokens", "input_tokens") + pl.col("output_tokens")
        ).sum()
    )
    return hours.join(made, on="model", how="left", nulls_equal=True).with_columns(
        pl.col("tokens").fill_null(0),
        tokens_per_gpu_second=pl.when(pl.col("gpu_seconds") > 0).then(
            pl.col("tokens").fill_null(0) / pl.col("gpu_seconds")
        ),
    )
