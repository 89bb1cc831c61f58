"""The documents of the alerts API, made from the state alone, so that a file answers as the running API does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alerts.clock import iso, read_time
from alerts.outbox import Delivery
from alerts.silences import matching, read_silences
from alerts.state_store import StateStore
from alerts.states import ACTIVE, State

SHOWN_DELIVERIES = 5
ORDER = {State.FIRING: 0, State.RECOVERING: 1, State.PENDING: 2, State.RESOLVED: 3}


def alerts_document(store: StateStore, now: datetime) -> dict[str, Any]:
    """Return every alert that is remembered, the sign of life left out: firing first, pages first, then the oldest."""
    with store.snapshot():
        health = {uid: state.health for uid, state in store.rule_states().items()}
        silences, syncs, views = read_silences(store), store.syncs(), store.views()
        latest, last_tick = store.deliveries(limit=1000), store.last_tick()
    deliveries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for delivery in latest:
        deliveries[delivery.fingerprint].append(delivery_document(delivery))
    alerts = []
    for view in views.values():
        if not view or view["sign_of_life"]:
            continue
        told = deliveries[view["fingerprint"]][:SHOWN_DELIVERIES] + synced(view, syncs)
        silenced = matching(silences, view["labels"], now) is not None
        frozen = health.get(view["rule_uid"], "ok")
        alerts.append({**view, "health": frozen, "silenced": silenced, "deliveries": told})
    alerts.sort(
        key=lambda alert: (ORDER[State(alert["state"])], alert["severity"], alert["since"], alert["fingerprint"])
    )
    return {"alerts": alerts, "last_tick_at": iso(last_tick) if last_tick else None}


def history_document(store: StateStore, fingerprint: str) -> dict[str, Any]:
    """Return what happened to one alert and who was told, the latest first."""
    with store.snapshot():
        transitions, told = store.transitions(fingerprint), store.deliveries(fingerprint)
    for each in transitions:
        each["at"] = iso(read_time(each["at"]))
    deliveries = [delivery_document(delivery) for delivery in told]
    return {"fingerprint": fingerprint, "transitions": transitions, "deliveries": deliveries}


def deliveries_document(store: StateStore, now: datetime) -> dict[str, Any]:
    """Return the latest deliveries and how each receiver stands."""
    with store.snapshot():
        latest, stands, syncs = store.deliveries(), store.standing(now), store.syncs()
    deliveries = [delivery_document(delivery) for delivery in latest]
    standing = [{**each, "receiver": name} for name, each in stands.items()]
    return {"deliveries": deliveries, "receivers": standing, "syncs": syncs}


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    """Lay out one delivery."""
    return {
        "id": delivery.id,
        "receiver": delivery.receiver,
        "fingerprint": delivery.fingerprint,
        "kind": delivery.kind,
        "severity": delivery.severity,
        "status": delivery.status,
        "attempts_count": delivery.attempts_count,
        "at": iso(delivery.finished_at or delivery.created_at),
        "next_at": iso(delivery.next_at) if delivery.finished_at is None else None,
        "error": delivery.last_error,
    }


def synced(view: Mapping[str, Any], syncs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say of each receiver that is sent the whole set whether it has this alert."""
    if view["state"] not in ACTIVE:
        return []
    return [
        {
            "receiver": sync["receiver"],
            "kind": "sync",
            "status": "delivered" if (sync["accepted_at"] or "") >= view["changed_at"] else "pending",
            "attempts_count": 1,
            "at": sync["accepted_at"],
            "error": sync["last_error"],
        }
        for sync in syncs
    ]
