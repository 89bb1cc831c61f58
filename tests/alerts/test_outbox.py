"""What becomes of a message: delivered, tried again after a while, or dead; in order, and never lost."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.outbox import Answer, Attempt, Delivery, Event, Status, dispose
from alerts.state_store import StateStore, TickWrite

NOW = datetime(2026, 11, 21, 12)
DELIVERY = Delivery(
    seq=1, id="evt_1", receiver="hook", fingerprint="f", episode="1", kind="firing", severity="page", created_at=NOW,
    expires_at=NOW + timedelta(hours=72), next_at=NOW, attempts_count=1, status=Status.PENDING,
)  # fmt: skip


def event(name, *, kind="firing", severity="page", receiver="hook", fingerprint="f", episode="1"):
    return Event(name, receiver, fingerprint, episode, kind, severity, {"name": name})


def write(store, *events, at=NOW):
    store.commit(TickWrite(at, at, events=events))


def statuses(store):
    return {delivery.id: str(delivery.status) for delivery in store.deliveries()}


def test_an_accepted_message_is_delivered_and_a_permanent_answer_kills_it():
    assert dispose(DELIVERY, Attempt(Answer.ACCEPTED), NOW, max).status == Status.DELIVERED
    dead = dispose(DELIVERY, Attempt(Answer.PERMANENT, "HTTP 401"), NOW, max)
    assert (dead.status, dead.error) == (Status.DEAD, "HTTP 401")


@given(attempts=st.integers(1, 60), fraction=st.floats(0, 1))
def test_a_retry_waits_anything_from_nothing_to_a_delay_that_doubles_up_to_five_minutes(attempts, fraction):
    delivery = replace(DELIVERY, attempts_count=attempts)
    found = dispose(delivery, Attempt(Answer.RETRYABLE, "503"), NOW, lambda low, high: low + fraction * (high - low))
    longest = min(300.0, 2.0 ** (attempts - 1))
    assert NOW <= found.next_at <= NOW + timedelta(seconds=longest)


def test_a_receiver_that_asks_for_patience_gets_it():
    found = dispose(DELIVERY, Attempt(Answer.RETRYABLE, "429", retry_after_seconds=90), NOW, lambda low, high: 0.0)
    assert found.next_at == NOW + timedelta(seconds=90)


def test_a_message_that_can_not_be_sent_before_it_expires_is_dead():
    old = replace(DELIVERY, expires_at=NOW)
    found = dispose(old, Attempt(Answer.RETRYABLE, "503"), NOW, max)
    assert found.status == Status.DEAD
    assert "given up after 1 attempts" in found.error


def test_messages_about_one_alert_wait_for_each_other_and_those_about_others_do_not(store):
    write(store, event("fire"), event("end", kind="resolved"), event("other", fingerprint="g"))
    first, second = store.claim("hook", NOW), store.claim("hook", NOW)
    assert first.id == "fire"
    assert second.id == "fire", "a claimed message that is not finished is still the first of its alert"
    store.finish(first, dispose(first, Attempt(Answer.RETRYABLE, "503"), NOW, max), NOW)
    assert store.claim("hook", NOW).id == "other"


def test_an_attempt_is_counted_before_it_is_made(store):
    write(store, event("fire"))
    assert store.claim("hook", NOW).attempts_count == 1
    assert store.deliveries()[0].attempts_count == 1


def test_the_same_event_is_stored_once(store):
    write(store, event("fire"))
    write(store, event("fire"))
    assert len(store.deliveries()) == 1


def test_a_ticket_that_is_over_before_it_could_be_sent_is_not_sent_at_all(store):
    write(store, event("fire", severity="ticket"))
    write(store, event("end", kind="resolved", severity="ticket"))
    assert statuses(store) == {"fire": "dropped"}


def test_a_ticket_that_may_have_arrived_gets_its_end(store):
    write(store, event("fire", severity="ticket"))
    store.claim("hook", NOW)
    write(store, event("end", kind="resolved", severity="ticket"))
    assert statuses(store) == {"fire": "pending", "end": "pending"}


def test_only_the_episode_that_nobody_heard_of_is_dropped(store):
    write(store, event("fire1", severity="ticket"))
    delivery = store.claim("hook", NOW)
    store.finish(delivery, dispose(delivery, Attempt(Answer.ACCEPTED), NOW, max), NOW)
    write(store, event("end1", kind="resolved", severity="ticket"), event("fire2", severity="ticket", episode="2"))
    write(store, event("end2", kind="resolved", severity="ticket", episode="2"))
    assert statuses(store) == {"fire1": "delivered", "end1": "pending", "fire2": "dropped"}


def test_a_page_that_is_over_before_it_could_be_sent_is_sent_with_its_end(store):
    write(store, event("fire"), event("end", kind="resolved"))
    assert statuses(store) == {"fire": "pending", "end": "pending"}


def test_a_tick_that_can_not_be_written_leaves_nothing_behind(store):
    class Unwritable:
        def __str__(self):
            raise RuntimeError("no text")

    with pytest.raises(TypeError):
        write(store, event("fire"), replace(event("bad"), body={"x": Unwritable()}))
    assert store.deliveries() == []
    assert store.last_tick() is None


def test_a_state_file_that_is_not_sqlite_is_refused_with_the_fix(tmp_path):
    from alerts.errors import AlertsError

    file = tmp_path / "state.sqlite"
    file.write_text("this is no database, but it is long enough to look at" * 40)
    with pytest.raises(AlertsError, match=r"name another alerts\.state_dir"):
        StateStore(file)
