"""What the plugin keeps, and how sequences are put together."""

import doctest
from types import SimpleNamespace

import pytest

from engine_exporter import engine_half
from engine_exporter.engine_half import (
    KEEP_SECONDS,
    EngineFacts,
    FinishedRows,
    GeneratedSequence,
    join_key,
    of_finished,
    of_live,
    unite,
)
from engine_exporter.testing import Clock
from engine_exporter.vllm_stats import FleetmeterStatLogger

ID = "0af7651916cd43dd8448eb211c80319c"


def sequence(name="a", output=5, **more) -> GeneratedSequence:
    fields = {
        "request_id": name, "finish_reason": "stop", "input_tokens": 10, "cached_tokens": 0, "output_tokens": output,
        "queue_seconds": 0.1, "prefill_seconds": 0.2, "decode_seconds": 0.4, "ttft_seconds": 0.3,
        "preemptions_count": 0, "prompt_tokens": 10,
    }  # fmt: skip
    return GeneratedSequence(**{**fields, **more})


def test_examples_in_the_docs_hold():
    assert doctest.testmod(engine_half).failed == 0


@pytest.mark.parametrize("name", [f"chatcmpl-{ID}", f"cmpl-{ID}-0", f"embd-{ID}-3", f"generate-tokens-{ID}"])
def test_every_id_of_the_engine_is_found_by_ours(name):
    assert join_key(name) == ID


def test_rows_are_handed_out_once():
    rows = FinishedRows()
    first, second = SimpleNamespace(request_id=f"cmpl-{ID}-0"), SimpleNamespace(request_id=f"cmpl-{ID}-1")
    rows.put(first)
    rows.put(second)
    assert [row.stats for row in rows.take(ID)] == [first, second]
    assert rows.take(ID) == []


def test_rows_nobody_asks_for_go_oldest_first_and_are_counted():
    rows = FinishedRows(limit=2)
    for number in range(5):
        rows.put(SimpleNamespace(request_id=f"chatcmpl-{number:032x}"))
    assert len(rows) == 2
    assert rows.unclaimed_count == 3
    assert rows.take(f"{4:032x}") and not rows.take(f"{0:032x}")


def test_rows_nobody_asked_for_in_an_hour_go_and_are_counted():
    clock = Clock()
    rows = FinishedRows(now=clock)
    for number in range(3):
        rows.put(SimpleNamespace(request_id=f"chatcmpl-{number:032x}"))
        clock.pass_(KEEP_SECONDS / 2 + 1)
    rows.put(SimpleNamespace(request_id=f"chatcmpl-{3:032x}"))
    assert (len(rows), rows.unclaimed_count) == (2, 2)
    assert rows.take(f"{2:032x}") and not rows.take(f"{1:032x}")


def test_a_field_that_a_version_lacks_is_unknown_not_zero():
    row = of_finished(SimpleNamespace(request_id="x", num_generation_tokens=3))
    assert (row.output_tokens, row.input_tokens, row.preemptions_count, row.ttft_seconds) == (3, None, None, None)


def test_no_sequences_say_nothing():
    assert unite([]) == engine_half.EngineHalf()


def test_one_sequence_is_taken_as_it_is():
    half = unite([sequence(output=5)])
    assert (half.input_tokens, half.output_tokens, half.sequences_count) == (10, 5, 1)
    assert half.tpot_seconds == pytest.approx(0.1)


def test_a_single_token_has_no_time_per_token():
    assert unite([sequence(output=1, decode_seconds=0.0)]).tpot_seconds is None


def test_prompts_add_up_and_choices_share_theirs():
    half = unite([sequence("p0", cached_tokens=0), sequence("p0", cached_tokens=8), sequence("p1", cached_tokens=4)])
    assert half.input_tokens == 20
    assert half.prefilled_tokens == 30
    assert half.cached_tokens == 4
    assert half.output_tokens == 15


def test_a_sequence_that_finished_after_it_was_seen_alive_counts_once():
    done, running = sequence("p0", output=5), sequence("p0", output=9, finish_reason=None)
    half = unite([done], [sequence("p0", output=5, finish_reason=None), running])
    assert half.output_tokens == 14
    assert half.sequences_count == 2


def test_a_sequence_that_finished_before_anybody_looked_is_not_lost():
    assert unite([sequence("p0", output=2)], [sequence("p1", output=9)]).output_tokens == 11


