"""What is exported is what Prometheus accepts, and it fires when fleetmeter's own rule would."""

import subprocess
from dataclasses import replace

import pytest
import yaml

from alerts.prometheus_export import export
from alerts.rule_files import load_rules
from analytics.slo import load_definitions

DEFINITIONS = load_definitions(None)
HISTOGRAM = "vllm:request_time_per_output_token_seconds"


def exported(definitions=DEFINITIONS):
    text = export(load_rules(), definitions)
    return text, {rule["alert"]: rule for rule in yaml.safe_load(text)["groups"][0]["rules"]}


def test_what_can_not_be_expressed_is_named_with_its_reason():
    text, rules = exported()
    for line in (
        "# slo-fast-burn: SLO ttft: 2 s is no bucket bound of vllm:time_to_first_token_seconds",
        "# slo-fast-burn: SLO availability: vLLM counts no failed requests",
        "# error-ratio-high: error_ratio is in no metric of vLLM",
        "# stream-drift: drift needs the requests themselves",
    ):
        assert line in text
    assert {"slo-fast-burn-tpot", "ttft-p95-high", "kv-cache-full", "target-down", "watchdog"} <= set(rules)
    assert not {"error-ratio-high", "stream-drift", "budget-used", "gpu-xid"} & set(rules)


def test_an_slo_whose_threshold_is_a_bucket_bound_is_exported():
    _, rules = exported([replace(slo, threshold_seconds=2.5) if slo.name == "ttft" else slo for slo in DEFINITIONS])
    assert 'le="2.5"' in rules["slo-fast-burn-ttft"]["expr"]


def test_an_slo_of_one_team_is_not_exported():
    _, rules = exported([replace(slo, team="search") for slo in DEFINITIONS])
    assert not [name for name in rules if name.startswith("slo-")]


@pytest.fixture
def rules_file(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(exported()[0])
    return file


def promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)


@pytest.mark.prometheus
def test_prometheus_accepts_the_exported_rules(rules_file):
    checked = promtool("check", "rules", rules_file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout


def series(name, values, **labels):
    words = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{words}}}", "values": values}


def unit(name, inputs, at, *fired):
    alert = {"eval_time": at, "alertname": name, "exp_alerts": list(fired)}
    return {"interval": "1m", "input_series": inputs, "alert_rule_test": [alert]}


def fires(rule, **labels):
    return {"exp_labels": {"rule_uid": rule, **labels}}


@pytest.mark.prometheus
def test_the_exported_rules_fire_when_they_should_and_not_when_they_should_not(rules_file, tmp_path):
    bad = [
        series(f"{HISTOGRAM}_count", "0+100x120", model_name="m"),
        series(f"{HISTOGRAM}_bucket", "0+70x120", model_name="m", le="0.1"),
    ]
    good = [
        series(f"{HISTOGRAM}_count", "0+100x120", model_name="m"),
        series(f"{HISTOGRAM}_bucket", "0+99.5x120", model_name="m", le="0.1"),
    ]
    full = [series("vllm:kv_cache_usage_perc", "0.99x120", model_name="m", instance="a")]
    some = [series("vllm:kv_cache_usage_perc", "0.9x120", model_name="m", instance="a")]
    slow = [
        series("vllm:time_to_first_token_seconds_bucket", "0+0x120", model_name="m", le="5.0"),
        series("vllm:time_to_first_token_seconds_bucket", "0+60x120", model_name="m", le="+Inf"),
        series("vllm:time_to_first_token_seconds_bucket", "0+60x120", model_name="m", le="10.0"),
        series("vllm:time_to_first_token_seconds_count", "0+60x120", model_name="m"),
    ]
    rare = [{**each, "values": each["values"].replace("+60x", "+1x")} for each in slow]
    cases = [
        ("slo-fast-burn-tpot", bad, {"severity": "page", "model_name": "m"}),
        ("slo-fast-burn-tpot", good, None),
        ("kv-cache-full", full, {"severity": "ticket", "model_name": "m"}),
        ("kv-cache-full", some, None),
        ("ttft-p95-high", slow, {"severity": "ticket", "model_name": "m"}),
        ("ttft-p95-high", rare, None),
        ("target-down", [series("up", "0x120", instance="a")], {"severity": "ticket", "instance": "a"}),
        ("target-down", [series("up", "1x120", instance="a")], None),
        ("collector-unreachable", [series("fleetmeter_alerts_collector_up", "0x120")], {"severity": "page"}),
        ("collector-unreachable", [series("fleetmeter_alerts_collector_up", "1x120")], None),
    ]
    plain = yaml.safe_load(rules_file.read_text())
    for rule in plain["groups"][0]["rules"]:
        rule["annotations"] = {}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    tests = [
        unit(
            name,
            inputs,
            "90m",
            *([{"exp_labels": {"rule_uid": name.removesuffix("-tpot"), **labels}}] if labels else []),
        )
        for name, inputs, labels in cases
    ]
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["plain.yaml"], "tests": tests}))
    tested = promtool("test", "rules", tmp_path / "tests.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr
