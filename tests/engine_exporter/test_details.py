"""Details are sampled, money is not: every request has its row, whatever is sampled."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from collector.decode_traces import decode_traces
from engine_exporter import semconv
from engine_exporter.detail_sampling import DetailSampler, Reason, cost_of
from engine_exporter.phase_spans import Phases, placed, with_phases
from engine_exporter.testing import FakeVllm, Reply, exporter_for_tests, post
from engine_exporter.vllm_middleware import FleetmeterMiddleware

CHAT = {"model": "base", "stream": True}
STREAM_500 = {"error": {"code": 500, "type": "InternalServerError"}}
NO_LIMITS = {"slo_thresholds_seconds": {}}
MONEY = ("outcome", "team", "input_tokens", "cached_tokens", "output_tokens", "prefill_seconds", "decode_seconds")


def spans_of(replies, **config):
    bench = exporter_for_tests(team_header="x-team", trust_any_peer=True, **config)
    numbers = iter(range(1, 10**9))
    bench.exporter.random_bits = lambda bits: (next(numbers) * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**bits or 1
    engine = FakeVllm(bench)
    app = FleetmeterMiddleware(engine, bench.exporter)

    async def go():
        for index, reply in enumerate(replies):
            engine.reply = reply
            await post(app, body=CHAT, headers={"x-team": f"team-{index % 3}"})

    asyncio.run(go())
    return bench


def landed(spans):
    """The rows that a collector makes of spans, by table."""
    decoded = decode_traces(encode_spans(with_phases(spans)).SerializeToString(), 2_000_000_000_000_000)
    assert not decoded.rejected
    tables = decoded.built() if hasattr(decoded, "built") else decoded.tables
    return {name: table.to_pylist() for name, table in tables.items()}


def test_a_detailed_request_has_its_phases_as_synthetic_children_that_nobody_counts_as_requests():
    bench = spans_of([Reply(chunks=4)], detail_base_ratio=1)
    (span,) = bench.queue.spans
    rows = landed([span])
    assert len(rows["requests"]) == 1
    children = {row["name"]: row for row in rows["spans"]}
    assert list(children) == ["queue", "prefill", "decode"]
    for row in children.values():
        assert dict(row["attributes"])[semconv.SYNTHETIC] in ("true", "True")
        assert row["parent_span_id"] == f"{span.context.span_id:016x}"
        assert row["trace_id"] == f"{span.context.trace_id:032x}"
    assert children["prefill"]["duration_seconds"] == pytest.approx(0.4)
    assert children["prefill"]["ended_at"] == children["decode"]["started_at"]


MIX = [Reply(chunks=3)] * 40 + [Reply(error=STREAM_500, error_after=2)] * 3 + [Reply(chunks=3, first_seconds=9.0)] * 2


def test_totals_are_the_same_whatever_is_sampled():
    def totals(**config):
        rows = landed(spans_of(MIX, **NO_LIMITS, **config).queue.spans)["requests"]
        return sorted(str([row[name] for name in MONEY]) for row in rows)

    everything = totals(detail_base_ratio=1)
    assert len(everything) == len(MIX)
    assert totals(detail_base_ratio=0, detail_top_cost_ratio=0) == everything
    assert totals(detail_base_ratio=0.3) == everything


def test_all_errors_and_breaches_are_detailed_and_ordinary_requests_are_not():
    bench = spans_of(MIX, detail_base_ratio=0, detail_top_cost_ratio=0, slo_thresholds_seconds={"ttft": [2.0]})
    reasons = Counter(span.attributes.get(semconv.DETAIL) for span in bench.queue.spans)
    assert reasons == {"error": 3, "slo_breach": 2, None: 40}
    assert sum(span.phases is not None for span in bench.queue.spans) == 5
    assert bench.exporter.details["error"] == 3


def test_the_base_rate_is_a_share_by_trace():
    sampler = DetailSampler(0.1, 0)
    traces = [(number * 0x9E3779B97F4A7C15) % 2**64 for number in range(1, 5001)]
    chosen = [trace for trace in traces if sampler.reason(False, False, None, trace)]
    assert 0.08 < len(chosen) / len(traces) < 0.12
    assert all(sampler.reason(False, False, None, trace) is Reason.BASE_RATE for trace in chosen)


def test_the_most_expensive_requests_are_detailed():
    sampler = DetailSampler(0, 0.01)
    costs = [float(number * 617 % 1000) for number in range(5000)]
    reasons = [sampler.reason(False, False, ("seconds", cost), 2**63) for cost in costs]
    chosen = [cost for cost, reason in zip(costs, reasons, strict=True) if reason is Reason.TOP_COST]
    assert 0.002 < len(chosen) / len(costs) < 0.02 and min(chosen) > 950
    same = DetailSampler(0, 0.01)
    assert not any(same.reason(False, False, ("tokens", 7.0), 2**63) for _ in range(1000)), "all alike: none stands out"


def test_cost_is_a_share_of_steps_where_it_is_known_and_tokens_elsewhere():
    assert cost_of(0.5, None, 10, 0, 1) == ("seconds", 0.5)
    assert cost_of(None, None, 10, 4, 2) == ("tokens", 14.0)
    assert cost_of(None, None, None, None, None) is None


SECONDS = st.one_of(st.none(), st.floats(-1, 1e4))


@given(st.builds(Phases, SECONDS, SECONDS, SECONDS, SECONDS), st.integers(0, 10**12))
def test_phases_lie_within_their_request_and_follow_one_another(phases, length):
    start = 1_700_000_000_000_000_000
    last = start
    for _, began, ended in placed(phases, start, start + length):
        assert start <= began <= ended <= start + length
        assert began >= last or began == start
        last = ended


def test_a_batch_that_is_sent_again_says_the_same():
    bench = spans_of([Reply()], detail_base_ratio=1)
    ids = [[span.context.span_id for span in with_phases(bench.queue.spans)] for _ in range(2)]
    assert ids[0] == ids[1] and len(set(ids[0])) == 4
