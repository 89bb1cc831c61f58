"""The queue is bounded, counts what it loses, and a dead collector holds nobody up."""

import threading
import time

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from engine_exporter.span_queue import PatientExporter, SpanQueue, request_span
from engine_exporter.testing import Clock, KeptSpans


def span(number=1):
    return request_span("chat", 7, number, None, Resource({}), {"a": 1}, 0, 10, None)


def eventually(true, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


class Stuck(KeptSpans):
    """A collector that takes the connection and never answers."""

    def __init__(self):
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def export(self, spans):
        self.entered.set()
        self.go.wait(60)
        return super().export(spans)


@pytest.fixture
def queue_to():
    queues = []

    def make(exporter, **named):
        queue = SpanQueue(exporter, **{"limit": 10, "interval_seconds": 0.01, "patience_seconds": 0, **named})
        queues.append(queue)
        return queue

    yield make
    for queue in queues:
        queue.close(2)


def test_spans_arrive_and_are_counted(queue_to):
    kept = KeptSpans()
    queue = queue_to(kept)
    for number in range(1, 6):
        assert queue.offer(span(number))
    eventually(lambda: queue.sent_count == 5)
    assert sorted(one.context.span_id for one in kept.spans) == [1, 2, 3, 4, 5]
    assert (queue.queued_count, queue.dropped_count) == (0, 0)


def test_a_full_queue_drops_counts_and_says_so_once(queue_to, caplog):
    stuck = Stuck()
    queue = queue_to(stuck, limit=3)
    taken = [queue.offer(span(number)) for number in range(1, 8)]
    assert taken == [True, True, True, False, False, False, False]
    assert (queue.overflow_count, queue.queued_count) == (4, 3)
    assert caplog.text.count("spans dropped so far") == 1
    stuck.go.set()
    eventually(lambda: queue.sent_count == 3)
    assert queue.offer(span(9))


def test_a_batch_that_nobody_takes_is_given_up_and_counted(queue_to):
    down = KeptSpans()
    down.down = True
    queue = queue_to(down, patience_seconds=0)
    queue.offer(span())
    eventually(lambda: queue.failed_count == 1)
    assert (queue.dropped_count, queue.queued_count) == (1, 0)


def test_a_batch_is_tried_again_until_the_collector_is_back():
    inner, clock = KeptSpans(), Clock()
    inner.down = True
    tries = []

    class Waking(KeptSpans):
        def export(self, spans):
            tries.append(clock())
            clock.pass_(1)
            if len(tries) == 4:
                inner.down = False
            return inner.export(spans)

    patient = PatientExporter(Waking(), 60, now=clock, pause_seconds=0)
    assert patient.export([span()]) is SpanExportResult.SUCCESS
    assert len(tries) == 4 and patient.sent_count == 1


def test_an_exporter_that_raises_is_one_that_fails():
    class Raising(KeptSpans):
        def export(self, spans):
            raise RuntimeError("socket on fire")

    patient = PatientExporter(Raising(), 0)
    assert patient.export([span()]) is SpanExportResult.FAILURE
    assert patient.failed_count == 1


def test_closing_does_not_wait_for_a_collector_that_hangs(queue_to):
    stuck = Stuck()
    queue = queue_to(stuck, patience_seconds=600)
    queue.offer(span())
    assert stuck.entered.wait(60)
    done = threading.Event()
    threading.Thread(target=lambda: (queue.close(0.05), done.set()), daemon=True).start()
    assert done.wait(30)
    stuck.go.set()


def test_closing_sends_what_is_left(queue_to):
    kept = KeptSpans()
    queue = queue_to(kept, interval_seconds=3600)
    queue.offer(span())
    queue.close(60)
    assert len(kept.spans) == 1


def test_what_comes_after_the_end_is_counted_as_lost(queue_to, caplog):
    queue = queue_to(KeptSpans())
    queue.close(5)
    assert not queue.offer(span())
    assert (queue.late_count, queue.dropped_count, queue.queued_count) == (1, 1, 0)
    assert "1 after the end" in caplog.text


def test_an_error_is_the_status_of_the_span():
    failed = request_span("chat", 7, 1, None, Resource({}), {}, 0, 10, "engine_dead")
    assert failed.status.description == "engine_dead" and not failed.status.is_ok
    assert span().status.is_unset
