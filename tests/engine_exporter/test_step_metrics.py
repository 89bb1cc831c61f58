from types import SimpleNamespace

from prometheus_client import CollectorRegistry, generate_latest

from engine_exporter.engine_half import EngineFacts, FinishedRows
from engine_exporter.step_metrics import FIELDS, register, step_points
from engine_exporter.vllm_stats import FleetmeterStatLogger
from engine_exporter.vllm_step_stats import StepTotals


def test_the_sums_of_each_engines_steps_are_on_metrics():
    facts = EngineFacts()
    plugins = [FleetmeterStatLogger(None, rank, finished=FinishedRows(), facts=facts) for rank in (0, 1)]
    iteration = SimpleNamespace(inter_token_latencies_iter=[0.02, 0.02], num_generation_tokens=2, finished_requests=[])
    for _ in range(3):
        plugins[1].record(SimpleNamespace(num_running_reqs=2, num_waiting_reqs=0), iteration)
    registry = CollectorRegistry()
    register(facts, registry)
    text = generate_latest(registry).decode()
    assert 'infer_engine_steps_total{engine="0"} 0.0' in text
    assert 'infer_engine_steps_total{engine="1"} 3.0' in text
    assert 'infer_engine_step_decoding_total{engine="1"} 6.0' in text
    assert 'infer_engine_step_output_tokens_total{engine="1"} 6.0' in text
    assert len(list(step_points(facts))) == 2 * len(FIELDS)


def test_each_metric_is_a_sum_that_is_kept():
    assert set(FIELDS.values()) == set(StepTotals.__dataclass_fields__)
