"""Rules that Prometheus can express, as a rules file for it; of the others, why not.

Honest means: the same question from the metrics that a Prometheus has. Latency SLOs only where the threshold is a
bucket bound, percentiles with the word that they are interpolated between bounds, and nothing for error ratios (vLLM
counts no errors), drift and budgets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from alerts.config import Severity
from alerts.durations import write_duration
from alerts.kinds.burn_rate import chosen, window_pairs
from alerts.rules import BurnRateRule, InternalRule, Measure, RuleBase, ThresholdRule

if TYPE_CHECKING:
    from analytics.burn_windows import BurnWindow
    from analytics.slo import SloDefinition

FILE = Path(__file__).parent / "data" / "prometheus_metrics.yaml"
HEAD = """\
# Made by `fleetmeter alert export-prometheus`. For a Prometheus (2.42 or later) that scrapes vLLM's /metrics and the
# alerts API's /metrics. Percentiles are interpolated between bucket bounds; fleetmeter's own are exact.
"""
EVALUATOR_SILENT = {
    "alert": "fleetmeter-evaluator-silent",
    "expr": "time() - fleetmeter_alerts_last_tick_timestamp_seconds > 120",
    "for": "1m",
    "labels": {"severity": "page"},
    "annotations": {
        "summary": "fleetmeter's alert evaluator has not finished a tick for {{ $value | humanizeDuration }}"
    },
}

Expressed = tuple[str, str]
"""Name of the alert, expression."""


@cache
def known() -> dict[str, Any]:
    """Read what Prometheus can see."""
    import yaml

    document: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return document


def export(rules: Sequence[RuleBase], definitions: Sequence[SloDefinition]) -> str:
    """Write a rules file for Prometheus; what it can't express stands in comments, with the reason."""
    import yaml

    entries: list[dict[str, Any]] = []
    left_out: list[str] = []
    for rule in rules:
        for found in expressed(rule, definitions):
            if isinstance(found, str):
                left_out.append(f"# {rule.uid}: {found}")
            else:
                entries.append(entry(rule, *found))
    groups = {"groups": [{"name": "fleetmeter", "rules": [*entries, EVALUATOR_SILENT]}]}
    notes = "".join(f"{line}\n" for line in ("# Left to fleetmeter:", *left_out)) if left_out else ""
    return HEAD + notes + yaml.safe_dump(groups, sort_keys=False, width=1000, allow_unicode=True)


def expressed(rule: RuleBase, definitions: Sequence[SloDefinition]) -> Iterator[Expressed | str]:
    """Yield the expressions of a rule, or why there is none."""
    match rule:
        case ThresholdRule():
            yield threshold(rule)
        case BurnRateRule():
            for slo in chosen(rule, definitions):
                yield burn(rule, slo)
        case InternalRule():
            expression = known()["signals"].get(str(rule.signal))
            yield (rule.uid, expression) if expression else f"{rule.signal} is known to the evaluator alone"
        case _:
            yield f"{rule.kind} needs the requests themselves"


def threshold(rule: ThresholdRule) -> Expressed | str:
    """Express a threshold rule."""
    if rule.measure == Measure.TARGET_UP:
        return rule.uid, f"up {rule.op} {rule.threshold:g}"
    template = known()["measures"].get(str(rule.measure))
    if template is None:
        return f"{rule.measure} is in no metric of vLLM"
    grouping = known()["groupings"][str(rule.scope)]
    names = {"by": grouping, "window": write_duration(rule.window)}
    expression = f"{filled(template, names)} {rule.op} {rule.threshold:g}"
    if rule.models:
        return f"{rule.measure} of chosen models: add a matcher on model_name by hand"
    counts = known()["counts"].get(str(rule.measure))
    if rule.min_requests > 1 and counts:
        on = f"on ({grouping})"
        expression = f"{expression} and {on} {filled(counts, names)} >= {rule.min_requests}"
    return rule.uid, expression


def filled(template: str, names: dict[str, str]) -> str:
    """Fill in grouping and window; grouping by nothing leaves `by ()`, which is the whole."""
    return Template(template).substitute(names).replace("(le, )", "(le)")


def burn(rule: BurnRateRule, slo: SloDefinition) -> Expressed | str:
    """Express one SLO of a burn-rate rule."""
    latency = known()["latency"].get(slo.sli)
    if latency is None or slo.threshold_seconds is None:
        return f"SLO {slo.name}: vLLM counts no failed requests"
    if slo.team is not None:
        return f"SLO {slo.name}: vLLM knows no teams"
    if float(slo.threshold_seconds) not in [float(bound) for bound in latency["bounds"]]:
        return f"SLO {slo.name}: {slo.threshold_seconds:g} s is no bucket bound of {latency['metric']}"
    pairs = [pair_expression(pair, slo, latency["metric"]) for pair in window_pairs(rule)]
    return f"{rule.uid}-{slo.name}", " or ".join(pairs)


def pair_expression(pair: BurnWindow, slo: SloDefinition, metric: str) -> str:
    """Express one window pair: both windows burn at the factor, and enough requests were bad."""
    matcher = f'model_name="{slo.model}"' if slo.model is not None else ""
    limit = f"{pair.factor:g} * {slo.allowed_ratio:g}"
    long, short = (bad_ratio(metric, matcher, slo, window) for window in (pair.long_window, pair.short_window))
    bad = bad_events(metric, matcher, slo, pair.long_window)
    return f"({long} >= {limit} and {short} >= {limit} and {bad} >= {pair.min_bad_count})"


def bad_ratio(metric: str, matcher: str, slo: SloDefinition, window: str) -> str:
    """Express the share of requests above the threshold."""
    all_of = f"sum by (model_name) (rate({metric}_count{{{matcher}}}[{window}]))"
    good = f"sum by (model_name) (rate({metric}_bucket{{{bounded(matcher, slo)}}}[{window}]))"
    return f"1 - {good} / {all_of}"


def bad_events(metric: str, matcher: str, slo: SloDefinition, window: str) -> str:
    """Express how many requests were above the threshold."""
    all_of = f"sum by (model_name) (increase({metric}_count{{{matcher}}}[{window}]))"
    good = f"sum by (model_name) (increase({metric}_bucket{{{bounded(matcher, slo)}}}[{window}]))"
    return f"{all_of} - {good}"


def bounded(matcher: str, slo: SloDefinition) -> str:
    """Match the bucket that ends at the threshold."""
    bound = f'le="{float(slo.threshold_seconds or 0)}"'
    return f"{matcher},{bound}" if matcher else bound


def entry(rule: RuleBase, name: str, expression: str) -> dict[str, Any]:
    """Lay out one rule as Prometheus reads it."""
    made: dict[str, Any] = {"alert": name, "expr": expression}
    if rule.for_:
        made["for"] = write_duration(rule.for_)
    if rule.keep_firing_for:
        made["keep_firing_for"] = write_duration(rule.keep_firing_for)
    made["labels"] = {**rule.labels, "rule_uid": rule.uid, "severity": str(Severity(rule.severity))}
    made["annotations"] = {"summary": f"{rule.title}: {{{{ $value | humanize }}}} {{{{ $labels.model_name }}}}"}
    if "{" not in rule.annotations.description:
        made["annotations"]["description"] = rule.annotations.description
    made["annotations"]["runbook"] = rule.annotations.runbook_url
    return made
