"""The compiled engine against plain ones that go step by step and block by block."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from analytics.simulator.engine import layout
from analytics.simulator.engine.run import run
from engine_exporter.step_shares import StepShares, decode_seconds, prefill_seconds

SECONDS = {
    "step": 0.02, "sequence": 2e-4, "context": 3e-7, "prefill": 1e-4, "attention": 2e-8, "prefill_step": 0.003,
    "hidden_tokens": 20.0,
}  # fmt: skip


def engine(
    arrival: Any, prompt: Any, output: Any, chains: list[list[tuple[int, int]]], *, segments: int, end: float,
    replicas: int = 1,
    events: Any = (), hour: float = 3600.0, patience: float = 1e9, **limits: Any,
) -> layout.World:  # fmt: skip
    lim = np.zeros(1, layout.LIMITS)
    defaults = {
        "max_seqs": 8,
        "max_tokens": 64,
        "blocks": 100,
        "block_size": 16,
        "max_queue": 10_000,
        "width": 1.0,
        "policy": 1,
    }
    for name, value in {**SECONDS, **defaults, **limits}.items():
        lim[name] = value
    jobs = np.zeros(len(prompt), layout.JOB)
    jobs["arrival"], jobs["prompt"], jobs["output"], jobs["patience"] = arrival, prompt, output, patience
    links = np.array([link for chain in chains for link in chain] or [], layout.LINK)
    upto = np.cumsum([len(chain) for chain in chains])
    jobs["chain_from"], jobs["chain_to"] = np.concatenate([[0], upto[:-1]]), upto
    bounds = np.append(np.arange(hour, end, hour), [end, np.inf])
    world = layout.new_world(lim, jobs, links, segments, replicas, int(end) + 2, 100_000, bounds)
    run(world, np.array(list(events), layout.EVENT), end)
    return world


def step_by_step(
    arrival: Any, prompt: Any, output: Any, *, max_seqs: int, max_tokens: int, blocks: int, size: int, reserve: bool
) -> tuple[Any, Any, Any, Any]:
    """vLLM's scheduler for one engine without a prefix cache, one step after the other, the exporter looking on."""
    shares = StepShares()
    measured, since = np.zeros((len(prompt), 2)), {}
    count = len(prompt)
    made, computed, held = np.zeros(count, int), np.zeros(count, int), np.zeros(count, int)
    first, last, preempted = np.full(count, -1.0), np.full(count, -1.0), np.zeros(count, int)
    whole: set[int] = set()  # whose prompt is computed since they were last scheduled
    clock, coming, waiting, running = 0.0, 0, [], []

    def free() -> int:
        return blocks - int(held.sum())

    def wanted(i: int, tokens: int) -> int:
        return -(-tokens // size) - int(held[i])

    while coming < count or waiting or running:
        if not waiting and not running:
            clock = max(clock, arrival[coming])
        while coming < count and arrival[coming] <= clock:
            waiting.append(coming)
            coming += 1
        any_preempted = False
        decoding = [i for i in running if i in whole]
        while (
            sum(wanted(i, computed[i] + 1) for i in decoding) > free()
        ):  # running sequences first; the youngest yields
            i = running.pop()
            if i in whole:
                measured[i, 1] += decode_seconds(since[i][0], shares.mark(), since[i][1])
            held[i] = computed[i] = 0
            whole.discard(i)
            preempted[i] += 1
            waiting.insert(0, i)
            decoding = [k for k in decoding if k != i]
            any_preempted = True
        for i in decoding:
            held[i] += wanted(i, computed[i] + 1)
        budget = max_tokens - len(decoding)
        chunks: list[tuple[int, int]] = []
        for i in [i for i in running if i not in decoding]:
            chunk = min(prompt[i] + made[i] - computed[i], budget)
            if wanted(i, computed[i] + chunk) > free():
                running.remove(i)
                held[i] = computed[i] = 0
                preempted[i] += 1
                waiting.insert(0, i)
                any_preempted = True
            elif chunk > 0:
                held[i] += wanted(i, computed[i] + chunk)
                chunks.append((i, chunk))
                budget -= chunk
        while waiting and budget > 0 and len(running) < max_seqs and not any_preempted:
            i = waiting[0]
            target = prompt[i] + made[i]
            chunk = min(target, budget)
            if wanted(i, target if reserve else chunk) > free():
                break
            waiting.pop(0)
            running.append(i)
            held[i] += wanted(i, chunk)
            chunks.append((i, chunk))
            budget -= chunk
        seconds = SECONDS["step"] + SECONDS["sequence"] * len(decoding)
        seconds += SECONDS["context"] * sum(computed[i] for i in decoding)
        if chunks:
            tokens = sum(chunk for _, chunk in chunks)
            seconds += SECONDS["prefill_step"] + SECONDS["prefill"] * max(tokens - SECONDS["hidden_tokens"], 0)
            seconds += SECONDS["attention"] * sum(chunk * (computed[i] + chunk / 2) for i, chunk in chunks)
        elif not decoding:
            continue
        clock += seconds
        before = shares.mark()
        spans = [(i, chunk, computed[i] + chunk / 2) for i, chunk in chunks]
        shares.step(
            seconds, float(len(decoding)), float(sum(computed[i] for i in decoding)), float(len(chunks)),
            float(sum(chunk for _, chunk in chunks)), float(sum(chunk * mean for _, chunk, mean in spans)),
        )  # fmt: skip
        for i, chunk, mean in spans:
            measured[i, 0] += prefill_seconds(before, shares.mark(), chunk, mean)
        for i, chunk in [*((i, 1) for i in decoding), *chunks]:
            computed[i] += chunk
            if computed[i] < prompt[i] + made[i]:
                continue
            made[i] += 1
            if i not in whole:
                since[i] = shares.mark(), float(computed[i])
            whole.add(i)
            first[i] = clock if first[i] < 0 else first[i]
            if made[i] == output[i]:
                last[i] = clock
                held[i] = 0
                running.remove(i)
                measured[i, 1] += decode_seconds(since[i][0], shares.mark(), since[i][1])
    return first, last, preempted, measured


@pytest.mark.parametrize(
    ("seed", "blocks", "reserve"), [(1, 400, True), (2, 60, True), (3, 45, False), (4, 33, True), (5, 40, False)]
)
def test_leaps_end_at_the_same_times_as_single_steps(seed: int, blocks: int, reserve: bool) -> None:
    rng = np.random.default_rng(seed)
    count = 150
    arrival = np.cumsum(rng.exponential(0.35, count))
    prompt, output = rng.integers(1, 250, count), rng.integers(1, 150, count)
    first, last, preempted, measured = step_by_step(
        arrival, prompt, output, max_seqs=8, max_tokens=64, blocks=blocks, size=16, reserve=reserve
    )
    world = engine(arrival, prompt, output, [[]] * count, segments=0, end=1e4, blocks=blocks, reserve_prompt=reserve)
    assert (world.job["status"] == layout.DONE).all()
    assert (world.job["made"] == output).all()
    np.testing.assert_allclose(world.job["first"], first, atol=1e-7)
    np.testing.assert_allclose(world.job["last"], last, atol=1e-7)
    assert world.job["preemptions"].tolist() == preempted.tolist()
    np.testing.assert_allclose(world.job["measured_prefill"], measured[:, 0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(world.job["measured_decode"], measured[:, 1], rtol=1e-6, atol=1e-9)
    if blocks < 50:
        assert preempted.sum() > 0, "the case is there to preempt"


def test_busy_time_is_shared_out_whole_and_only_among_those_that_ran() -> None:
    rng = np.random.default_rng(7)
    count = 200
    arrival, prompt = np.cumsum(rng.exponential(0.4, count)), rng.integers(1, 250, count)
    output = rng.integers(1, 150, count)
    world = engine(arrival, prompt, output, [[]] * count, segments=0, end=1000.0, hour=7.0, blocks=60)
    rows = world.share[: world.lim["shares"][0]]
    assert rows["request"].max() < count
    np.testing.assert_allclose((rows["prefill"] + rows["decode"]).sum(), world.tel["busy"].sum(), rtol=1e-9)
    by_hour = np.bincount(rows["hour"], rows["prefill"] + rows["decode"])
    assert by_hour.max() <= 7.0 + 1e-9
    busy = np.add.reduceat(world.tel["busy"][0][: 7 * by_hour.size], np.arange(0, 7 * by_hour.size, 7))
    np.testing.assert_allclose(by_hour, busy, atol=1e-6)


def test_a_request_alone_is_charged_its_own_time() -> None:
    world = engine([0.0, 100.0], [64, 64], [10, 10], [[], []], segments=0, end=200.0)
    rows = world.share[: world.lim["shares"][0]]
    for i in (0, 1):
        mine = rows[rows["request"] == i]
        spent = world.job["last"][i] - world.job["scheduled"][i]
        np.testing.assert_allclose(mine["prefill"].sum() + mine["decode"].sum(), spent, rtol=1e-9)


class BlockCache:
    """A prefix cache that knows single blocks: hashes in a list, freed from the end of each request."""

    def __init__(self, blocks: int) -> None:
        self.blocks, self.cached = blocks, OrderedDict[Any, None]()

    def serve(self, hashes: list[Any], prompt: int, length: int, size: int) -> int:
        hit = 0
        while hit < (prompt - 1) // size and hit < len(hashes) and hashes[hit] in self.cached:
            hit += 1
        used = {h for h in hashes if h in self.cached}
        for h in used:
            del self.cached[h]
        while len(self.cached) > self.blocks - -(-length // size):
            self.cached.popitem(last=False)
        for h in hashes[::-1]:
            self.cached[h] = None
        return hit


@pytest.mark.parametrize("blocks", [70, 110, 400])
def test_the_cache_of_segments_hits_what_a_cache_of_blocks_hits(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    size, systems, conversations = 16, {0: 70, 1: 100}, {}
    cache = BlockCache(blocks)
    arrival, prompt, output, chains, expected = [], [], [], [], []
    for turn in range(400):
        c = int(rng.integers(0, 30))
        system = c % 2
        history = conversations.get(c, 0)
        asked, said = int(rng.integers(5, 90)), int(rng.integers(2, 60))
        base = systems[system]
        if base + history + asked + said > 600:
            continue
        total = base + history + asked
        length = total + said - 1  # the last token is never computed
        own = [(c, k) for k in range(base // size, length // size)]
        hashes = [("s", system, k) for k in range(base // size)] + own
        expected.append(cache.serve(hashes, total, length, size))
        arrival.append(turn * 1000.0)
        prompt.append(total)
        output.append(said)
        chains.append([(system, base), (2 + c, base + history)])
        conversations[c] = history + asked + said
    world = engine(arrival, prompt, output, chains, segments=32, end=arrival[-1] + 1000, blocks=blocks, max_tokens=4096)
    assert (world.job["cached"] // size).tolist() == expected
    assert sum(expected) > 0


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    count = 30
    arrival, prompt, output = np.arange(count) * 0.3, np.full(count, 100), np.full(count, 120)
    chains = [[(i, 0)] for i in range(count)]
    with_cache = engine(arrival, prompt, output, chains, segments=count, end=1e4, blocks=50)
    without = engine(arrival, prompt, output, [[]] * count, segments=0, end=1e4, blocks=50)
    assert with_cache.job["preemptions"].sum() > 0
    assert with_cache.tel["prefilling"].sum() < without.tel["prefilling"].sum()


def test_a_dead_engine_loses_its_requests_and_the_router_turns_away() -> None:
    count = 100
    arrival = np.arange(count) * 0.5
    events = [
        (20.0, 0, layout.KILL, 0.0),
        (25.0, 0, layout.UNROUTE, 0.0),
        (40.0, 0, layout.START, 0.0),
        (40.0, 0, layout.ROUTE, 0.0),
    ]
    world = engine(
        arrival,
        np.full(count, 50),
        np.full(count, 40),
        [[]] * count,
        segments=0,
        end=500.0,
        replicas=2,
        events=events,
        policy=0,
    )
    job = world.job
    dead = job["status"] == layout.DEAD
    assert dead.any() and (job["replica"][dead] == 0).all()
    assert (job["last"][dead] >= 20.0).all() and (arrival[dead] < 25.0).all()
    down = (arrival >= 25.0) & (arrival < 40.0)
    assert (job["replica"][down] == 1).all()
    assert (job["status"][down] == layout.DONE).all()
    assert (job["replica"][arrival >= 40.0] == 0).any()


def test_a_client_without_patience_leaves_the_queue() -> None:
    jobs = engine(
        np.zeros(60), np.full(60, 50), np.full(60, 50), [[]] * 60, segments=0, end=1e4, max_seqs=1, patience=5.0
    ).job
    left = jobs["status"] == layout.GAVE_UP
    assert 0 < left.sum() < 60
    assert (jobs["last"][left] == 5.0).all() and (jobs["made"][left] == 0).all()
    assert (jobs["scheduled"][~left] <= 5.0).all()


def test_a_full_queue_turns_requests_away() -> None:
    world = engine(np.zeros(50), np.full(50, 50), np.full(50, 50), [[]] * 50, segments=0, end=1e4, max_queue=10)
    assert (world.job["status"] == layout.FULL).sum() == 40


@pytest.mark.parametrize(("slack", "spread"), [(1000, 1), (0, 3)])
def test_the_same_prefix_goes_to_the_same_replica_unless_it_is_busier_by_the_slack(slack: int, spread: int) -> None:
    limits = {"policy": layout.PREFIX_AFFINE, "slack": slack}
    jobs = engine(
        np.arange(90) * 0.01, np.full(90, 50), np.full(90, 90), [[]] * 90, segments=0, end=1e3, replicas=3, **limits
    ).job
    assert len(set(jobs["replica"].tolist())) == spread
