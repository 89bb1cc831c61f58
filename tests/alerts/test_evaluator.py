"""One tick after another over a real file: who is told what, and what a broken part does to the rest."""

from datetime import datetime, timedelta

import pytest

from alerts.answers import alerts_document
from alerts.errors import ClockError
from alerts.silences import Silence, parse_matcher, write_silence
from alerts.state_store import StateStore
from alerts.states import Health
from collector.errors import RetryableError

NOW = datetime(2026, 11, 21, 12)
HOOK = {"name": "hook", "kind": "webhook", "url": "http://127.0.0.1:9/"}
SLOW = """
rules:
  - uid: slow
    title: Slow
    kind: threshold
    severity: {severity}
    measure: ttft_p95_seconds
    scope: model
    window: 10m
    op: ">"
    threshold: 1
    annotations: {{summary: "{{model}} waits {{value}} since {{since}}", runbook_url: /runbooks/latency, dashboard: /}}
"""
BROKEN = """
  - uid: broken
    title: Broken
    kind: burn_rate
    severity: page
    slos: [no-such-slo]
    windows: [fast]
    annotations: {summary: s, runbook_url: /runbooks/slo-burn}
"""


class Deaf:
    """A client of a collector that does not answer."""

    def query(self, sql, parameters=None):
        raise RetryableError("no collector answers")

    def close(self):
        pass


@pytest.fixture
def hook(secret_file, receiver):
    return {"name": "hook", "kind": "webhook", "url": f"http://127.0.0.1:{receiver.port}/", "secret_file": secret_file}


def rules(severity="page", more=""):
    return SLOW.format(severity=severity) + more


def alerts_of(service):
    found = alerts_document(service._store, NOW)["alerts"]
    return {alert["rule_uid"]: alert for alert in found}


def kinds(service):
    return [delivery.kind for delivery in reversed(service._store.deliveries())]


def test_a_breach_pages_with_its_likely_cause_and_its_worst_traces(fleet, service_of, hook):
    fleet.requests(60, ttft_seconds=3.0)
    fleet.requests(1, ttft_seconds=7.5)
    fleet.event("deploy", "llama: vLLM 0.31.0 -> 0.32.0", at=NOW - timedelta(minutes=20))
    fleet.event("deploy", "other: unrelated", at=NOW - timedelta(minutes=20), model="other")
    service = service_of(rules(), receivers=[hook])
    service.once(NOW)
    alert = alerts_of(service)["slow"]
    assert alert["state"] == "firing"
    assert alert["summary"] == "llama waits 3 s since 2026-11-21 12:00 UTC"
    assert [cause["summary"] for cause in alert["causes"]] == ["11:40 UTC deploy: llama: vLLM 0.31.0 -> 0.32.0"]
    assert alert["trace_ids"][0] == f"{61:032x}"
    assert alert["links"]["dashboard"].startswith("http://boards/?model=llama&from=2026-11-21T11%3A30%3A00")
    assert alert["deliveries"][0]["status"] == "delivered"


def test_a_reader_between_two_ticks_sees_one_of_them_and_never_half_of_the_other(fleet, service_of, store, monkeypatch):
    fleet.requests(60, ttft_seconds=3.0)
    service, reads = service_of(rules(), store=StateStore(store.path)), []
    ask = store.rows

    def rows(*question):
        found = ask(*question)
        if not reads:
            service.once(NOW)
        reads.append(question)
        return found

    monkeypatch.setattr(store, "rows", rows)
    before = alerts_document(store, NOW)
    assert (before["alerts"], before["last_tick_at"]) == ([], None)
    assert len(reads) > 1
    after = alerts_document(store, NOW)
    assert [each["rule_uid"] for each in after["alerts"]] == ["slow"]
    assert after["last_tick_at"] is not None


