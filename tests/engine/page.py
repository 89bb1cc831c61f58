"""What the exporter says on a real server's `/metrics`."""

import re
from collections import Counter

import httpx


def sums_by_team(text: str, name: str, *labels: str) -> Counter:
    """The sums of one of `infer_request_*` by team and further labels; over all models."""
    sums: Counter = Counter()
    name = name if name.endswith("_count") else f"{name}_total"
    for said, value in re.findall(rf"^infer_request_{name}\{{([^}}]*)\}} (\S+)$", text, re.MULTILINE):
        found = dict(re.findall(r'(\w+)="([^"]*)"', said))
        sums[(found["team"], *(found[label] for label in labels))] += float(value)
    return +sums


def exemplar_traces(url: str) -> set[str]:
    """The traces that the buckets of our latencies name, as OpenMetrics serves them."""
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    text = httpx.get(f"{url}/metrics/", headers=accept, timeout=20).raise_for_status().text
    return set(re.findall(r'^infer_request_\w+_bucket\{.*# \{.*trace_id="(\w+)"', text, re.MULTILINE))
