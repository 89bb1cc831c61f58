"""Parts are processes: started, watched, restarted unless it can't help, and ended."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from stack.errors import ConfigurationError
from stack.interrupts import interruptible
from stack.ports import Ports, require_free
from stack.supervisor import BACKOFF_SECONDS, STEADY_SECONDS, Part, Supervisor


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    running = Supervisor(tmp_path / "logs", said.append)
    yield running
    running.stop()


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


BRIEF = ("config", "show")  # ends at once with 0: enough of a part to see it restarted
STAYING = ("dash", "--headless", "--port", "0")


def test_a_part_that_died_is_started_again(supervisor: Supervisor, said: list[str]) -> None:
    part = Part("brief", BRIEF)
    supervisor.start(part)
    first = supervisor.pid("brief")

    def restarted() -> bool:
        supervisor.tend()
        return supervisor.pid("brief") != first

    assert eventually(restarted)
    assert "brief ended (exit code 0); starting it again" in said[0]


def test_a_part_killed_by_a_signal_is_started_again(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(Part("victim", STAYING))
    first = supervisor.pid("victim")
    os.kill(first, signal.SIGKILL)

    def restarted() -> bool:
        supervisor.tend()
        return supervisor.pid("victim") != first

    assert eventually(restarted)
    assert "killed by SIGKILL" in said[0]


def test_only_deaths_in_a_row_make_the_pause_longer(tmp_path: Path, said: list[str]) -> None:
    now = 0.0
    supervisor = Supervisor(tmp_path / "logs", said.append, clock=lambda: now)
    supervisor.start(Part("brief", BRIEF))

    def told_of(deaths: int) -> bool:
        supervisor.tend()
        return len(said) == deaths

    for deaths, lived in enumerate((0.0, 0.0, STEADY_SECONDS, 0.0), 1):
        now += lived
        assert eventually(partial(told_of, deaths))
        now += BACKOFF_SECONDS[-1]
        supervisor.tend()
    supervisor.stop()
    assert [re.findall(r"again in (\S+) s", line) for line in said] == [["0.2"], ["0.5"], ["0.2"], ["0.5"]]


def test_a_signal_that_comes_while_a_part_starts_waits_until_it_is_known(supervisor: Supervisor) -> None:
    supervisor.clock = lambda: os.kill(os.getpid(), signal.SIGTERM) or 0.0  # type: ignore[func-returns-value]
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            supervisor.start(Part("victim", STAYING))
        os.kill(os.getpid(), signal.SIGTERM)
        part = supervisor.pid("victim")
        supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(part, 0)


def test_a_usage_error_is_not_tried_again_and_its_words_are_passed_on(supervisor: Supervisor) -> None:
    supervisor.start(Part("wrong", ("config", "check", "no-such-file.yaml")))
    with pytest.raises(ConfigurationError, match=r"no configuration file at no-such-file\.yaml"):
        supervisor.wait_ready(Part("wrong", (), "http://127.0.0.1:9/"))


def test_taken_ports_are_all_named(free_ports: Ports) -> None:
    import socket

    with socket.socket() as one, socket.socket() as two:
        for held in (one, two):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", free_ports.api))
        two.bind(("127.0.0.1", free_ports.alerts))
        one.listen()
        two.listen()
        with pytest.raises(ConfigurationError) as caught:
            require_free(free_ports, advice="try --ports-from 20000")
    message = str(caught.value)
    assert f"api {free_ports.api}" in message
    assert f"alerts {free_ports.alerts}" in message
    assert "try --ports-from 20000" in message


def test_ports_can_be_counted_from_a_number() -> None:
    assert Ports.counted_from(20000) == Ports(20000, 20001, 20002, 20003, 20004, 20005)
    with pytest.raises(ConfigurationError, match="take a number from 1024"):
        Ports.counted_from(80)