def test_a_live_state_before_its_first_token_has_spent_nothing():
    stats = SimpleNamespace(
        num_generation_tokens=0, queued_ts=1.0, scheduled_ts=0.0, first_token_ts=0.0, last_token_ts=0.0
    )
    state = SimpleNamespace(external_req_id="x", is_prefilling=True, prompt_len=77, num_cached_tokens=0, stats=stats)
    row = of_live(state)
    assert (row.input_tokens, row.cached_tokens, row.prompt_tokens, row.output_tokens) == (None, None, 77, 0)
    assert (row.queue_seconds, row.prefill_seconds) == (None, None)


@pytest.mark.parametrize(
    "call",
    [
        lambda plugin, iteration: plugin.record(None, iteration),
        lambda plugin, iteration: plugin.record(None, iteration, None, 0),
        lambda plugin, iteration: plugin.record(scheduler_stats=None, iteration_stats=iteration, engine_idx=1),
    ],
    ids=["0.8", "0.32", "by name"],
)
def test_the_plugin_reads_its_arguments_whatever_the_version(call):
    rows = FinishedRows()
    call(FleetmeterStatLogger(finished=rows), SimpleNamespace(finished_requests=[SimpleNamespace(request_id=ID)]))
    assert len(rows.take(ID)) == 1


def test_the_plugin_never_raises_into_the_engine(monkeypatch):
    monkeypatch.setattr(FleetmeterStatLogger, "faults_count", 0)
    plugin = FleetmeterStatLogger()
    plugin.record()
    plugin.record(None, 7)
    plugin.record(None, None)
    assert FleetmeterStatLogger.faults_count == 3, "the steps once, the finished requests, and both"
    plugin.log()
    plugin.log_engine_initialized()
    plugin.record_sleep_state(1, 0)


def test_the_plugin_learns_the_gpus_of_the_engine():
    def config(device):
        return SimpleNamespace(
            parallel_config=SimpleNamespace(world_size=4), device_config=SimpleNamespace(device_type=device)
        )

    facts = EngineFacts()
    FleetmeterStatLogger(config("cpu"), facts=facts)
    assert facts.gpu_count is None
    FleetmeterStatLogger(config("cuda"), facts=facts)
    assert facts.gpu_count == 4


class Parallel:
    """vLLM's `ParallelConfig` of 4 ranks with 2 GPUs each, 2 ranks on this node."""

    world_size = 2
    world_size_across_dp = 8
    data_parallel_size_local = 2

    def __init__(self, **more):
        vars(self).update(more)


@pytest.mark.parametrize(
    ("parallel", "count"),
    [
        (Parallel(), 8),
        (Parallel(data_parallel_external_lb=False, data_parallel_hybrid_lb=False), 8),
        (Parallel(data_parallel_external_lb=True, data_parallel_size_local=1), 2),
        (Parallel(data_parallel_hybrid_lb=True), 4),
        (Parallel(data_parallel_hybrid_lb=True, data_parallel_size_local=None), 2),
        (SimpleNamespace(world_size="many"), None),
        (SimpleNamespace(), None),
        (None, None),
    ],
)
def test_a_server_has_the_gpus_of_the_ranks_that_it_runs_itself(parallel, count):
    facts = EngineFacts()
    config = SimpleNamespace(parallel_config=parallel, device_config=SimpleNamespace(device_type="cuda"))
    FleetmeterStatLogger(config, facts=facts)
    assert facts.gpu_count == count


class Unreadable:
    """A configuration of a version to come: whatever is asked of it raises, and not AttributeError."""

    def __getattr__(self, name):
        raise RuntimeError(f"no {name} in this version")


def test_a_configuration_that_can_not_be_read_keeps_no_server_from_starting(monkeypatch):
    monkeypatch.setattr(FleetmeterStatLogger, "faults_count", 0)
    rows, facts = FinishedRows(), EngineFacts()
    plugin = FleetmeterStatLogger(Unreadable(), finished=rows, facts=facts)
    assert FleetmeterStatLogger.faults_count == 2
    assert (facts.steps, facts.gpu_count) == ({}, None)
    plugin.record(None, SimpleNamespace(finished_requests=[SimpleNamespace(request_id=ID)]))
    assert [row.share for row in rows.take(ID)] == [None], "the row is there, without its share of the steps"
    assert FleetmeterStatLogger.faults_count == 2


def test_twins_are_paired_one_to_one():
    done = sequence("p0", output=5)
    twins = [sequence("p0", output=5, finish_reason=None), sequence("p0", output=5, finish_reason=None)]
    assert unite([done], twins).output_tokens == 10
