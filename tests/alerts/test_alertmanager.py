"""A real Alertmanager takes our alerts and brings them to a webhook: firing once, resolved once."""

import contextlib
import json
import shutil
import subprocess
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import yaml

from alerts.alertmanager_feed import AlertmanagerFeed
from alerts.clock import iso, utc_now
from alerts.config import ReceiverConfig
from alerts.outbox import Answer
from alerts.receivers import alertmanager_sink
from alerts.state_store import StateStore

RULES = """
rules:
  - uid: slow
    title: Slow
    kind: threshold
    severity: page
    measure: ttft_p95_seconds
    window: 10m
    op: ">"
    threshold: 1
    annotations: {summary: "{model} waits {value}", runbook_url: /runbooks/latency}
"""


class Listener:
    """Takes what Alertmanager sends."""

    def __init__(self):
        self.alerts = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                listener.alerts += body["alerts"]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def eventually(condition, *, within=30.0):
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found


@pytest.fixture
def listener():
    made = Listener()
    yield made
    made.stop()


@pytest.fixture
def alertmanager(tmp_path, listener):
    config = {
        "route": {"receiver": "hook", "group_wait": "0s", "group_interval": "1s", "group_by": ["..."]},
        "receivers": [{"name": "hook", "webhook_configs": [{"url": f"http://127.0.0.1:{listener.port}/"}]}],
    }
    (tmp_path / "am.yml").write_text(yaml.safe_dump(config))
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    command = [binary, f"--config.file={tmp_path}/am.yml", f"--storage.path={tmp_path}/am"]
    process, url = started(command)
    try:
        if not answers(process, url):  # its port was taken in between
            process, url = started(command)
            assert answers(process, url), "Alertmanager ended"
        yield url
    finally:
        process.terminate()
        process.wait(60)


def started(command):
    """Start an Alertmanager on a port of its own; return it and its address."""
    with socket_port() as port:
        pass
    own = ["--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen([*command, *own], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return process, f"http://127.0.0.1:{port}"


def answers(process, url):
    """Wait until it is ready; False where it has ended."""

    def ready():
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{url}/-/ready", timeout=60).status_code == 200
        return False

    eventually(lambda: process.poll() is not None or ready(), within=60)
    return process.poll() is None


class socket_port:
    """A port that was free a moment ago."""

    def __enter__(self):
        import socket

        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        return self.socket.getsockname()[1]

    def __exit__(self, *error):
        self.socket.close()


@pytest.mark.alertmanager
def test_an_alert_goes_through_a_real_alertmanager_and_back_out(fleet, service_of, alertmanager, listener, clock):
    clock.now = utc_now()
    fleet.requests(60, ttft_seconds=3.0, at=clock.now)
    receiver = {"name": "am", "kind": "alertmanager", "url": alertmanager}
    service = service_of(RULES, receivers=[receiver])
    service.once(clock.now)
    (alert,) = eventually(lambda: listener.alerts)
    assert alert["status"] == "firing"
    assert alert["labels"] == {"alertname": "slow", "rule_uid": "slow", "severity": "page", "model": "llama"}
    assert alert["annotations"]["summary"] == "llama waits 3 s"
    assert alert["annotations"]["runbook_url"] == "http://alerts/runbooks/latency"
    assert alert["annotations"]["trace_ids"].split()
    for _ in range(5):
        service.feeds[0].send()
    clock.now += timedelta(minutes=12)
    fleet.requests(60, at=clock.now)
    listener.alerts.clear()
    service.evaluator.tick(clock.now, clock.now, clock.now)
    clock.now = utc_now()
    resolved_in_the_past(service)
    service.feeds[0].send()
    assert [each["status"] for each in eventually(lambda: listener.alerts)] == ["resolved"]


def resolved_in_the_past(service):
    """Alertmanager goes by the wall clock: let the end be now."""
    views = service._store.views()
    moment = iso(utc_now())
    with service._store.transaction() as db:
        for key, view in views.items():
            if view["state"] == "resolved":
                text = json.dumps({**view, "resolved_at": moment, "changed_at": moment})
                db.execute("UPDATE instances SET view = ? WHERE fingerprint = ?", (text, key))


@pytest.mark.alertmanager
def test_an_alertmanager_that_does_not_answer_is_noted_and_tried_again(tmp_path, clock):
    with socket_port() as port:
        config = ReceiverConfig(name="am", kind="alertmanager", url=f"http://127.0.0.1:{port}")
    store = StateStore(tmp_path / "s.sqlite")
    feed = AlertmanagerFeed(config, alertmanager_sink(config, {}), store, clock, 60)
    assert feed.send().answer == Answer.ACCEPTED, "nothing to tell needs no Alertmanager"
    view = dict.fromkeys(("description", "value_text", "threshold_text"), "")
    view |= {"state": "firing", "fired_at": "2026-11-21T12:00:00Z", "severity": "page", "sign_of_life": False}
    view |= {"kind": "x", "labels": {"a": "b"}, "rule_uid": "r", "title": "t", "summary": "s", "trace_ids": []}
    view |= {"causes": [], "links": {"runbook": "", "dashboard": ""}}
    with store.transaction() as db:
        db.execute("INSERT INTO instances VALUES ('r', 'f', 'firing', '{}', ?)", (json.dumps(view),))
    assert feed.send().answer == Answer.RETRYABLE
    assert store.syncs()[0]["last_error"]
    feed.close()
    store.close()
