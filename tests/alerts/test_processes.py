"""The evaluator as a process of its own: killed at any moment, beside a receiver that fails, without a collector."""

import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from datetime import timedelta
from functools import partial
from itertools import islice

import httpx
import pytest
import yaml

from alerts.clock import iso, utc_now
from alerts.webhook_receiver import Fault, WebhookReceiver
from collector.client import HttpClient
from collector.testing import CollectorProcess

RULES = """
rules:
  - uid: queue
    title: Queue
    kind: threshold
    severity: page
    interval: 1s
    measure: waiting_requests
    scope: replica
    window: 1h
    op: ">"
    threshold: 10
    annotations: {summary: "{replica} has {value} waiting", runbook_url: /runbooks/saturation}
"""
FAULTS = [Fault.UNAVAILABLE, Fault.CROWDED, Fault.RESET_BEFORE, Fault.RESET_AFTER, Fault.ERROR_AFTER]


@pytest.fixture
def collector(tmp_path):
    made = CollectorProcess(tmp_path / "collector").start()
    yield made
    made.stop()


@pytest.fixture
def fleet(collector, fleet_over):
    client = HttpClient(collector.api)
    yield fleet_over(client)
    client.close()


@pytest.fixture
def configured(tmp_path, secret_file, receiver, collector):
    (tmp_path / "rules.yaml").write_text(RULES)
    alerts = {
        "rules_file": str(tmp_path / "rules.yaml"),
        "state_dir": str(tmp_path / "state"),
        "collector_url": collector.api,
        "port": 0,
        "tick_seconds": 1,
        "query_offset_seconds": 0,
        "receivers": [
            {
                "name": "hook",
                "kind": "webhook",
                "url": f"http://127.0.0.1:{receiver.port}/",
                "secret_file": str(secret_file),
            }
        ],
    }
    file = tmp_path / "fleetmeter.yaml"
    file.write_text(yaml.safe_dump({"alerts": alerts}))
    return file


def fleetmeter(*arguments):
    return [sys.executable, "-m", "fleetmeter", *arguments]


class Running:
    """`fleetmeter alert run` as a process, and the address of its API."""

    def __init__(self, config):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FLEETMETER")}
        self.process = subprocess.Popen(
            fleetmeter("alert", "run", "--config", str(config)), stderr=subprocess.PIPE, text=True, env=environment
        )
        self.lines = []
        self.url = None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"alerts API on (http://\S+);", line):
                self.url = found[1]
                break
        self._drain = threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True)
        self._drain.start()

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._drain.join(30)
        self.process.stderr.close()
        return code


@pytest.fixture
def running(configured):
    started = []

    def start():
        started.append(Running(configured))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGKILL)


def eventually(condition, *, within=60.0):
    """Poll until a condition holds; fail with the last answer where it never does."""
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(httpx.TransportError):
            if found := condition():
                return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def waiting(fleet, replica, count):
    fleet.gauge("infer.engine.requests_waiting", count, at=utc_now(), replica=replica)


@pytest.mark.slow
def test_killed_again_and_again_beside_a_failing_receiver_it_loses_nothing(
    fleet, collector, receiver, running, tmp_path
):
    draw, luck = random.Random(7), random.Random(8)
    calm = threading.Event()
    receiver.fault = lambda: Fault.NONE if calm.is_set() or luck.random() < 0.5 else luck.choice(FAULTS)
    replicas = [f"r{number:02d}" for number in range(24)]
    # Twice each at most: one that begins a third time is flapping, and held.
    filling = iter(draw.sample(replicas * 2, 48))
    for replica in replicas:
        waiting(fleet, replica, 0)
    for _ in range(5):
        began = iso(utc_now())
        process = running()
        eventually(partial(evaluated_since, process, began))
        for _ in range(3):
            for replica in draw.sample(replicas, 2):
                waiting(fleet, replica, 0)
            for replica in islice(filling, 3):
                waiting(fleet, replica, 50)
            time.sleep(draw.uniform(0.4, 1.0))
        process.end(signal.SIGKILL)
    calm.set()
    for replica in replicas:
        waiting(fleet, replica, 0)
    process = running()
    eventually(lambda: states(process) and "firing" not in states(process))
    eventually(lambda: not pending(process), within=60)
    assert process.end() == 0
    told = defaultdict(list)
    for each in receiver.received:
        if not each.duplicate:
            alert = each.message["data"]["alert"]
            told[alert["fingerprint"]].append((each.message["data"]["event"], alert["fired_at"]))
    assert told == happened(tmp_path / "state" / "state.sqlite")
    assert receiver.refused_count == 0
    assert sum(len(events) for events in told.values()) >= 10
    bodies = defaultdict(set)
    for each in receiver.received:
        bodies[each.id].add(json.dumps(each.message, sort_keys=True))
    assert all(len(different) == 1 for different in bodies.values()), "a retry said something else under the same id"