def test_a_page_is_written_and_told_before_the_other_rules_are_looked_at(fleet, service_of, hook, clock):
    fleet.requests(60, ttft_seconds=3.0)
    ticket = rules("ticket").split("rules:\n")[1].replace("uid: slow", "uid: another").replace("10m", "5m")
    service = service_of(rules(more=ticket), receivers=[hook])
    store, heard = service._store, []

    def note():
        heard.append((kinds(service), set(store.rule_states()), store.last_tick()))

    report = service.evaluator.tick(NOW, NOW, NOW, note)
    assert heard == [(["firing"], {"slow"}, None)], "the tick has not ended"
    assert store.rule_states().keys() >= {"slow", "another", "watchdog"} and store.last_tick() == NOW
    assert report.rules_count == len(service.evaluator.rules)
    assert next(each.rule_uid for each in report.transitions) == "slow"
    clock.advance(60)
    fleet.requests(60, ttft_seconds=3.0, at=clock.now)
    service.evaluator.tick(clock.now, clock.now, clock.now, note)
    assert len(heard) == 1, "nothing new to send"


def test_nothing_is_said_of_a_rule_before_it_was_judged(fleet, service_of, hook, receiver, clock):
    """A ticket that is over at this tick, and was due to be repeated: it is told to be over, and not again to be."""
    paging = (
        rules("page").split("rules:\n")[1].replace("uid: slow", "uid: paging").replace("threshold: 1", "threshold: 99")
    )
    fleet.requests(60, ttft_seconds=3.0)
    service = service_of(rules("ticket", more=paging), receivers=[hook], repeat_seconds=1200)
    service.once(NOW)
    clock.advance(1200)
    fleet.requests(60, at=clock.now)
    service.evaluator.tick(clock.now, clock.now, clock.now, service.couriers[0].deliver_due)
    assert kinds(service) == ["firing", "resolved"]


def test_a_page_for_alertmanager_alone_is_carried_before_the_rest_too(fleet, service_of):
    fleet.requests(60, ttft_seconds=3.0)
    service = service_of(rules(), receivers=[{"name": "am", "kind": "alertmanager", "url": "http://127.0.0.1:9"}])
    heard = []
    service.evaluator.tick(NOW, NOW, NOW, lambda: heard.append(service._store.last_tick()))
    assert heard == [None]


def test_the_end_of_a_breach_is_told_and_keeps_what_was_known(fleet, service_of, hook, receiver, clock):
    fleet.requests(60, ttft_seconds=3.0)
    service = service_of(rules(), receivers=[hook])
    service.once(NOW)
    traces = alerts_of(service)["slow"]["trace_ids"]
    clock.advance(1200)
    fleet.requests(60, at=clock.now)
    service.once(clock.now)
    alert = alerts_of(service)["slow"]
    assert (alert["state"], alert["summary"]) == ("resolved", "Over after 20 min: Slow (llama)")
    assert alert["trace_ids"] == traces
    assert [each.message["type"] for each in receiver.received] == ["alert.firing", "alert.resolved"]


def test_a_broken_rule_stops_no_other_and_is_told_after_three_tries(fleet, service_of, hook, clock):
    service = service_of(rules(more=BROKEN), receivers=[hook])
    for _ in range(6):
        fleet.requests(60, ttft_seconds=3.0, at=clock.now)
        report = service.once(clock.now)
        assert report.failed.keys() == {"broken"}
        assert "known are availability, tpot, ttft" in report.failed["broken"]
        clock.advance(60)
    assert alerts_of(service)["slow"]["state"] == "firing"
    told = alerts_of(service)["rule-error"]
    assert (told["state"], told["labels"]["rule"]) == ("firing", "broken")
    assert "no SLO is named no-such-slo" in told["summary"]


def test_a_collector_that_does_not_answer_freezes_everything_and_is_one_alert(fleet, service_of, hook, clock):
    fleet.requests(60, ttft_seconds=3.0)
    first = service_of(rules(more=BROKEN), receivers=[hook])
    first.once(NOW)
    blind = service_of(rules(more=BROKEN), receivers=[hook], store=first._store, client=Deaf())
    for _ in range(12):
        clock.advance(60)
        assert blind.once(clock.now).unreachable == "no collector answers"
    alerts = alerts_of(blind)
    assert (alerts["slow"]["state"], alerts["slow"]["health"]) == ("firing", "error")
    assert alerts["collector-unreachable"]["state"] == "firing"
    assert "rule-error" not in alerts
    assert "ingest-stale" not in alerts


