"""Whoever takes too long is called, whoever is done in time is not."""

import threading
import time

from collector.deadlines import Deadlines


def test_whoever_takes_too_long_is_called_and_the_others_are_not():
    deadlines, called = Deadlines(5), []
    late = threading.Event()
    with deadlines.limit(lambda: called.append("in time")):
        pass
    with deadlines.limit(lambda: (called.append("late"), late.set())), deadlines.limit(lambda: called.append("too")):
        assert late.wait(60)
    deadlines.close()
    assert called[0] == "late"
    assert "in time" not in called


def test_it_goes_on_after_having_slept():
    deadlines = Deadlines(0.1)
    for _ in range(2):
        late = threading.Event()
        with deadlines.limit(late.set):
            assert late.wait(60)
        time.sleep(0.3)
    deadlines.close()


def watchers():
    return {one for one in threading.enumerate() if one.name == "deadlines"}


def test_many_share_one_thread_which_ends():
    deadlines, before = Deadlines(60), watchers()
    for _ in range(50):
        with deadlines.limit(lambda: None):
            pass
    (thread,) = watchers() - before
    deadlines.close()
    thread.join(60)
    assert not thread.is_alive()


def test_one_that_fails_to_stop_takes_no_limit_from_the_others(caplog):
    deadlines, failed, late = Deadlines(0.02), threading.Event(), threading.Event()

    def closed():
        failed.set()
        raise RuntimeError("the connection is closed")

    with deadlines.limit(closed):
        assert failed.wait(60)
    with deadlines.limit(late.set):
        assert late.wait(60)
    deadlines.close()
    assert "deadline_not_kept" in caplog.text


def test_whoever_is_late_is_called_until_it_ends():
    """A query that is about to start when its time is over can't be stopped yet."""
    deadlines, calls, third = Deadlines(0.02), [], threading.Event()

    def late():
        calls.append(1)
        if len(calls) == 3:
            third.set()

    with deadlines.limit(late):
        assert third.wait(60)
    ended = len(calls)
    with deadlines.limit(third.clear):
        while third.is_set():
            threading.Event().wait(0.01)
    deadlines.close()
    assert len(calls) <= ended + 1


def test_at_the_end_whoever_is_under_way_is_called_until_it_ends():
    deadlines, called = Deadlines(60), threading.Event()
    with deadlines.limit(called.set):
        (thread,) = [one for one in threading.enumerate() if one.name == "deadlines" and one.is_alive()][-1:]
        deadlines.close()
        for _ in range(2):
            assert called.wait(60)
            called.clear()
    thread.join(60)
    assert not thread.is_alive()
    with deadlines.limit(called.set):
        assert called.wait(60), "what comes after the end is late at once"
