"""Parts are processes: started, watched, restarted unless it can't help, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.errors import ConfigurationError
from stack.ports import Ports, require_free
from stack.supervisor import Part, Supervisor


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    running = Supervisor(tmp_path / "logs", said.append)
    yield running
    running.stop()


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


RECEIVER = ("config", "show")  # ends at once with 0: enough of a part to see it restarted


def test_a_part_that_died_is_started_again(supervisor: Supervisor, said: list[str]) -> None:
    part = Part("brief", RECEIVER)
    supervisor.start(part)
    first = supervisor.pid("brief")

    def restarted() -> bool:
        supervisor.tend()
        return supervisor.pid("brief") != first

    assert eventually(restarted)
    assert "brief ended (exit code 0); starting it again" in said[0]


def test_a_part_killed_by_a_signal_is_started_again(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(Part("victim", RECEIVER))
    first = supervisor.pid("victim")
    os.kill(first, signal.SIGKILL)

    def restarted() -> bool:
        supervisor.tend()
        return supervisor.pid("victim") != first

    assert eventually(restarted)
    assert "killed by SIGKILL" in said[0]


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
