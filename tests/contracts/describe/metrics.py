"""docs/metrics.md, from the closed lists of names."""

from collector.self_metrics import SELF_METRICS
from engine_exporter import alias_tables, semconv
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

GPUS = """\
Of one GPU. Those with a column fill a row of `gpu_samples`; the others land as series with `hw.id`."""

ALIASES = """\
What engines, gateways and GPU exporters call them. The tables are `engine_exporter/data/*/*.yaml`, with sources,
versions, labels and what is kept under its own name. Where a server has several names for one thing, the first
is read."""

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
        "## GPUs",
        GPUS,
        gpus(),
        "## What others call them",
        ALIASES,
        *aliases(),
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


def gpus() -> str:
    rows = [(one, one.column) for one in semconv.GPU_METRICS] + [(one, "") for one in semconv.GPU_SERIES]
    return markdown.table(
        ("metric", "column of `gpu_samples`", "kind", "unit", "meaning"),
        (
            (
                markdown.code(one.name),
                markdown.code(column) if column else "",
                one.kind,
                markdown.code(one.unit),
                one.meaning,
            )
            for one, column in rows
        ),
    )


def aliases() -> list[str]:
    parts = []
    for table in alias_tables.tables():
        parts.append(f"### {table.title}")
        parts.append(
            markdown.table(
                (f"behind `{table.prefixes[0]}`", "here", "versions"),
                ((markdown.code(one.name), markdown.code(one.to), versions(one)) for one in table.metrics.values()),
            )
        )
    return parts


def versions(alias: alias_tables.Alias) -> str:
    since = f"since {alias.since}" if alias.since else ""
    until = f"until {alias.until}" if alias.until else ""
    when = f"with {alias.when}" if alias.when else ""
    return ", ".join(filter(None, (since, until, when)))


def self_metrics() -> str:
    return markdown.table(
        ("metric", "kind", "labels", "meaning"),
        (
            (markdown.code(known.name), known.kind, ", ".join(map(markdown.code, known.labels)), known.meaning)
            for known in SELF_METRICS
        ),
    )
