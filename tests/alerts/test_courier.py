"""Messages reach a receiver that fails in every way, through crashes: none lost or unexpected, in order, same ids."""

import random
from collections import defaultdict
from datetime import datetime, timedelta

import httpx
import pytest

from alerts.courier import Courier
from alerts.outbox import Answer, Attempt, Event
from alerts.sinks.signatures import read_secrets
from alerts.sinks.webhook import WebhookSink
from alerts.state_store import StateStore, TickWrite
from alerts.webhook_receiver import Fault, WebhookReceiver

NOW = datetime(2026, 11, 21, 12)


class Killed(BaseException):
    """The process ended here, at once."""


class Scripted:
    """A sink that answers as told."""

    def __init__(self, *attempts):
        self.attempts = list(attempts)
        self.sent = []

    def send(self, delivery):
        self.sent.append(delivery.id)
        return self.attempts.pop(0) if self.attempts else Attempt(Answer.ACCEPTED)

    def close(self):
        pass


def events(*names, severity="page"):
    return tuple(
        Event(name, "hook", name.split(".")[0], "1", "firing", severity, {"event": "firing", "at": "t", "name": name})
        for name in names
    )


def write(store, *names):
    store.commit(TickWrite(NOW, NOW, events=events(*names)))


def courier(store, sink, clock, **words):
    return Courier("hook", sink, store, clock, lambda low, high: high, **words)


def test_messages_go_out_in_order(store, clock):
    write(store, "a.1", "a.2", "b.1")
    sink = Scripted()
    assert courier(store, sink, clock).deliver_due() == 3
    assert sink.sent == ["a.1", "a.2", "b.1"]


def test_a_message_that_must_wait_holds_back_only_its_own_alert(store, clock):
    write(store, "a.1", "a.2", "b.1")
    sink = Scripted(Attempt(Answer.RETRYABLE, "503"))
    mail = courier(store, sink, clock)
    mail.deliver_due()
    assert sink.sent == ["a.1", "b.1"]
    clock.advance(5)
    mail.deliver_due()
    assert sink.sent == ["a.1", "b.1", "a.1", "a.2"]


def test_a_dead_message_does_not_hold_back_the_next(store, clock):
    write(store, "a.1", "a.2")
    sink = Scripted(Attempt(Answer.PERMANENT, "HTTP 400"))
    courier(store, sink, clock).deliver_due()
    assert {each.id: str(each.status) for each in store.deliveries()} == {"a.1": "dead", "a.2": "delivered"}


def test_a_receiver_that_asks_for_patience_is_left_alone_altogether(store, clock):
    write(store, "a.1", "b.1")
    sink = Scripted(Attempt(Answer.RETRYABLE, "429", retry_after_seconds=30))
    mail = courier(store, sink, clock)
    mail.deliver_due()
    assert sink.sent == ["a.1"]
    clock.advance(29)
    assert mail.deliver_due() == 0
    clock.advance(10)
    mail.deliver_due()
    assert sink.sent == ["a.1", "b.1", "a.1"]


def test_a_dead_receiver_costs_a_few_attempts_and_not_one_a_message(store, clock):
    write(store, *(f"{number}.1" for number in range(50)))
    sink = Scripted(*[Attempt(Answer.RETRYABLE, "refused")] * 200)
    mail = courier(store, sink, clock)
    for _ in range(10):
        mail.deliver_due()
        clock.advance(1)
    assert len(sink.sent) < 20
    sink.attempts.clear()
    clock.advance(600)
    mail.deliver_due()
    assert all(str(each.status) == "delivered" for each in store.deliveries())


def test_pagerduty_gets_no_more_than_it_takes_in_a_minute(store, clock):
    write(store, *(f"{number}.1" for number in range(50)))
    sink = Scripted()
    mail = courier(store, sink, clock, most_per_minute=20)
    assert mail.deliver_due() == 20
    clock.advance(61)
    assert mail.deliver_due() == 20


def test_a_fault_of_our_own_sink_loses_nothing(store, clock):
    class Broken:
        def send(self, delivery):
            raise KeyError("summary")

    write(store, "a.1")
    courier(store, Broken(), clock).deliver_due()
    (delivery,) = store.deliveries()
    assert (str(delivery.status), delivery.last_error) == ("pending", "KeyError: 'summary'")


def test_a_clock_set_back_does_not_hold_a_receiver_for_ever(store, clock):
    write(store, "a.1")
    sink = Scripted(Attempt(Answer.RETRYABLE, "429", retry_after_seconds=30))
    mail = courier(store, sink, clock)
    mail.deliver_due()
    clock.advance(-86_400)
    assert not mail.paused()


@pytest.mark.parametrize("seed", range(4))
def test_through_faults_and_crashes_every_message_arrives_under_one_id_in_order(tmp_path, clock, seed):
    draw = random.Random(seed)
    faults = [
        Fault.NONE,
        Fault.NONE,
        Fault.NONE,
        Fault.UNAVAILABLE,
        Fault.CROWDED,
        Fault.RESET_BEFORE,
        Fault.RESET_AFTER,
    ]
    calm = False
    receiver = WebhookReceiver(
        "whsec_" + "QUFB" * 8, fault=lambda: Fault.NONE if calm else draw.choice([*faults, Fault.ERROR_AFTER])
    )
    address = receiver.start()
    keys = read_secrets(receiver.secret)
    from alerts.clock import utc_now

    class Mortal(WebhookSink):
        """Dies now and then, before or after the message is out."""

        def send(self, delivery):
            if not calm and draw.random() < 0.1:
                raise Killed
            attempt = super().send(delivery)
            if not calm and draw.random() < 0.1:
                raise Killed
            return attempt

    names = [f"{alert}.{number}" for number in range(8) for alert in range(6)]
    store, crashes_count = StateStore(tmp_path / "s.sqlite"), 0
    with httpx.Client(timeout=5) as http:
        mail = courier(store, Mortal(http, address, keys, utc_now), clock)
        for step in range(600):
            if names:
                write(store, names.pop(0))
            calm = step > 500
            try:
                mail.deliver_due()
            except Killed:
                crashes_count += 1
                store.close()
                store = StateStore(tmp_path / "s.sqlite")
                mail = courier(store, Mortal(http, address, keys, utc_now), clock)
            clock.advance(10)
    receiver.stop()
    arrived = [(each.id, each.duplicate) for each in receiver.received]
    first = [name for name, duplicate in arrived if not duplicate]
    assert sorted(first) == sorted(f"{alert}.{number}" for alert in range(6) for number in range(8))
    assert receiver.refused_count == 0
    assert crashes_count > 3
    assert len(arrived) > len(first), "no duplicate came, so the faults did not bite"
    by_alert = defaultdict(list)
    for name in first:
        by_alert[name.split(".")[0]].append(int(name.split(".")[1]))
    assert all(numbers == sorted(numbers) for numbers in by_alert.values())
    assert all(str(each.status) == "delivered" for each in store.deliveries(limit=1000))
    store.close()


def test_an_expired_message_is_a_dead_letter(store, clock):
    write(store, "a.1")
    clock.now += timedelta(hours=72)
    courier(store, Scripted(Attempt(Answer.RETRYABLE, "503")), clock).deliver_due()
    assert str(store.deliveries()[0].status) == "dead"
