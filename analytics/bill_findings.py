"""What is wrong with the requests that a bill is split among: clocks that are off, requests reported twice.

Neither changes the bill. A clock that is off moves a request to another hour, a request that two instruments reported
weighs twice; both are told so that somebody mends the sender.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from analytics.statements import ask

if TYPE_CHECKING:
    from collector.client import Client

STRETCHES_AT_ONCE = 2


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

    def look(stretch: tuple[datetime, datetime]) -> dict[str | None, int]:
        begin, until = stretch
        if not (moments := shared_moments(client, begin, until)):
            return {}
        found = ask(client, "requests_doubled_replica", start=begin, end=until, moments=moments, known_at=known_at)
        return dict(found.iter_rows())

    with ThreadPoolExecutor(STRETCHES_AT_ONCE) as pool:
        for found in pool.map(look, stretches(client, start, end)):
            counts.update(found)
    return [
        f"replica {replica}: {count:,} request{'' if count == 1 else 's'} reported twice (the same trace and time "
        "under two span ids); each weighs twice in its hour: switch one of the two instruments off"
        for replica, count in sorted(counts.items(), key=str)
    ]


def stretches(client: Client, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut a range of time into stretches of about as many requests as are read at once."""
    from analytics.allocation.reading import chunks_of, read_arrivals

    for chunk in chunks_of(read_arrivals(client, start, end), start, end):
        cuts = 1 if chunk.parts == 1 else 4 * chunk.parts  # an hour's requests may come in bursts
        step = (chunk.end - chunk.start) / cuts
        edges = [chunk.start + cut * step for cut in range(cuts)] + [chunk.end]
        yield from pairwise(edges)


def shared_moments(client: Client, start: datetime, end: datetime) -> list[int]:
    """Return the hashes of replica and microsecond that more than one request of a range of time has."""
    import numpy as np

    moments = np.sort(ask(client, "requests_moment_request", start=start, end=end)["moment_hash"].to_numpy())
    shared: list[int] = np.unique(moments[1:][moments[1:] == moments[:-1]]).tolist()
    return shared
