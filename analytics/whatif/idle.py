"""Tries the idle what-if on the past: a frozen range computed again against what its ledger charged."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from analytics.cost import team_costs
from analytics.ledger import midnight
from analytics.ledger_reading import closed_report

if TYPE_CHECKING:
    from analytics.ledger import CostReport
    from collector.client import Client


def tried(client: Client, report: CostReport, now: datetime) -> str:
    """Compare a report's teams with the ledger's of the same days, where these are frozen."""
    frozen = closed_report(client, report.start_day, report.end_day)
    if now < midnight(report.end_day):
        return "each column sums to the bill exactly; the range is not over"
    if frozen is None:
        return "each column sums to the bill exactly; the range is not closed, so there is no ledger to compare with"
    sums = [
        {
            (team, bucket): units
            for team, bucket, units in team_costs(each).select("team", "bucket", "amount_units").rows()
        }
        for each in (report, frozen)
    ]
    off = max((abs(sums[0].get(key, 0) - sums[1].get(key, 0)) for key in {*sums[0], *sums[1]}), default=0)
    return (
        f"each column sums to the bill exactly; under the policy of the close (separate) no team is more than "
        f"{off} units of 1e-9 off what the ledger charged (late requests and restated prices make a difference)"
    )
