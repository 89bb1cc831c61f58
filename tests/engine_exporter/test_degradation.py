"""Every vLLM from 0.11 to 0.33 as far as it goes, and what lacks is told in the row and on /metrics.

The shapes are built from published sources (the fields of the released packages' `FinishedRequestStats`, the release
notes), not recorded from servers of those versions; 0.32 alone is also tested with a real server, in tests/engine.
"""

import asyncio
import dataclasses
import sys
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from engine_exporter import semconv
from engine_exporter.degradation import Feature, Shape, degraded, finished_fields
from engine_exporter.engine_half import FinishedRows
from engine_exporter.metrics_thread import publish
from engine_exporter.testing import CACHED_TOKENS, PROMPT_TOKENS, FakeVllm, Reply, exporter_for_tests, post
from engine_exporter.vllm_middleware import FleetmeterMiddleware

CHAT = {"model": "base", "stream": True}
WHOLE = {**CHAT, "stream": False}
ALWAYS = (
    "finish_reason", "e2e_latency", "num_prompt_tokens", "num_generation_tokens", "max_tokens_param", "queued_time",
    "prefill_time", "inference_time", "decode_time",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Version:
    """What one version has."""

    plugin: bool = True
    fields: tuple[str, ...] = ()
    own_ids: bool = True
    """Its internal ids differ from the client's (`external_req_ids`)."""
    lacking: tuple[str, ...] = ()


BEFORE_22 = ("mean_time_per_output_token", "is_corrupted", "num_cached_tokens")
VERSIONS = {
    "0.11": Version(plugin=False, own_ids=False, lacking=("engine_times",)),
    "0.13": Version(fields=BEFORE_22, own_ids=False, lacking=("engine_times", "preemptions", "request_join")),
    "0.16": Version(fields=BEFORE_22, lacking=("engine_times", "preemptions", "request_join")),
    "0.19": Version(fields=BEFORE_22, lacking=("engine_times", "preemptions", "request_join")),
    "0.22": Version(fields=(*BEFORE_22, "request_id"), lacking=("preemptions",)),
    "0.28": Version(fields=(*BEFORE_22, "request_id"), lacking=("preemptions",)),
    "0.31": Version(fields=(*BEFORE_22, "request_id", "num_preemptions")),
    "0.33": Version(fields=(*BEFORE_22, "request_id", "num_preemptions")),
}


class OldVllm(FakeVllm):
    """The double, cut down to what a version has."""

    def cut(self, version):
        self.version = version
        self.names = {*ALWAYS, *version.fields}
        record = self.plugin.record

        def cut_record(scheduler, iteration, **named):
            for stats in iteration.finished_requests:
                for name in set(vars(stats)) - self.names:
                    delattr(stats, name)
            record(scheduler, iteration, **named)

        self.plugin.record = cut_record
        self.reply.records = version.plugin
        if not version.plugin:
            self.bench.exporter.facts.steps.clear()
        if not version.own_ids:
            self.processor.request_states = states = {}
            del self.processor.external_req_ids

            class Unused(dict):
                def __missing__(self, key):
                    return []

            self._external, self._states = Unused(), states
        return self

    def _add(self, name):
        if self.version.own_ids:
            return super()._add(name)
        self.processor.external_req_ids = self._external
        states = super()._add(name)
        del self.processor.external_req_ids
        for state in states:  # the client's id, or `0_` before it for one of several choices
            del self.processor.request_states[state.request_id]
            state.request_id = name if len(states) == 1 else state.request_id
            self.processor.request_states[state.request_id] = state
        return states

    def _abort(self, states):
        if self.version.own_ids:
            super()._abort(states)
        else:
            for state in states:
                self.processor.request_states.pop(state.request_id, None)


@pytest.fixture(params=VERSIONS)
def version(request, monkeypatch):
    version = VERSIONS[request.param]
    stats = dataclasses.make_dataclass("FinishedRequestStats", [*ALWAYS, *version.fields])
    monkeypatch.setitem(sys.modules, "vllm.v1.metrics.stats", SimpleNamespace(FinishedRequestStats=stats))
    return version


def served(version, reply=None):
    bench = exporter_for_tests()
    engine = OldVllm(bench, reply or Reply()).cut(version)
    return bench, engine, FleetmeterMiddleware(engine, bench.exporter)


def test_a_stream_has_its_tokens_and_its_times_in_every_version_and_says_what_lacks(version):
    bench, _, app = served(version)
    asyncio.run(post(app, body=CHAT))
    row = bench.row
    assert (row[semconv.INPUT_TOKENS], row[semconv.CACHED_TOKENS], row[semconv.OUTPUT_TOKENS]) == (
        PROMPT_TOKENS,
        CACHED_TOKENS,
        4,
    )
    assert row[semconv.QUEUE] == pytest.approx(0.1) and row[semconv.DECODE] == pytest.approx(0.3)
    assert row.get(semconv.DEGRADED, ()) == version.lacking
    assert bench.exporter.faults_count == 0


def test_what_lacks_is_on_the_engines_metrics(version):
    bench, _, app = served(version)
    asyncio.run(post(app, body=CHAT))
    registry = CollectorRegistry()
    publish(bench.exporter, registry)
    lines = generate_latest(registry).decode().splitlines()
    for feature in Feature:
        assert f'infer_exporter_degraded{{feature="{feature}"}} {float(feature in version.lacking)}' in lines


def test_a_client_that_leaves_is_charged_in_every_version(version):
    bench, engine, app = served(version, Reply(chunks=10, hold_after=3))

    async def go():
        engine.closed = asyncio.Event()
        await post(app, body=CHAT, leave=engine.closed)
        await asyncio.sleep(0.05)

    asyncio.run(go())
    assert (bench.row[semconv.OUTCOME], bench.row[semconv.OUTPUT_TOKENS]) == ("client_disconnect", 3)
    assert bench.row[semconv.INPUT_TOKENS] == PROMPT_TOKENS


def test_a_whole_answer_takes_its_tokens_from_usage_where_the_plugin_gives_nothing(version):
    usage = SimpleNamespace(prompt_tokens=40, completion_tokens=4)
    bench, _, app = served(version, Reply(usage=usage))
    asyncio.run(post(app, body=WHOLE))
    assert (bench.row[semconv.INPUT_TOKENS], bench.row[semconv.OUTPUT_TOKENS]) == (40, 4)
    assert (semconv.QUEUE in bench.row) is ("engine_times" not in version.lacking)


def test_a_whole_answer_is_looked_at_while_it_runs_where_that_is_all_there_is(version):
    bench, engine, app = served(version)
    asyncio.run(post(app, body=CHAT))  # the first request shows what lacks

    class Slow(OldVllm):
        async def _answer(self, asked, states, send):
            await asyncio.sleep(0.08)
            await super()._answer(asked, states, send)

    engine.__class__ = Slow
    asyncio.run(post(app, body=WHOLE))
    row = bench.rows[1]
    assert row[semconv.OUTPUT_TOKENS] == 4 and row[semconv.QUEUE] == pytest.approx(0.1)


def test_a_whole_answer_is_not_looked_at_where_the_plugin_says_all_that_is_looked_for(version):
    _, engine, app = served(version)
    asyncio.run(post(app, body=CHAT))
    looks = []

    class Watched(OldVllm):
        async def _answer(self, asked, states, send):
            await asyncio.sleep(0.03)
            await super()._answer(asked, states, send)

    class States(dict):
        def __bool__(self):
            looks.append(1)
            return len(self) > 0

    engine.__class__ = Watched
    engine.processor.request_states = States(engine.processor.request_states)
    asyncio.run(post(app, body=WHOLE))
    assert bool(looks) == ("engine_times" in version.lacking)


@pytest.mark.parametrize("first", ["/pooling", "/v1/chat/completions"])
def test_a_request_of_which_vllm_leaves_nothing_does_not_make_the_others_degraded(version, first):
    class Silent(OldVllm):
        async def _answer(self, asked, states, send):
            if self.silent:
                del self.scopes[-1]["state"]["request_metadata"]
            await super()._answer(asked, states, send)

    bench, engine, app = served(version)
    engine.__class__, engine.silent = Silent, True
    asyncio.run(post(app, first, CHAT))
    engine.silent = False
    asyncio.run(post(app, body=CHAT))
    assert [row.get(semconv.DEGRADED, ()) for row in bench.rows] == [version.lacking] * 2


def test_a_version_without_usage_is_told_by_the_first_request_that_shows_it(version):
    class NoUsage(OldVllm):
        async def _answer(self, asked, states, send):
            self.scopes[-1]["state"]["request_metadata"] = self.left
            await super()._answer(asked, states, send)

    bench, engine, app = served(version)
    engine.__class__ = NoUsage
    for engine.left in (None, SimpleNamespace(request_id="x"), None):
        asyncio.run(post(app, body=CHAT))
    told = ["usage" in row.get(semconv.DEGRADED, ()) for row in bench.rows]
    assert told == [False, True, True]


def test_rows_without_an_id_fill_no_memory():
    rows = FinishedRows()
    for _ in range(10_000):
        rows.put(SimpleNamespace(num_prompt_tokens=1))
    assert (len(rows), rows.unclaimed_count) == (0, 10_000)


def test_what_cannot_be_told_is_not_called_degraded():
    assert degraded(Shape()) == ()
    assert degraded(Shape(plugin=True, finished_fields=None, live_states=False, usage=False)) == (
        "live_states",
        "usage",
    )
    assert finished_fields({}) is None
