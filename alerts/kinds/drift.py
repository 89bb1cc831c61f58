"""Drift rules: what analytics' scan calls drifted, one alert per stream."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alerts.kinds.surroundings import Surroundings
from alerts.rules import DriftRule
from alerts.states import Sample


def samples(rule: DriftRule, around: Surroundings, now: datetime) -> list[Sample]:
    """Judge every stream: one row per (model, team, metric); a stream that can't be judged holds its alert."""
    from analytics.drift import drift_scan

    frame = drift_scan(around.client, now, config=around.analytics.drift)
    return [
        judge(row)
        for row in frame.iter_rows(named=True)
        if (not rule.metrics or row["metric"] in rule.metrics) and (not rule.models or row["model"] in rule.models)
    ]


def judge(row: Mapping[str, Any]) -> Sample:
    """Take over the verdict on one stream."""
    labels = {"model": str(row["model"]), "metric": str(row["metric"])}
    if row["team"] is not None:
        labels["team"] = str(row["team"])
    names = ("current_count", "reference_count", "current_median", "reference_median", "q_value", "reason")
    details = {name: row[name] for name in names}
    return Sample(labels, row["drifted"], row["statistic"], row["effect_threshold"], details)
