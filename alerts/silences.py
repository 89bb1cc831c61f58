"""Silences: for a while, alerts whose labels match are not sent. They are still evaluated, listed and resolved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from alerts.errors import AlertsError

if TYPE_CHECKING:
    from alerts.state_store import StateStore


class Op(StrEnum):
    """How a label is compared; a missing label is empty. Regular expressions match the whole value."""

    NOT_MATCHES = "!~"
    MATCHES = "=~"
    DIFFERS = "!="
    EQUALS = "="


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label."""

    label: str
    """The label; rule_uid and severity are labels too."""
    op: Op
    """How it is compared."""
    value: str
    """With what."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether the labels meet the condition."""
        found = labels.get(self.label, "")
        if self.op in (Op.EQUALS, Op.DIFFERS):
            return (found == self.value) == (self.op == Op.EQUALS)
        return (re.fullmatch(self.value, found) is not None) == (self.op == Op.MATCHES)


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that all matchers match are not sent between two times."""

    id: str
    """Its name."""
    matchers: tuple[Matcher, ...]
    """All must match."""
    starts_at: datetime
    """From when. Naive UTC."""
    ends_at: datetime
    """Until when, exclusive. Naive UTC."""
    comment: str
    """Why."""
    author: str
    """Who."""

    def silences(self, labels: Mapping[str, str], now: datetime) -> bool:
        """Say whether it holds back an alert now."""
        return self.starts_at <= now < self.ends_at and all(matcher.matches(labels) for matcher in self.matchers)


SILENCE = TypeAdapter(Silence)


def parse_matcher(text: str) -> Matcher:
    """Read `model=llama`, `team!=a`, `replica=~"gpu-.*"` or `replica!~…`.

    Raises:
        AlertsError: it is none of these.
    """
    found = re.fullmatch(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*\"?(.*?)\"?\s*", text)
    if found is None:
        raise AlertsError(f"{text!r} is no matcher; write label=value, label!=value, label=~regex or label!~regex")
    matcher = Matcher(found[1], Op(found[2]), found[3])
    try:
        re.compile(matcher.value)
    except re.error as error:
        raise AlertsError(f"{text!r} has no valid regular expression: {error}") from error
    return matcher


def matching(silences: Iterable[Silence], labels: Mapping[str, str], now: datetime) -> Silence | None:
    """Return a silence that holds back an alert with these labels now."""
    return next((silence for silence in silences if silence.silences(labels, now)), None)


def read_silences(store: StateStore) -> list[Silence]:
    """Return all silences, those that end last first."""
    found = store.rows("SELECT document FROM silences ORDER BY ends_at DESC, id")
    return [SILENCE.validate_json(document) for (document,) in found]


def write_silence(store: StateStore, silence: Silence) -> None:
    """Keep a silence, or replace the one of its id."""
    row = (silence.id, silence.starts_at.isoformat(), silence.ends_at.isoformat())
    with store.transaction() as db:
        db.execute("REPLACE INTO silences VALUES (?, ?, ?, ?)", (*row, SILENCE.dump_json(silence).decode()))


def chosen(silences: Sequence[Silence], prefix: str) -> Silence:
    """Return the one silence whose id begins so.

    Raises:
        AlertsError: none does, or several do.
    """
    found = [silence for silence in silences if silence.id.startswith(prefix)]
    if len(found) != 1:
        problem = "no silence has" if not found else "several silences have"
        raise AlertsError(f"{problem} an id that begins with {prefix!r}; see `fleetmeter alert silence list`")
    return found[0]
