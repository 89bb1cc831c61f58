"""Who is told, and why: once at the beginning, once at the end, again after a while, and not while silenced."""

from dataclasses import replace
from datetime import datetime, timedelta

from alerts.notify import Kind, Verdict, decide
from alerts.states import Instance, State

NOW = datetime(2026, 11, 21, 12)
FIRING = Instance("f", {"model": "a"}, State.FIRING, since=NOW, active_at=NOW, fired_at=NOW, episode=1)
OVER = replace(FIRING, state=State.RESOLVED, resolved_at=NOW)


def told(instance, log=None, *, after=0, **words):
    return decide(instance, log, NOW + timedelta(seconds=after), repeat_seconds=3600, **words)


def test_a_fire_is_told_once_and_its_end_once():
    first = told(FIRING)
    assert (first.kind, first.verdict) == (Kind.FIRING, Verdict.FIRST_FIRING)
    assert told(FIRING, first.told).verdict == Verdict.ALREADY_TOLD
    end = told(OVER, first.told)
    assert end.kind == Kind.RESOLVED
    assert told(OVER, end.told).kind is None


def test_who_was_never_told_of_the_fire_does_not_hear_of_its_end():
    assert told(OVER).verdict == Verdict.NEVER_TOLD


def test_a_new_episode_is_told_even_where_the_end_of_the_last_was_not():
    first = told(FIRING)
    again = told(replace(FIRING, episode=2, fired_at=NOW + timedelta(hours=1)), first.told)
    assert (again.kind, again.verdict) == (Kind.FIRING, Verdict.NEW_EPISODE)


def test_a_repeat_has_its_own_number():
    first = told(FIRING)
    second = told(FIRING, first.told, after=3600)
    third = told(FIRING, second.told, after=7200)
    assert [(each.kind, each.told.number) for each in (second, third)] == [(Kind.REPEAT, 1), (Kind.REPEAT, 2)]


def test_a_silence_holds_back_the_fire_but_not_the_end_and_tells_when_it_is_over():
    assert told(FIRING, silenced=True).verdict == Verdict.SILENCED
    first = told(FIRING)
    assert told(OVER, first.told, silenced=True).kind == Kind.RESOLVED
    assert told(FIRING, None, silenced=False).kind == Kind.FIRING


def test_flapping_is_told_once():
    first = told(FIRING)
    flaps = told(replace(FIRING, flapping=True), first.told)
    assert flaps.kind == Kind.FLAPPING
    assert told(replace(FIRING, flapping=True), flaps.told).kind is None


def test_a_pending_alert_is_nobodys_business():
    pending = Instance("f", {}, State.PENDING, since=NOW, active_at=NOW)
    assert told(pending).verdict == Verdict.NOT_ACTIVE