def evaluated_since(process, began):
    at = httpx.get(f"{process.url}/healthz", timeout=60).json()["last_tick_at"]
    return at is not None and at > began


def states(process):
    alerts = httpx.get(f"{process.url}/api/v1/alerts", timeout=60).json()["alerts"]
    return [alert["state"] for alert in alerts if alert["rule_uid"] == "queue"]


def pending(process):
    return [
        row
        for row in httpx.get(f"{process.url}/api/v1/deliveries", timeout=60).json()["receivers"]
        if row["pending_count"]
    ]


def happened(state):
    """What the history says must have been told: every fire and every end, in order, by alert."""
    told, fired = defaultdict(list), {}
    with sqlite3.connect(state) as db:
        rows = db.execute(
            "SELECT fingerprint, before, after, at FROM transitions WHERE rule_uid = 'queue' ORDER BY seq"
        ).fetchall()
    db.close()
    for key, before, after, at in rows:
        if after == "firing" and before == "pending":
            fired[key] = at if "." in at else f"{at}.000000"
            told[key].append(("firing", fired[key] + "Z"))
        elif after == "resolved":
            told[key].append(("resolved", fired[key] + "Z"))
    return told


def test_without_a_collector_it_says_so_stays_alive_and_freezes(fleet, collector, running, configured):
    waiting(fleet, "r1", 50)
    process = running()
    eventually(lambda: states(process) == ["firing"])
    collector.stop()
    frozen = eventually(lambda: [a for a in alerts(process) if a["rule_uid"] == "queue" and a["health"] == "error"])
    assert frozen[0]["state"] == "firing"
    eventually(lambda: "fleetmeter_alerts_collector_up 0.0" in httpx.get(f"{process.url}/metrics", timeout=60).text)
    metrics = httpx.get(f"{process.url}/metrics", timeout=60).text
    assert re.search(r'fleetmeter_alerts_evaluation_errors_total\{rule="queue"\} [1-9]', metrics)
    assert httpx.get(f"{process.url}/healthz", timeout=60).json()["collector_up"] is False
    assert process.end(signal.SIGINT) == 130


def alerts(process):
    return httpx.get(f"{process.url}/api/v1/alerts", timeout=60).json()["alerts"]


def queue(process):
    (alert,) = [alert for alert in alerts(process) if alert["rule_uid"] == "queue"]
    return alert


