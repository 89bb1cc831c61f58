"""The state on disk: SQLite in WAL mode with synchronous=FULL, one transaction a tick.

What the machine remembers, what receivers were told and what is still to be sent are written together or not at all, so
a `kill -9` at any moment loses nothing and tells nothing twice under another id.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from alerts.clock import iso
from alerts.errors import AlertsError
from alerts.notify import Told
from alerts.outbox import TIME_TO_LIVE, Delivery, Disposition, Event, Status
from alerts.states import Instance, RuleState, State, Transition

FILE_NAME = "state.sqlite"
HISTORY_KEPT = timedelta(days=30)
"""How long transitions and finished deliveries are kept."""
DEAD_IS_NEWS = timedelta(hours=1)
"""How long a dead letter counts as a fault of its receiver that people should hear of."""

RULE = TypeAdapter(RuleState)
INSTANCE = TypeAdapter(Instance)
TOLD = TypeAdapter(Told)


@cache
def statement(name: str) -> str:
    """Read one SQL file of this package."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class TickWrite:
    """Everything that one tick changes."""

    tick_at: datetime | None
    """The tick; evaluations up to here are done. None where a part of it is still to come."""
    written_at: datetime
    """The wall clock, by which messages are due and expire."""
    rules: Mapping[str, RuleState] = field(default_factory=dict)
    """By uid: the rules that were evaluated."""
    removed_rules: tuple[str, ...] = ()
    """Rules of which nothing needs to be remembered any more."""
    views: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """By fingerprint: what people read about an alert."""
    transitions: tuple[Transition, ...] = ()
    """What happened, in order."""
    told: Mapping[tuple[str, str], Told] = field(default_factory=dict)
    """By (receiver, fingerprint): what was newly told."""
    events: tuple[Event, ...] = ()
    """What is to be sent, in order."""


