"""What is wrong with the requests that a bill is split among: clocks that are off, requests reported twice.

Neither changes the bill. A clock that is off moves a request to another hour, a request that two instruments reported
weighs twice; both are told so that somebody mends the sender.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from analytics.statements import ask

if TYPE_CHECKING:
    from collector.client import Client


def skewed(client: Client, start: datetime, end: datetime, known_at: datetime | None = None) -> list[str]:
    """Say which replicas' requests of a range of time (naive UTC) carry times that can't be."""
    found = []
    for row in ask(client, "requests_skewed_replica", start=start, end=end, known_at=known_at).iter_rows(named=True):
        where = f"replica {row['replica']}" if row["replica"] is not None else "requests without a replica"
        parts = []
        if row["ahead_count"]:
            parts.append(f"{row['ahead_count']:,} started over five minutes after they were received")
        if row["backwards_count"]:
            parts.append(f"{row['backwards_count']:,} ended before they started")
        found.append(
            f"{where}: {' and '.join(parts)}; set its clock right (they are billed in the hour that they name)"
        )
    return found


def doubled(client: Client, start: datetime, end: datetime, known_at: datetime | None = None) -> list[str]:
    """Say which replicas have requests of a range of time (naive UTC) twice, under different span ids."""
    counts: Counter[str | None] = Counter()
    day = start
    while day < end:
        following = min(end, day + timedelta(days=1))
        counts.update(
            dict(ask(client, "requests_doubled_replica", start=day, end=following, known_at=known_at).iter_rows())
        )
        day = following
    return [
        f"replica {replica}: {count:,} request{'' if count == 1 else 's'} reported twice (the same trace and time "
        "under two span ids); each weighs twice in its hour: switch one of the two instruments off"
        for replica, count in sorted(counts.items(), key=str)
    ]