def test_two_evaluators_of_one_state_are_refused(running, configured):
    running()
    second = subprocess.run(
        fleetmeter("alert", "run", "--config", str(configured)), capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 3
    assert "two would page twice" in second.stderr


def test_the_api_tells_alerts_history_deliveries_metrics_and_runbooks(fleet, collector, running, configured):
    waiting(fleet, "r1", 50)
    process = running()
    eventually(lambda: states(process) == ["firing"])
    alert = queue(process)
    assert alert["summary"] == "r1 has 50 waiting"
    told = eventually(lambda: [each for each in queue(process)["deliveries"] if each["status"] == "delivered"])
    assert told[0]["receiver"] == "hook"
    history = httpx.get(alert["links"]["history"], timeout=60).json()
    assert [each["after"] for each in history["transitions"]] == ["firing", "pending"]
    assert httpx.get(alert["links"]["runbook"], timeout=60).text.startswith("# The engine is full")
    assert httpx.get(f"{process.url}/healthz", timeout=60).status_code == 200
    metrics = httpx.get(f"{process.url}/metrics", timeout=60).text
    assert 'fleetmeter_alerts_alerts{severity="page",state="firing"} 1.0' in metrics
    for path, status in (("/nowhere", 404), ("/api/v1/alerts/nobody/history", 404), ("/runbooks/none", 404)):
        answer = httpx.get(f"{process.url}{path}", timeout=60)
        assert (answer.status_code, "error" in answer.json()) == (status, True)
    listed = subprocess.run(
        fleetmeter("alert", "list", "--url", process.url), capture_output=True, text=True, check=True, timeout=60
    )
    assert "r1 has 50 waiting" in listed.stdout
    silence = ("alert", "silence", "add", "replica=r1", "--comment", "known", "--config", str(configured))
    subprocess.run(fleetmeter(*silence), capture_output=True, check=True, timeout=60)
    assert queue(process)["silenced"] is True


def test_a_port_in_use_is_refused_with_the_fix(receiver, configured):
    port = str(receiver.port)
    refused = subprocess.run(
        fleetmeter("alert", "run", "--config", str(configured), "--port", port),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert "name another port with --port" in refused.stderr


def test_once_evaluates_delivers_prints_and_ends(fleet, receiver, configured):
    waiting(fleet, "r1", 50)
    once = subprocess.run(
        fleetmeter("alert", "run", "--once", "--config", str(configured)), capture_output=True, text=True, timeout=60
    )
    assert once.returncode == 0, once.stderr
    assert "r1 has 50 waiting" in once.stdout
    assert "1 alerts firing, 0 messages wait" in once.stderr
    assert [each.message["type"] for each in receiver.received] == ["alert.firing"]


def test_once_without_a_collector_ends_with_3(collector, configured):
    collector.stop()
    once = subprocess.run(
        fleetmeter("alert", "run", "--once", "--config", str(configured)), capture_output=True, text=True, timeout=60
    )
    assert once.returncode == 3
    assert "alerts are frozen: no collector answers" in once.stderr


@pytest.fixture
def printing(secret_file):
    """`fleetmeter alert receive` as a process, and its address."""
    command = fleetmeter("alert", "receive", "--port", "0", "--secret-file", str(secret_file))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process, re.search(r"http://\S+;", process.stderr.readline())[0].rstrip(";")
    process.kill()
    process.wait(20)
    process.stdout.close()
    process.stderr.close()


def test_the_local_receiver_prints_one_clear_line_an_alert(fleet, configured, printing):
    process, address = printing
    document = yaml.safe_load(configured.read_text())
    document["alerts"]["receivers"][0]["url"] = address
    configured.write_text(yaml.safe_dump(document))
    waiting(fleet, "r1", 50)
    subprocess.run(fleetmeter("alert", "run", "--once", "--config", str(configured)), check=True, timeout=60)
    assert re.search(r"^\S+Z FIRING +page +r1 has 50 waiting$", process.stdout.readline().rstrip())
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def test_an_unsigned_message_is_refused(receiver):
    answer = httpx.post(f"http://127.0.0.1:{receiver.port}/", content=b"{}")
    assert (answer.status_code, receiver.received) == (401, [])
    assert receiver.refused_count == 1


def test_a_receiver_that_can_not_take_its_port_says_so(receiver):
    from alerts.errors import AlertsError

    with pytest.raises(AlertsError, match="name another with --port"):
        WebhookReceiver(receiver.secret, receiver.port).start()


def test_a_clock_far_ahead_of_the_last_tick_counts_missed_ticks(service_of, clock):
    service = service_of(RULES)
    service.tick_if_due()
    clock.now += timedelta(seconds=150)
    service.tick_if_due()
    assert service.tally.missed_ticks_count == 9
    clock.now -= timedelta(hours=2)
    service.tick_if_due()
    assert service.tally.ticks_count == 3, "a clock set back must not stop the evaluation"