def test_stale_telemetry_freezes_everything_and_is_one_alert(fleet, service_of, hook, clock):
    fleet.requests(60, ttft_seconds=3.0)
    service = service_of(rules(), receivers=[hook])
    service.once(NOW)
    for _ in range(25):
        clock.advance(60)
        service.once(clock.now)
    alerts = alerts_of(service)
    assert (alerts["slow"]["state"], alerts["slow"]["health"]) == ("firing", "stale")
    assert alerts["ingest-stale"]["state"] == "firing"
    assert alerts["rule-no-data"]["state"] == "pending", "what stale telemetry can't show is held, not raised"


def test_a_fleet_without_any_telemetry_is_told_once_not_per_rule(fleet, service_of, hook, clock):
    service = service_of(None, receivers=[hook])
    for _ in range(20):
        service.once(clock.now)
        clock.advance(60)
    assert set(alerts_of(service)) == {"ingest-stale"}
    summary = alerts_of(service)["ingest-stale"]["summary"]
    assert summary == "Alerts are blind: no telemetry has ever arrived (limit 15 min)"


def test_a_healthy_fleet_raises_nothing(fleet, service_of, hook, clock):
    service = service_of(None, receivers=[hook])
    for _ in range(20):
        fleet.requests(120, at=clock.now, over=timedelta(seconds=50))
        report = service.once(clock.now)
        assert report.failed == {}
        clock.advance(60)
    assert alerts_of(service) == {}
    assert kinds(service) == []


def test_a_silence_holds_back_the_message_and_its_end_lets_it_go(fleet, service_of, hook, clock):
    fleet.requests(60, ttft_seconds=3.0)
    service = service_of(rules(), receivers=[hook])
    until = NOW + timedelta(minutes=3)
    write_silence(service._store, Silence("s", (parse_matcher("model=llama"),), NOW, until, "known", "me"))
    service.once(NOW)
    assert kinds(service) == []
    assert alerts_of(service)["slow"]["silenced"] is True
    clock.advance(180)
    service.once(clock.now)
    assert kinds(service) == ["firing"]


def test_a_page_hides_the_ticket_of_the_same_slo_and_model(fleet, service_of, hook):
    fleet.requests(200, ttft_seconds=9.0)
    service = service_of(None, receivers=[hook])
    service.once(NOW)
    alerts = alerts_of(service)
    assert alerts["slo-fast-burn"]["state"] == alerts["slo-slow-burn"]["state"] == "firing"
    told = [delivery.fingerprint for delivery in service._store.deliveries()]
    assert alerts["slo-fast-burn"]["fingerprint"] in told
    assert alerts["slo-slow-burn"]["fingerprint"] not in told


def test_only_the_severities_of_a_receiver_reach_it(fleet, service_of, hook):
    fleet.requests(60, ttft_seconds=3.0)
    service = service_of(rules("ticket"), receivers=[hook | {"severities": ["page"]}])
    service.once(NOW)
    assert kinds(service) == []


def test_the_watchdog_reaches_only_who_asked_for_it_and_is_no_alert_of_the_list(fleet, service_of, hook, receiver):
    fleet.requests(10)
    service = service_of(rules(), receivers=[hook | {"watchdog": True}])
    service.once(NOW)
    assert [each.message["data"]["alert"]["rule_uid"] for each in receiver.received] == ["watchdog"]
    assert alerts_of(service) == {}


def test_a_dead_receiver_is_told_to_the_others(fleet, service_of, hook, receiver, secret_file, clock):
    fleet.requests(60, ttft_seconds=3.0)
    from alerts.webhook_receiver import Fault, WebhookReceiver

    gone = WebhookReceiver(receiver.secret, fault=lambda: Fault.GONE)
    address = gone.start()
    dead = {"name": "gone", "kind": "webhook", "url": address, "secret_file": secret_file}
    service = service_of(rules(), receivers=[hook, dead])
    service.once(NOW)
    clock.advance(60)
    fleet.requests(60, ttft_seconds=3.0, at=clock.now)
    service.once(clock.now)
    gone.stop()
    told = [each.message["data"]["alert"] for each in receiver.received]
    assert [alert["rule_uid"] for alert in told] == ["slow", "delivery-failed"]
    assert told[1]["labels"]["receiver"] == "gone"
    statuses = {(each.receiver, str(each.status)) for each in service._store.deliveries()}
    assert statuses == {("hook", "delivered"), ("gone", "dead")}


