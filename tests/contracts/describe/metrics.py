"""docs/metrics.md, from the closed lists of names."""

from collector.self_metrics import SELF_METRICS
from engine_exporter import semconv
from tests.contracts.describe import markdown

INTRODUCTION = """\
Every attribute and metric that fleetmeter emits, stores or serves; `engine_exporter/semconv.py` is the list. Names of
OpenTelemetry's GenAI conventions where they exist, `infer.*` for the rest. Ratios are 0-1, times are seconds, input
tokens include the cached ones."""

ATTRIBUTES = f"""\
A span with `{semconv.OUTCOME}` is one row of `requests`. Each attribute fills one column; those of the resource may
stand on the span too, and the span's win. Everything else that a span carries is kept in `attributes`."""

METRICS = (
    "Series land in `metric_points` and `metric_histograms` under these names; unknown names are kept as they came."
)

ALIASES = "What vLLM's `/metrics` calls them, in versions 0.8 to 0.33."

SELF = "What the collector says about itself at `GET /metrics` on its API port. Counters get the suffix `_total`."


def page() -> str:
    return markdown.page(
        "Attributes and metrics",
        INTRODUCTION,
        "## Request attributes",
        ATTRIBUTES,
        attributes(),
        "## Metrics",
        METRICS,
        metrics(),
        "## vLLM's names",
        ALIASES,
        aliases(),
        "## The collector's own metrics",
        SELF,
        self_metrics(),
    )


def attributes() -> str:
    head = ("attribute", "column of `requests`", "type", "unit", "on", "meaning")
    return markdown.table(
        head,
        (
            (
                markdown.code(known.name),
                markdown.code(known.column),
                known.type,
                markdown.code(known.unit),
                "resource" if known.resource else "span",
                known.meaning,
            )
            for known in semconv.REQUEST_ATTRIBUTES
        ),
    )


def metrics() -> str:
    return markdown.table(
        ("metric", "kind", "unit", "meaning"),
        (
            (markdown.code(known.name), known.kind, markdown.code(known.unit), known.meaning)
            for known in semconv.METRICS
        ),
    )


def aliases() -> str:
    pairs = sorted(semconv.VLLM_METRICS.items())
    return markdown.table(("vLLM", "here"), ((markdown.code(name), markdown.code(ours)) for name, ours in pairs))


def self_metrics() -> str:
    return markdown.table(
        ("metric", "kind", "labels", "meaning"),
        (
            (markdown.code(known.name), known.kind, ", ".join(map(markdown.code, known.labels)), known.meaning)
            for known in SELF_METRICS
        ),
    )
