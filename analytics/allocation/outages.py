"""When a replica was down or loading: faults and cold starts, told from inventory, events and what requests saw.

A **fault** begins where a replica died: at a fatal XID (from `events`, or the GPU's samples), or where the first
request ended as `engine_dead`. It ends at the next `restart` event, or where the next request came into the engine
and was served, whichever is first; without either it goes on.

A **cold start** begins at a `restart` event, and where a replica appears in the inventory (a row that no earlier row
of the same replica adjoins; where the whole inventory begins is no start, since nobody knows what was before). It
ends at the first `ready` event or where the first request came into the engine, at most LONGEST_START after it
began.

Of both, only the time in which no request was in the engine counts: a request that runs proves that the replica did.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from analytics.statements import ask

if TYPE_CHECKING:
    from analytics.replica_intervals import ReplicaInterval
    from collector.client import Client

LONGEST_START = timedelta(minutes=30)
"""A cold start of which nobody said when it was over ends after so long."""
LOOK_BACK = timedelta(days=7)
"""How long before a range an outage may have begun to be still seen in it."""
FATAL_XIDS = frozenset({46, 48, 61, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 151, 154, 155, 156, 158})
"""XIDs after which a GPU does no work until it is reset or replaced.
Source: NVIDIA, "XID Errors" (r570), table of resolution actions RESET_GPU, RESTART_BM and WORKFLOW_XID_48."""
XID = re.compile(r"\bXID\D{0,3}(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch in which a replica served nothing, and why."""

    replica: str
    """Its name."""
    start: datetime
    """From when. Naive UTC."""
    end: datetime
    """Until when, exclusive. Naive UTC."""
    kind: str
    """fault or cold_start."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that is known to have happened to a replica."""

    replica: str
    """Its name."""
    at: datetime
    """When. Naive UTC."""
    kind: str
    """died, restarted, appeared or ready."""


def read_outages(
    client: Client,
    inventory: Sequence[ReplicaInterval],
    start: datetime,
    end: datetime,
    known_at: datetime | None = None,
) -> list[Outage]:
    """Find the faults and cold starts that touch a range.

    Args:
        client: where events, GPU samples and requests are.
        inventory: the replicas, at least those of the range and LOOK_BACK before it.
        start: start of the range. Naive UTC.
        end: its end, exclusive. Naive UTC.
        known_at: only events and requests received by then; None is all. Naive UTC.
    """
    since = start - LOOK_BACK
    rows = ask(client, "cost_signs_replica", start=since, end=end, known_at=known_at)
    signs = [
        Sign(*row[:3]) for row in rows.filter(rows["kind"] != "xid").select("replica", "sign_at", "kind").iter_rows()
    ]
    for replica, at, title, xid in (
        rows.filter(rows["kind"] == "xid").select("replica", "sign_at", "title", "xid").iter_rows()
    ):
        if code_of(title, xid) in FATAL_XIDS:
            signs.append(Sign(replica, at, "died"))
    first = ask(client, "cost_inventory_fleet", known_at=known_at).item()
    signs += appearances(inventory, since, end, first)
    waiting = [sign for sign in signs if sign.kind in ("died", "restarted", "appeared")]
    if not waiting:
        return []
    served = ask(
        client, "cost_served_sign", replicas=[sign.replica for sign in waiting], moments=[sign.at for sign in waiting],
        end=end, known_at=known_at,
    )  # fmt: skip
    back = {(replica, at): served_at for replica, at, served_at in served.iter_rows()}
    return [outage for outage in outages_of(signs, back, end) if outage.end > start]


def code_of(title: str | None, xid: int | None) -> int | None:
    """The XID of an event: as its attribute says, else as its title does."""
    if xid is not None:
        return xid
    found = XID.search(title or "")
    return int(found[1]) if found else None


def appearances(
    inventory: Iterable[ReplicaInterval], since: datetime, end: datetime, first: datetime | None
) -> list[Sign]:
    """Where replicas appear in the inventory without having been there the moment before."""
    known: dict[str, list[ReplicaInterval]] = defaultdict(list)
    for interval in inventory:
        known[interval.replica].append(interval)
    return [
        Sign(interval.replica, interval.valid_from, "appeared")
        for intervals in known.values()
        for interval in intervals
        if since <= interval.valid_from < end
        and interval.valid_from != first
        and not any(
            other.valid_from < interval.valid_from and (other.valid_to is None or other.valid_to >= interval.valid_from)
            for other in intervals
        )
    ]


def outages_of(
    signs: Iterable[Sign], served: Mapping[tuple[str, datetime], datetime | None], end: datetime
) -> list[Outage]:
    """Work out the outages of each replica, disjoint and in order.

    Args:
        signs: what happened.
        served: by (replica, moment): when the first request after that moment came into the engine; absent is never.
        end: nothing is known from then on.
    """
    mine: dict[str, list[Sign]] = defaultdict(list)
    for sign in signs:
        mine[sign.replica].append(sign)
    found: list[Outage] = []
    for replica in sorted(mine):
        restarts = sorted(sign.at for sign in mine[replica] if sign.kind in ("restarted", "appeared"))
        readies = sorted(sign.at for sign in mine[replica] if sign.kind == "ready")
        spans = []
        for sign in mine[replica]:
            back = served.get((replica, sign.at)) or end
            if sign.kind == "died":
                over = min(next_after(restarts, sign.at, end), next_after(readies, sign.at, end), back)
                spans.append((sign.at, over, "fault"))
            elif sign.kind != "ready":
                over = min(sign.at + LONGEST_START, next_after(readies, sign.at, end), back, end)
                spans.append((sign.at, over, "cold_start"))
        found += [Outage(replica, *span) for span in disjoint(spans)]
    return found


def next_after(moments: Sequence[datetime], at: datetime, otherwise: datetime) -> datetime:
    """The first of sorted moments that is not before `at`."""
    place = bisect_left(moments, at)
    return moments[place] if place < len(moments) else otherwise


def disjoint(spans: Iterable[tuple[datetime, datetime, str]]) -> list[tuple[datetime, datetime, str]]:
    """Cut spans so that they do not overlap; where a fault and a cold start do, it is a fault."""
    spans = [span for span in spans if span[0] < span[1]]
    edges = sorted({edge for begin, over, _ in spans for edge in (begin, over)})
    kinds: list[str | None] = [None] * len(edges)
    for begin, over, kind in sorted(spans, key=lambda span: span[2]):  # cold_start first, so that fault goes over it
        for k in range(bisect_left(edges, begin), bisect_right(edges, over) - 1):
            kinds[k] = kind
    found: list[tuple[datetime, datetime, str]] = []
    for k, what in enumerate(kinds):
        if what is None:
            continue
        if found and found[-1][1] == edges[k] and found[-1][2] == what:
            found[-1] = (found[-1][0], edges[k + 1], what)
        else:
            found.append((edges[k], edges[k + 1], what))
    return found