def test_a_restart_pages_nobody_twice(fleet, service_of, hook, receiver, clock, tmp_path):
    fleet.requests(60, ttft_seconds=3.0)
    first = service_of(rules(), receivers=[hook])
    first.once(NOW)
    clock.advance(60)
    again = service_of(rules(), receivers=[hook], store=StateStore(tmp_path / "state.sqlite"))
    again.once(clock.now)
    assert len(receiver.received) == 1
    assert alerts_of(again)["slow"]["since"].startswith("2026-11-21T12:00:00")


def test_a_rule_that_is_deleted_closes_its_alerts(fleet, service_of, hook, receiver, clock):
    fleet.requests(60, ttft_seconds=3.0)
    first = service_of(rules(), receivers=[hook])
    first.once(NOW)
    clock.advance(60)
    fleet.requests(60, at=clock.now)
    other = rules().replace("uid: slow", "uid: slower").replace("threshold: 1", "threshold: 100")
    service_of(other, receivers=[hook], store=first._store).once(clock.now)
    assert [each.message["type"] for each in receiver.received] == ["alert.firing", "alert.resolved"]
    assert receiver.received[1].message["data"]["reason"] == "rule_deleted"


def test_an_edited_rule_closes_its_alerts_and_other_words_do_not(fleet, service_of, hook, receiver, clock):
    fleet.requests(60, ttft_seconds=3.0)
    first = service_of(rules(), receivers=[hook])
    first.once(NOW)
    clock.advance(60)
    reworded = service_of(rules().replace("title: Slow", "title: Very slow"), receivers=[hook], store=first._store)
    reworded.once(clock.now)
    assert len(receiver.received) == 1
    assert alerts_of(reworded)["slow"]["title"] == "Very slow"
    clock.advance(60)
    edited = service_of(rules().replace("threshold: 1", "threshold: 2"), receivers=[hook], store=first._store)
    edited.once(clock.now)
    types = [each.message["type"] for each in receiver.received]
    assert types == ["alert.firing", "alert.resolved", "alert.firing"]
    assert receiver.received[1].message["data"]["reason"] == "rule_updated"


def test_too_many_alerts_of_a_rule_are_one_alert_more(fleet, service_of, hook, clock):
    for number in range(5):
        fleet.requests(2, model=f"m{number}", ttft_seconds=3.0)
    limited = rules().replace("    scope: model", "    scope: model\n    limit: 3")
    service = service_of(limited, receivers=[hook])
    service.once(NOW)
    service.once(NOW + timedelta(seconds=60))
    found = alerts_document(service._store, NOW)["alerts"]
    assert sum(1 for alert in found if alert["rule_uid"] == "slow") == 3
    assert alerts_of(service)["too-many-alerts"]["summary"].endswith("2 more are not raised one by one")


def test_an_evaluation_time_before_what_is_already_evaluated_is_refused(fleet, service_of):
    service = service_of(rules())
    service.once(NOW)
    with pytest.raises(ClockError, match="already evaluated up to 2026-11-21T12:00:00"):
        service.once(NOW - timedelta(hours=1))


def test_rules_are_evaluated_once_in_each_of_their_intervals(fleet, service_of):
    fleet.requests(10)
    service = service_of(rules().replace("severity: page", "severity: page\n    interval: 5m"))
    assert service.once(NOW).rules_count > 7
    assert "slow" not in due_after(service, 60)
    assert "slow" in due_after(service, 300)


def due_after(service, seconds):
    from alerts.evaluator import is_due

    at = NOW + timedelta(seconds=seconds)
    evaluator = service.evaluator
    return {uid for uid, rule in evaluator.rules.items() if is_due(rule, evaluator._states.get(uid), at)}


def test_health_says_why_an_alert_is_frozen(fleet, service_of):
    service = service_of(rules(more=BROKEN))
    fleet.requests(10)
    service.once(NOW)
    assert service._store.rule_states()["broken"].health == Health.ERROR