class StateStore:
    """The state file. Safe to use from several threads; one evaluator at a time works on it."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        if read_only and not path.is_file():
            raise AlertsError(
                f"no alert state at {path}; name the file that `fleetmeter alert run` writes with --state"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.RLock()
        target = f"{path.resolve().as_uri()}?mode=ro" if read_only else str(path)
        try:
            self._db = sqlite3.connect(target, uri=read_only, check_same_thread=False, isolation_level=None, timeout=10)
            if not read_only:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.executescript(statement("schema"))
            self._db.execute("SELECT count(*) FROM rules")
        except sqlite3.Error as error:
            raise AlertsError(
                f"{path} can't be used as alert state ({error}); name another alerts.state_dir"
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do several writes at once or none of them."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read several times from one state: what is committed meanwhile, by whomever, is not seen."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one SELECT."""
        with self._lock:
            return self._db.execute(sql, parameters or {}).fetchall()

    def last_tick(self) -> datetime | None:
        """Return the last tick that was committed."""
        found = self.rows("SELECT value FROM facts WHERE name = 'last_tick'")
        return datetime.fromisoformat(found[0][0]) if found else None

    def rule_states(self) -> dict[str, RuleState]:
        """Return what is remembered of every rule, by uid."""
        with self.snapshot():
            rules = self.rows("SELECT uid, document FROM rules")
            alerts = self.rows("SELECT rule_uid, fingerprint, document FROM instances")
        states = {uid: RULE.validate_json(document) for uid, document in rules}
        instances: dict[str, dict[str, Instance]] = {uid: {} for uid in states}
        for uid, key, document in alerts:
            instances[uid][key] = INSTANCE.validate_json(document)
        return {uid: replace(state, instances=instances[uid]) for uid, state in states.items()}

    def told(self) -> dict[tuple[str, str], Told]:
        """Return what every receiver was told last, by (receiver, fingerprint)."""
        found = self.rows("SELECT receiver, fingerprint, document FROM told")
        return {(receiver, key): TOLD.validate_json(document) for receiver, key, document in found}

    def views(self) -> dict[str, dict[str, Any]]:
        """Return what people read about each alert that is remembered, by fingerprint."""
        found = self.rows("SELECT fingerprint, view FROM instances")
        return {key: json.loads(view) for key, view in found}

    def transitions(self, fingerprint: str, limit: int = 200) -> list[dict[str, Any]]:
        """Return what happened to one alert, the latest first."""
        names = ("at", "rule_uid", "fingerprint", "before", "after", "reason", "episode", "value", "threshold")
        sql = f"SELECT {', '.join(names)} FROM transitions WHERE fingerprint = $key ORDER BY seq DESC LIMIT $limit"
        return [dict(zip(names, row, strict=True)) for row in self.rows(sql, {"key": fingerprint, "limit": limit})]

    def commit(self, write: TickWrite) -> None:
        """Write one tick: states, history, what was told and what is to be sent, all or nothing."""
        with self.transaction() as db:
            for uid, state in write.rules.items():
                self._write_rule(db, uid, state, write.views)
            for uid in write.removed_rules:
                db.execute("DELETE FROM rules WHERE uid = ?", (uid,))
                db.execute("DELETE FROM instances WHERE rule_uid = ?", (uid,))
            db.executemany(
                "INSERT INTO transitions (at, rule_uid, fingerprint, before, after, reason, episode, value, threshold) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [transition_row(each) for each in write.transitions],
            )
            for (receiver, key), told in write.told.items():
                db.execute("REPLACE INTO told VALUES (?, ?, ?)", (receiver, key, TOLD.dump_json(told).decode()))
            for event in write.events:
                self._write_event(db, event, write.written_at)
            if write.tick_at is not None:
                db.execute("REPLACE INTO facts VALUES ('last_tick', ?)", (write.tick_at.isoformat(),))

    def _write_rule(
        self, db: sqlite3.Connection, uid: str, state: RuleState, views: Mapping[str, dict[str, Any]]
    ) -> None:
        document = RULE.dump_json(replace(state, instances={})).decode()
        db.execute("REPLACE INTO rules VALUES (?, ?)", (uid, document))
        stored = dict(db.execute("SELECT fingerprint, view FROM instances WHERE rule_uid = ?", (uid,)).fetchall())
        gone = [(uid, key) for key in stored if key not in state.instances]
        db.executemany("DELETE FROM instances WHERE rule_uid = ? AND fingerprint = ?", gone)
        for key, instance in state.instances.items():
            view = json.dumps(views[key]) if key in views else stored.get(key, "{}")
            row = (uid, key, instance.state, INSTANCE.dump_json(instance).decode(), view)
            db.execute("REPLACE INTO instances VALUES (?, ?, ?, ?, ?)", row)

    def _write_event(self, db: sqlite3.Connection, event: Event, now: datetime) -> None:
        at = now.isoformat()
        if event.kind == "resolved" and event.severity != "page":
            name = {"receiver": event.receiver, "fingerprint": event.fingerprint, "episode": event.episode}
            if db.execute(statement("outbox_drop"), {**name, "now": at}).rowcount:
                return
        row = (event.id, event.receiver, event.fingerprint, event.episode, event.kind, event.severity)
        db.execute(
            "INSERT OR IGNORE INTO outbox "
            "(id, receiver, fingerprint, episode, kind, severity, body, created_at, expires_at, next_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, json.dumps(event.body), at, (now + TIME_TO_LIVE).isoformat(), at),
        )

    def claim(self, receiver: str, now: datetime) -> Delivery | None:
        """Take the next due message of a receiver and count the attempt, before any byte is sent."""
        due = {"receiver": receiver, "now": now.isoformat()}
        if not self.rows(statement("outbox_due"), due):
            return None
        with self.transaction() as db:
            found = db.execute(statement("outbox_due"), due).fetchone()
            if found is None:
                return None
            db.execute("UPDATE outbox SET attempts_count = attempts_count + 1 WHERE seq = ?", (found[0],))
        delivery = delivery_of(found[:7] + found[8:], body=json.loads(found[7]))
        return replace(delivery, attempts_count=delivery.attempts_count + 1)

    def finish(self, delivery: Delivery, disposition: Disposition, now: datetime) -> None:
        """Write what became of a message."""
        finished_at = None if disposition.status == Status.PENDING else now.isoformat()
        next_at = (disposition.next_at or delivery.next_at).isoformat()
        with self.transaction() as db:
            db.execute(
                "UPDATE outbox SET status = ?, next_at = ?, finished_at = ?, last_error = ? WHERE seq = ?",
                (disposition.status, next_at, finished_at, disposition.error, delivery.seq),
            )

    def deliveries(self, fingerprint: str | None = None, limit: int = 200) -> list[Delivery]:
        """Return deliveries, the latest first."""
        found = self.rows(statement("outbox_list"), {"fingerprint": fingerprint, "limit": limit})
        return [delivery_of(row) for row in found]

    def standing(self, now: datetime) -> dict[str, dict[str, Any]]:
        """Return how each receiver's messages stand: counts, the oldest one waiting, the last one delivered."""
        names = ("pending_count", "delivered_count", "dead_count", "dead_lately_count", "oldest_pending_at")
        found = self.rows(statement("outbox_standing"), {"dead_since": (now - DEAD_IS_NEWS).isoformat()})
        return {row[0]: dict(zip((*names, "last_delivered_at"), row[1:], strict=True)) for row in found}

    def syncs(self) -> list[dict[str, Any]]:
        """Return when each receiver of the whole set was last sent it."""
        names = ("receiver", "tried_at", "accepted_at", "alerts_count", "last_error")
        found = self.rows(f"SELECT {', '.join(names)} FROM syncs ORDER BY receiver")
        return [dict(zip(names, row, strict=True)) for row in found]

    def write_sync(self, receiver: str, now: datetime, alerts_count: int, error: str | None) -> None:
        """Note an attempt to send a receiver the whole set."""
        with self.transaction() as db:
            before = db.execute("SELECT accepted_at FROM syncs WHERE receiver = ?", (receiver,)).fetchone()
            accepted_at = (before[0] if before else None) if error else iso(now)
            db.execute(
                "REPLACE INTO syncs VALUES (?, ?, ?, ?, ?)", (receiver, iso(now), accepted_at, alerts_count, error)
            )

    def prune(self, now: datetime) -> None:
        """Forget history that is older than it is kept."""
        before = ((now - HISTORY_KEPT).isoformat(),)
        with self.transaction() as db:
            db.execute("DELETE FROM transitions WHERE at < ?", before)
            db.execute("DELETE FROM outbox WHERE status <> 'pending' AND finished_at < ?", before)
            db.execute("DELETE FROM silences WHERE ends_at < ?", before)
            db.execute(statement("told_forget"), {"before": before[0]})


def transition_row(transition: Transition) -> tuple[Any, ...]:
    """Lay a transition out as a row."""
    instance = transition.instance
    at, before, after = transition.at.isoformat(), State(transition.before), State(transition.after)
    words = (at, transition.rule_uid, instance.fingerprint, before, after, transition.reason)
    return (*words, instance.episode, instance.value, instance.threshold)


def delivery_of(row: tuple[Any, ...], body: dict[str, Any] | None = None) -> Delivery:
    """Read a row of the outbox (without its body)."""
    seq, name, receiver, key, episode, kind, severity, created, expires, next_at, attempts, status, finished, error = (
        row
    )
    return Delivery(
        id=name,
        receiver=receiver,
        fingerprint=key,
        episode=episode,
        kind=kind,
        severity=severity,
        body=body,
        seq=seq,
        created_at=datetime.fromisoformat(created),
        expires_at=datetime.fromisoformat(expires),
        next_at=datetime.fromisoformat(next_at),
        attempts_count=attempts,
        status=Status(status),
        finished_at=datetime.fromisoformat(finished) if finished else None,
        last_error=error,
    )
