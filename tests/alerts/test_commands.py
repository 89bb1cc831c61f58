"""What people type: each command's answer, its errors with the fix, and its exit code."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

from alerts.errors import AlertsError, AlertsUnreachableError
from alerts.read_model import active_alerts, alert_history
from fleetmeter import cli, run

NOW = datetime(2026, 11, 21, 12)
SCENARIOS = Path(__file__).parent.parent / "scenarios"
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


@pytest.fixture
def fleetmeter(capsys, tmp_path):
    """Run one command; return its exit code, stdout and stderr."""
    (tmp_path / "fleetmeter.yaml").write_text(yaml.safe_dump({"alerts": {"state_dir": str(tmp_path)}}))

    def invoke(*arguments):
        command = [str(each) for each in arguments]
        code = run(cli, [*command, "--config", str(tmp_path / "fleetmeter.yaml")])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return invoke


@pytest.fixture
def state(fleet, service_of, tmp_path, clock):
    fleet.requests(60, ttft_seconds=3.0)
    service_of(RULES).once(NOW)
    return tmp_path / "state.sqlite"


def test_the_packaged_rules_have_no_findings(fleetmeter):
    code, out, err = fleetmeter("alert", "check")
    assert (code, out) == (0, "")
    assert "0 findings" in err


def test_a_rule_that_can_never_fire_is_a_finding(fleetmeter, tmp_path):
    slos = "- {name: ttft, sli: ttft, threshold_seconds: 2, objective_ratio: 0.99}"
    (tmp_path / "slos.yaml").write_text(slos)
    rule = {"uid": "r", "title": "R", "kind": "burn_rate", "severity": "page"}
    rule |= {
        "windows": [{"long": "1h", "short": "5m", "factor": 200}],
        "annotations": {"summary": "s", "runbook_url": "/"},
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"rules": [rule]}))
    code, out, _ = fleetmeter("alert", "check", tmp_path / "rules.yaml", "--slos", tmp_path / "slos.yaml")
    assert code == 1
    assert "can never burn at 200" in out


def test_a_wrong_rules_file_ends_with_2_and_every_problem(fleetmeter, tmp_path):
    (tmp_path / "rules.yaml").write_text("rules: [{uid: a, kind: thresold}, {uid: b}]")
    code, _, err = fleetmeter("alert", "check", tmp_path / "rules.yaml")
    assert code == 2
    assert "did you mean 'threshold'?" in err
    assert "rules[b].kind: missing" in err


def test_scenarios_are_played_and_a_failure_ends_with_1(fleetmeter, tmp_path):
    code, out, _ = fleetmeter("alert", "test", *sorted(SCENARIOS.glob("*.yaml")))
    assert code == 0
    assert "ok    firing=>resolved=>firing" in out
    (tmp_path / "wrong.yaml").write_text("- {name: wrong, ticks: [breach], path: []}")
    code, out, err = fleetmeter("alert", "test", tmp_path / "wrong.yaml")
    assert (code, out) == (1, "FAIL  wrong\n")
    assert "expected nothing; came pending(breach_began) firing(for_elapsed)" in err


def test_alerts_are_listed_from_a_state_file(fleetmeter, state):
    code, out, _ = fleetmeter("alert", "list", "--state", state)
    assert code == 0
    assert "slow" in out
    assert "llama waits 3 s" in out
    code, out, _ = fleetmeter("alert", "list", "--state", state, "--format", "json")
    (alert,) = yaml.safe_load(out)
    assert (alert["state"], alert["since"]) == ("firing", "2026-11-21T12:00:00Z")


def test_a_list_without_an_evaluator_ends_with_3_and_the_fix(fleetmeter):
    code, _, err = fleetmeter("alert", "list", "--url", "http://127.0.0.1:9")
    assert code == 3
    assert "start it with `fleetmeter alert run`" in err


def test_a_list_of_a_missing_state_file_ends_with_2(fleetmeter, tmp_path):
    code, _, err = fleetmeter("alert", "list", "--state", tmp_path / "nowhere.sqlite")
    assert code == 2
    assert "no alert state at" in err


def test_silences_are_added_listed_and_expired(fleetmeter, state):
    code, out, _ = fleetmeter("alert", "silence", "add", "model=llama", "severity=~page|ticket", "--comment", "known")
    assert code == 0
    name = out.strip()
    _, out, _ = fleetmeter("alert", "silence", "list")
    assert name in out
    assert "model=llama severity=~page|ticket" in out
    assert active_alerts(state)[0].silenced is True
    assert fleetmeter("alert", "silence", "expire", name[:4])[0] == 0
    assert " over " in fleetmeter("alert", "silence", "list")[1]
    assert active_alerts(state)[0].silenced is False


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("silence", "add", "model", "--comment", "x"), "write label=value"),
        (("silence", "add", "a=b", "--comment", "x", "--for", "soon"), "is not a duration"),
        (("silence", "expire", "nothing"), "no silence has an id"),
        (("run", "--at", "2026-11-21T12:00:00Z"), "--at goes with --once"),
        (("run", "--once", "--at", "noon"), "write it as 2026-11-21T10:00:00Z"),
        (("run", "--db", "x.duckdb"), "--db goes with --once"),
        (("run", "--once", "--db", "x.duckdb"), "no database at x.duckdb"),
        (("run", "--once", "--rules", "nowhere.yaml"), "no rules at nowhere.yaml"),
        (("receive", "--secret-env", "NO_SUCH_SECRET"), "set NO_SUCH_SECRET in the environment"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_how_to_mend_it(fleetmeter, arguments, problem):
    code, _, err = fleetmeter("alert", *arguments)
    assert code == 2
    assert problem in err


def test_a_new_secret_is_one_that_signs(fleetmeter):
    from alerts.sinks.signatures import read_secrets

    _, out, _ = fleetmeter("alert", "secret")
    assert len(read_secrets(out)[0]) == 32


def test_the_export_goes_to_stdout_or_a_file(fleetmeter, tmp_path):
    _, out, _ = fleetmeter("alert", "export-prometheus")
    fleetmeter("alert", "export-prometheus", "--output", tmp_path / "out.yaml")
    assert yaml.safe_load(out)["groups"]
    assert (tmp_path / "out.yaml").read_text() == out


def test_the_read_model_has_what_a_dashboard_shows(state):
    (alert,) = active_alerts(state)
    assert (alert.title, alert.severity, alert.state, alert.health) == ("Slow", "page", "firing", "ok")
    assert (alert.since, alert.fired_at, alert.resolved_at) == (NOW, NOW, None)
    assert (alert.value, alert.threshold, alert.value_text, alert.threshold_text) == (3.0, 1.0, "3 s", "1 s")
    assert alert.labels["model"] == "llama"
    assert set(alert.links) == {"dashboard", "runbook", "history", "trace"}
    assert len(alert.trace_ids) == 5
    assert alert.links["trace"].endswith(f"/requests?trace={alert.trace_ids[0]}")
    changes = alert_history(state, alert.fingerprint)
    assert [(change.after, change.reason) for change in changes] == [
        ("firing", "for_elapsed"),
        ("pending", "breach_began"),
    ]
    assert changes[0].at == NOW


def test_the_read_model_says_when_nobody_answers(tmp_path):
    with pytest.raises(AlertsUnreachableError):
        active_alerts("http://127.0.0.1:9")
    with pytest.raises(AlertsError, match="no alert state"):
        active_alerts(tmp_path / "none.sqlite")


def test_an_alert_long_over_is_not_listed(fleet, service_of, tmp_path, clock):
    fleet.requests(60, ttft_seconds=3.0)
    service = service_of(RULES)
    service.once(NOW)
    for minutes in (30, 95):
        fleet.requests(60, at=NOW + timedelta(minutes=minutes))
        service.once(NOW + timedelta(minutes=minutes))
    assert active_alerts(tmp_path / "state.sqlite") == []
