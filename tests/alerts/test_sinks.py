"""What goes over the wire: signed webhooks, PagerDuty events and Alertmanager sets, byte by byte."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from alerts.config import ReceiverConfig
from alerts.errors import ReceiverError
from alerts.message import Addresses, Context, body_of, view_of
from alerts.notify import Kind, Told
from alerts.outbox import Answer
from alerts.receivers import event_sink
from alerts.rule_files import load_rules
from alerts.sinks import alertmanager, pagerduty, webhook
from alerts.sinks.attempts import post, retry_after_seconds
from alerts.sinks.signatures import read_secrets, signature_headers, write_secret
from alerts.states import Instance, State

NOW = datetime(2026, 11, 21, 12)
GOLDEN = Path(__file__).parent.parent / "golden" / "alerts"
ROUTING_KEY = "0123456789abcdef0123456789abcdef"
BURNING = Instance(
    "3c59dc048e8850ab",
    {"slo": "ttft", "model": "llama-3.3-70b"},
    State.FIRING,
    since=NOW,
    active_at=NOW,
    fired_at=NOW,
    episode=1,
    value=21.4,
    threshold=14.4,
    details={
        "slo_title": "First token within 2 s",
        "sli": "ttft",
        "windows": "1h and 5m",
        "long_window": "1h",
        "bad": 412,
        "events": 1925,
        "budget": {"left_ratio": 0.625, "exhausted_in_seconds": 75600.0, "objective_ratio": 0.99, "window_days": 30},
    },
)
CONTEXT = Context(
    causes=(
        {"at": "2026-11-21T11:52:00.000000Z", "kind": "deploy", "summary": "11:52 UTC deploy: llama 0.31.0 -> 0.32.0"},
    ),
    trace_ids=("a" * 32, "b" * 32),
)


def view(instance=BURNING):
    rule = next(rule for rule in load_rules() if rule.uid == "slo-fast-burn")
    return view_of(rule, instance, Addresses("http://boards:8501", "http://alerts:8330"), CONTEXT)


def body(kind=Kind.FIRING, instance=BURNING):
    return body_of(view(instance), Told(kind, 1, NOW, NOW), "first_firing", "for_elapsed")


def over():
    from dataclasses import replace

    later = NOW + timedelta(minutes=42)
    return replace(BURNING, state=State.RESOLVED, since=later, resolved_at=later, value=0.0)


def golden(name, document):
    """Compare with the committed document; a missing one is shown as it would be, to be read and committed."""
    file = GOLDEN / f"{name}.json"
    text = json.dumps(json.loads(document), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert file.is_file(), f"no golden document {file.name}; it would be:\n{text}"
    assert text == file.read_text(encoding="utf-8")


def test_a_webhook_says_all_that_a_person_on_call_needs():
    golden("webhook_firing", webhook.encode(body()))
    golden("webhook_resolved", webhook.encode(body(Kind.RESOLVED, over())))


def test_a_webhook_stays_under_the_20_kb_that_receivers_take():
    from dataclasses import replace

    huge = replace(BURNING, labels={"slo": "x" * 50_000, "model": "m" * 500})
    assert len(webhook.encode(body())) < 4_000
    assert len(view(huge)["summary"]) <= 1_000


def test_a_pagerduty_event_says_it_in_pagerdutys_words():
    golden("pagerduty_trigger", pagerduty.encode(body(), ROUTING_KEY))
    golden("pagerduty_resolve", pagerduty.encode(body(Kind.RESOLVED, over()), ROUTING_KEY))


def test_trigger_repeat_and_resolve_share_a_dedup_key_that_pagerduty_takes():
    keys = {json.loads(pagerduty.encode(body(kind), ROUTING_KEY))["dedup_key"] for kind in Kind}
    assert len(keys) == 1
    assert len(keys.pop()) <= 255


def test_alertmanager_gets_firing_alerts_with_an_end_ahead_and_resolved_ones_with_their_end():
    encoded = alertmanager.encode([view(), view(over())], NOW + timedelta(minutes=45), timedelta(minutes=4))
    golden("alertmanager_alerts", encoded)


def test_alertmanager_hears_of_a_resolved_alert_for_a_quarter_of_an_hour():
    ends_after = timedelta(minutes=4)
    resolved_at = NOW + timedelta(minutes=42)
    assert alertmanager.encode([view(over())], resolved_at + timedelta(minutes=14), ends_after) != b"[]"
    assert alertmanager.encode([view(over())], resolved_at + timedelta(minutes=15), ends_after) == b"[]"


def test_a_signature_verifies_with_the_standard_library_of_the_specification():
    secret = write_secret(bytes(range(32)))
    now = datetime.now(UTC).replace(tzinfo=None)
    headers = signature_headers(read_secrets(secret), "evt_1", now, b'{"a":1}')
    assert Webhook(secret).verify(b'{"a":1}', headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b'{"a":2}', headers)


def test_during_a_rotation_every_secret_in_force_verifies():
    old, new = write_secret(b"o" * 32), write_secret(b"n" * 32)
    now = datetime.now(UTC).replace(tzinfo=None)
    headers = signature_headers(read_secrets(f"{new} {old}"), "evt_1", now, b"{}")
    assert Webhook(old).verify(b"{}", headers) == Webhook(new).verify(b"{}", headers) == {}


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!", "whsec_c2hvcnQ=", "hunter2"])
def test_a_secret_that_can_not_sign_is_refused_with_the_fix(secret):
    with pytest.raises(ReceiverError, match="fleetmeter alert secret"):
        read_secrets(secret)


MEANINGS = {
    "accepted": (200, 202, 204),
    "permanent": (301, 400, 401, 403, 404, 410, 413),
    "retryable": (408, 425, 429, 500, 502, 503),
}


@pytest.mark.parametrize(
    ("status", "answer"), [(status, answer) for answer, statuses in MEANINGS.items() for status in statuses]
)
def test_an_answer_means_accepted_try_again_or_never(status, answer):
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(status, text="no"))) as http:
        assert post(http, "http://receiver/", b"{}", {}).answer == Answer(answer)


def test_a_dead_network_is_worth_another_try_and_a_broken_address_is_not():
    def refuse(request):
        raise httpx.ConnectError("refused")

    with httpx.Client(transport=httpx.MockTransport(refuse)) as http:
        assert post(http, "http://receiver/", b"{}", {}).answer == Answer.RETRYABLE
    with httpx.Client() as http:
        assert post(http, "gopher://receiver/", b"{}", {}).answer == Answer.PERMANENT


def test_retry_after_is_read_as_seconds_or_as_a_date():
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert retry_after_seconds("120", now) == 120.0
    assert retry_after_seconds("Sat, 21 Nov 2026 12:00:30 GMT", now) == 30.0
    assert retry_after_seconds("Sat, 21 Nov 2026 11:00:00 GMT", now) == 0.0
    assert retry_after_seconds("soon", now) is None
    assert retry_after_seconds(None, now) is None


def test_secrets_come_from_the_environment_or_a_file_and_are_missed_at_start(tmp_path):
    webhook_config = ReceiverConfig(name="hook", kind="webhook", url="http://x/", secret_env="HOOK_SECRET")
    with pytest.raises(ReceiverError, match="receiver hook: set HOOK_SECRET"):
        event_sink(webhook_config, datetime.now, {})
    event_sink(webhook_config, datetime.now, {"HOOK_SECRET": write_secret(b"k" * 32)}).close()
    pager = ReceiverConfig(name="pager", kind="pagerduty", routing_key_file=tmp_path / "key")
    (tmp_path / "key").write_text("too short\n")
    with pytest.raises(ReceiverError, match="32 letters and digits"):
        event_sink(pager, datetime.now, {})


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"kind": "webhook", "url": "http://x/"}, "unsigned pages can be forged"),
        ({"kind": "webhook", "secret_env": "A"}, "needs a url"),
        ({"kind": "pagerduty"}, "needs routing_key_env"),
        ({"kind": "alertmanager", "url": "ftp://x"}, "begins with http"),
    ],
)
def test_a_receiver_that_could_never_be_spoken_to_is_refused(config, problem):
    with pytest.raises(ValueError, match=problem):
        ReceiverConfig(name="x", **config)
