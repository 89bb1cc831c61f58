"""Steps put together from what vLLM's stat logger is told, against an engine whose every step is known."""

import math
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from engine_exporter.engine_half import EngineFacts
from engine_exporter.step_board import StepBoard
from engine_exporter.step_history import Moment, StepHistory
from engine_exporter.step_settling import COUNTED, ESTIMATED, settle
from engine_exporter.step_shares import Mark
from engine_exporter.vllm_step_stats import EngineLimits
from engine_exporter.vllm_steps import EngineSteps

LAW = (0.018, 1e-4, 1.4e-7, 8.9e-5)


@dataclass(eq=False)
class Request:
    prompt: int
    output: int
    cached: int = 0
    team: str = "team"
    arrived: float = 0.0
    scheduled: float = 0.0
    first: float = 0.0
    last: float = 0.0
    computed: int = 0
    made: int = 0
    preemptions: int = 0
    process: int = 0
    true_seconds: float = 0.0
    share: object = None
    finished: bool = False


@dataclass
class Vllm:
    """An engine that schedules as vLLM does, and tells its stat logger what vLLM tells."""

    limits: EngineLimits
    front_end_seconds: float = 0.003
    late_seconds: float = 0.0
    """How much later than it comes the API process takes what it is told."""
    transport_seconds: float = 0.0004
    details: bool = False
    clock: float = 100.0
    waiting: list = field(default_factory=list)
    running: list = field(default_factory=list)
    busy_seconds: float = 0.0
    boards: list = field(default_factory=list)
    noise: random.Random = field(default_factory=lambda: random.Random(4))

    def __post_init__(self):
        self.wall = self.clock
        boards = self.boards or [None] * self.limits.processes
        self.told = [EngineSteps(self.limits, now=lambda: self.wall, board=board) for board in boards]
        self.steps = self.told[0]
        self.next = None
        self.done = []

    def arrive(self, request):
        request.arrived = self.clock - self.front_end_seconds
        self.waiting.append(request)

    def schedule(self):
        """What the next step holds: decoding requests, and (request, tokens) to prefill."""
        decoding = [one for one in self.running if one.computed >= one.prompt and not one.finished]
        room, chunks = self.limits.batch_tokens - len(decoding), []
        started = [one for one in self.running if one.computed < one.prompt]
        for one in started + self.waiting[:]:
            if room <= 0:
                break
            if one in self.waiting:
                self.waiting.remove(one)
                self.running.append(one)
                one.scheduled, one.computed = self.clock, one.cached
            size = min(room, one.prompt - one.computed)
            chunks.append((one, size, one.computed))
            one.computed += size
            room -= size
        return decoding, chunks

    def step(self):
        if self.limits.asynchronous and self.next:
            decoding, chunks = self.next
        else:
            decoding, chunks = self.schedule()
        if not decoding and not chunks:
            self.next = None
            return False
        step, sequence, context, prefill = LAW
        jitter = self.noise.lognormvariate(0, 0.02)
        people = len(decoding) + len(chunks)
        seconds = 0.0
        for one in decoding:
            part = jitter * (step / people + sequence + context * (one.prompt + one.made - 1))
            one.true_seconds += part
            seconds += part
        for one, size, _ in chunks:
            part = jitter * (step / people + prefill * size)
            one.true_seconds += part
            seconds += part
        if self.limits.asynchronous:  # the next step is put together while this one runs
            for one, size, at in chunks:
                if at + size >= one.prompt:
                    one.made = 1
            for one in decoding:
                one.made += 1
                one.finished = one.made >= one.output
            for one, size, at in chunks:
                one.finished = at + size >= one.prompt and one.output <= 1
            self.next = self.schedule()
        self.clock += seconds
        self.busy_seconds += seconds
        self.tell(decoding, chunks)
        return True

    def tell(self, decoding, chunks):
        """Each process hears of its own; the first that has something to hear, of the scheduler."""
        comes = self.clock + self.transport_seconds * self.noise.uniform(1, 3)
        self.wall = max(self.wall + 1e-5, comes + self.late_seconds)
        before = {one: one.last for one in decoding}
        for one in decoding:
            one.last = self.clock
            if not self.limits.asynchronous:
                one.made += 1
        completed = [one for one, size, at in chunks if at + size >= one.prompt]
        for one in completed:
            one.first = one.last = self.clock
            one.made = max(one.made, 1)
        finished = [one for one in decoding + completed if one.made >= one.output]
        for one in finished:
            self.running.remove(one)
            self.done.append(one)
        details = SimpleNamespace(num_ctx_tokens=sum(size for _, size, _ in chunks), elapsed_ms=0.0, is_dummy=False)
        scheduler = SimpleNamespace(
            num_running_reqs=len(self.running), num_waiting_reqs=len(self.waiting),
            iteration_details=details if self.details else None,
        )  # fmt: skip
        for process, steps in enumerate(self.told):
            own = [one for one in decoding + completed if one.process == process]
            if not own and (len(self.told) > 1 or scheduler is None):
                continue
            rows = [self.row(one) for one in finished if one.process == process]
            firsts = [one for one in own if one in completed]
            iteration = SimpleNamespace(
                inter_token_latencies_iter=[self.clock - before[one] for one in own if one in before],
                time_to_first_tokens_iter=[self.wall - one.arrived for one in firsts],
                num_generation_tokens=len(own), finished_requests=rows,
                prompt_token_stats=SimpleNamespace(
                    computed=sum(one.prompt - one.cached for one in firsts), total=sum(one.prompt for one in firsts)
                ),
            )  # fmt: skip
            steps.record(scheduler, iteration if own else None)
            scheduler = None
            for row in rows:
                row.request.share = steps.share(row)

    def row(self, one):
        return SimpleNamespace(
            request=one, e2e_latency=self.wall - one.arrived, queued_time=one.scheduled - one.arrived - 0.003,
            prefill_time=one.first - one.scheduled, decode_time=one.last - one.first, num_prompt_tokens=one.prompt,
            num_cached_tokens=one.cached, num_generation_tokens=one.made, num_preemptions=one.preemptions,
        )  # fmt: skip

    def live(self, one):
        stats = SimpleNamespace(
            scheduled_ts=one.scheduled, first_token_ts=one.first, last_token_ts=one.last,
            num_generation_tokens=one.made, num_preemptions=0,
        )  # fmt: skip
        return SimpleNamespace(stats=stats, prompt_len=one.prompt, num_cached_tokens=one.cached)


TEAMS = {"chat": (300, 120), "documents": (2600, 40), "agents": (900, 80)}


def run_load(engine, requests=400, seed=3, rate=0.12):
    source = random.Random(seed)
    asked = []
    while len(engine.done) < requests:
        if len(asked) < requests:
            for team, sizes in TEAMS.items():
                if source.random() < rate:
                    prompt, output = (max(2, round(mean * source.lognormvariate(0, 0.5))) for mean in sizes)
                    cached = prompt // 3 // 16 * 16 if source.random() < 0.3 else 0
                    asked.append(Request(prompt, output, cached, team, process=len(asked) % len(engine.told)))
                    engine.arrive(asked[-1])
        if not engine.step():
            engine.clock += source.expovariate(1.0)
            engine.wall = engine.clock
    return asked


def moved(requests):
    """The part of the time that lands at the wrong team."""
    ours, truth = dict.fromkeys(TEAMS, 0.0), dict.fromkeys(TEAMS, 0.0)
    for one in requests:
        ours[one.team] += one.share.prefill_seconds + one.share.decode_seconds
        truth[one.team] += one.true_seconds
    return sum(abs(ours[team] - truth[team]) for team in TEAMS) / 2 / sum(truth.values())


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("details", [False, True], ids=["inferred", "told"])
@pytest.mark.parametrize("rate", [0.01, 0.12], ids=["idle", "busy"])
def test_what_is_inferred_is_what_the_engine_did(asynchronous, details, rate):
    engine = Vllm(EngineLimits(batch_tokens=2048, asynchronous=asynchronous), details=details)
    requests = run_load(engine, 150 if rate < 0.1 else 400, rate=rate)
    totals = engine.steps.totals
    shared = sum(one.share.prefill_seconds + one.share.decode_seconds for one in requests)
    print(f"busy {totals.busy_seconds / engine.busy_seconds:.4f}, shared {shared / engine.busy_seconds:.4f}, ", end="")
    print(f"at the wrong team {moved(requests):.2%}")
    assert totals.busy_seconds == pytest.approx(engine.busy_seconds, rel=0.01)
    assert shared == pytest.approx(engine.busy_seconds, rel=0.01)
    assert totals.prefill_tokens == pytest.approx(sum(one.prompt - one.cached for one in requests), rel=0.01)
    assert totals.output_tokens == sum(one.made for one in requests)
    assert moved(requests) < 0.01
    assert {one.share.source for one in requests} == {COUNTED}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("batch_tokens", "rate", "bound"),
    [(8192, 0.01, 0.03), (8192, 0.12, 0.03), (2048, 0.05, 0.1)],
    ids=["idle", "busy", "prompts longer than a step"],
)
def test_the_shares_of_several_processes_add_up(tmp_path, asynchronous, batch_tokens, rate, bound):
    boards = [StepBoard(tmp_path / "board", rank) for rank in range(2)]
    engine = Vllm(EngineLimits(batch_tokens=batch_tokens, asynchronous=asynchronous, processes=2), boards=boards)
    requests = run_load(engine, 150 if rate < 0.1 else 400, rate=rate)
    shared = sum(one.share.prefill_seconds + one.share.decode_seconds for one in requests)
    added = sum(steps.totals.shared_seconds for steps in engine.told)
    print(f"shared {shared / engine.busy_seconds:.4f}, told {added / engine.busy_seconds:.4f}, ", end="")
    print(f"at the wrong team {moved(requests):.2%}")
    assert shared == pytest.approx(engine.busy_seconds, rel=bound)
    assert added == pytest.approx(engine.busy_seconds, rel=bound)
    assert moved(requests) < bound / 2
    assert {one.share.source for one in requests} == {ESTIMATED}
    for board in boards:
        board.close()


def test_a_board_is_of_this_user_and_tells_what_is_fresh(tmp_path):
    first, second = StepBoard(tmp_path / "board", 0), StepBoard(tmp_path / "board", 1)
    first.tell(100.0, 3, 1500.0)
    second.tell(100.1, 2, 800.0)
    assert first.others(100.2) == (2, 800.0)
    assert second.others(100.2) == (3, 1500.0)
    assert second.others(200.0) == (0, 0.0)
    assert (tmp_path / "board").stat().st_mode & 0o777 == 0o600
    first.close()
    second.close()
    assert not (tmp_path / "board").exists()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        StepBoard(tmp_path / "link", 0)


def test_a_board_takes_its_place_on_the_disk_when_it_is_made_because_a_write_into_a_hole_of_a_full_one_kills(tmp_path):
    StepBoard(tmp_path / "board", 0)
    found = (tmp_path / "board").stat()
    assert 0 < found.st_size <= found.st_blocks * 512


def test_a_request_alone_gets_all_of_its_steps():
    engine = Vllm(EngineLimits(batch_tokens=2048))
    engine.arrive(Request(500, 20))
    while engine.step():
        pass
    engine.clock += 5
    alone = Request(1000, 50)
    engine.arrive(alone)
    while engine.step():
        pass
    assert alone.share.prefill_seconds + alone.share.decode_seconds == pytest.approx(alone.true_seconds, rel=0.01)


def test_who_was_broken_off_keeps_what_it_used():
    engine = Vllm(EngineLimits(batch_tokens=2048))
    gone, stays = Request(400, 500), Request(400, 60)
    engine.arrive(stays)
    engine.arrive(gone)
    for _ in range(31):
        engine.step()
    share = engine.steps.share_of_gone(engine.live(gone))
    assert share.prefill_seconds + share.decode_seconds == pytest.approx(gone.true_seconds, rel=0.02)
    engine.running.remove(gone)
    while engine.step():
        pass
    assert stays.share.prefill_seconds + stays.share.decode_seconds == pytest.approx(stays.true_seconds, rel=0.02)


def test_a_request_that_never_came_to_a_token_has_no_share():
    engine = Vllm(EngineLimits(batch_tokens=2048))
    assert engine.steps.share_of_gone(engine.live(Request(400, 5))) is None
    assert engine.steps.share(engine.row(Request(400, 5))) is None


def test_preempted_requests_and_several_processes_are_marked_estimated():
    for limits, preemptions in ((EngineLimits(2048), 1), (EngineLimits(2048, processes=2), 0)):
        engine = Vllm(limits)
        one = Request(100, 10, preemptions=preemptions)
        engine.arrive(one)
        while engine.step():
            pass
        assert one.share.source == ESTIMATED


def test_a_step_costs_little_and_strange_statistics_do_no_harm():
    steps = EngineSteps()
    steps.record(None, None)
    steps.record(SimpleNamespace(), SimpleNamespace(finished_requests=[]))
    steps.record(SimpleNamespace(num_running_reqs=None, num_waiting_reqs=None), None)
    assert steps.totals.busy_seconds >= 0.0
    assert steps.totals.output_tokens == 0


def test_a_first_token_comes_of_a_step_that_made_one():
    """An event loop that is late, or several of them, tell of a step later than it ended."""
    history = StepHistory(limit=64)
    assert history.first_token_nearest(1.0, -1) == -1
    made_first = (110, 113, 140)
    for k in range(150):
        mark = Mark(k, k, 0, 0, sum(k >= at for at in made_first), 0, 0)
        history.append(Moment(float(k), mark, 0.0, 0.0, True), first_tokens=k in made_first)
    assert len(history) < 150, "the oldest were forgotten"
    times = (107.6, 111.4, 111.6, 126.0, 127.0, 149)
    found = [history[history.first_token_nearest(at, len(history) - 1)].at for at in times]
    assert found == [110, 110, 113, 113, 140, 140]
    until = history.nearest(120.0)
    assert history[history.first_token_nearest(139.0, until)].at == 113, "its last token came before"
    assert history[history.first_token_nearest(105.0, history.nearest(105.0))].at == 105, "no step made one by then"
    assert history.first_token_nearest(0.0, until) == 0, "older than what is kept"
    for processes in (1, 2):
        share = settle(history, EngineLimits(processes=processes), 100.0, 105.0, 125.0, 8, 0, 5, 0, finished=False)
        assert share is not None and share.prefill_seconds == 1.0


@pytest.mark.parametrize(("made", "stays_late"), [(1, True), (2, True), (3, True), (3, False), (20, True), (20, False)])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_request_is_charged_its_own_steps_where_the_first_is_told_late(asynchronous, made, stays_late):
    """After idleness a step's end is known by when it is told alone: here two steps later; so it seems longer, too."""
    engine = Vllm(EngineLimits(2048, asynchronous=asynchronous))
    before, gone = Request(40, 12), Request(30, 500)
    engine.arrive(before)
    while engine.step():
        pass
    engine.clock += 0.001
    engine.arrive(gone)
    engine.late_seconds = 0.04
    engine.step()
    engine.late_seconds = 0.04 if stays_late else 0.0
    for _ in range(made - 1):
        engine.step()
    share = engine.steps.share_of_gone(engine.live(gone))
    assert share.prefill_seconds > 0.0
    assert (share.decode_seconds > 0.0) == (made > 1)
    shares = [seconds for each in (before.share, share) for seconds in (each.prefill_seconds, each.decode_seconds)]
    assert sum(shares) == pytest.approx(engine.steps.totals.busy_seconds, rel=0.01)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_prompts_of_one_step_that_are_not_alike_are_charged_what_it_took(asynchronous):
    """A step knows the sums over its prompts alone, so each is charged by the mean position of their tokens."""
    engine = Vllm(EngineLimits(2048, asynchronous=asynchronous))
    engine.steps.shares.costs.coefficients = [0.01, 1e-4, 1e-7, 1e-3, 1e-4, 1e-5]
    asked = [Request(3, 1), Request(7, 1), Request(180, 1, cached=160)]
    for one in asked:
        engine.arrive(one)
    while engine.step():
        pass
    assert engine.steps.totals.busy_seconds > 0.0
    assert sum(one.share.prefill_seconds for one in asked) == pytest.approx(engine.steps.totals.busy_seconds)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_first_step_is_charged_where_the_front_end_took_less_than_it_was_thought_to(processes):
    engine = Vllm(EngineLimits(2048, processes=processes))
    for steps in engine.told:
        steps._overhead = 60.0
    one = Request(100, 10)
    engine.arrive(one)
    while engine.step():
        pass
    assert one.share.prefill_seconds > 0.0


def test_the_history_forgets_the_oldest_and_finds_the_rest():
    history = StepHistory(limit=10)
    for k in range(100):
        history.append(Moment(float(k), Mark(k, 0, 0, 0, 0, 0, 0), 0.0, 0.0, True))
    assert 10 <= len(history) <= 20
    assert history[history.nearest(95.4)].mark.steps == 95
    assert history[history.nearest(95.6)].mark.steps == 96
    assert history[history.before(95.6)].mark.steps == 95
    assert history[history.nearest(1e9)].at == history[-1].at == 99
    assert history.nearest(0.0) == 0 and history.before(0.0) == -1


def test_of_several_engines_a_broken_off_request_ran_on_the_one_that_had_its_last_token():
    engines = [Vllm(EngineLimits(batch_tokens=2048), clock=clock) for clock in (100.0, 100.007)]
    gone = [Request(400 + 200 * k, 500) for k in range(2)]
    for engine, one in zip(engines, gone, strict=True):
        engine.arrive(one)
        for _ in range(31):
            engine.step()
    facts = EngineFacts(steps={rank: engine.steps for rank, engine in enumerate(engines)})
    for engine, one in zip(engines, gone, strict=True):
        share = facts.share_of_gone(engine.live(one))
        assert share.prefill_seconds + share.decode_seconds == pytest.approx(one.true_seconds, rel=0.02)
        assert share.source == ESTIMATED
    assert EngineFacts().share_of_gone(engines[0].live(gone[0])) is None


strange = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(-1e3, 1e3))
counts = st.integers(-3, 400)
strange_steps = st.lists(
    st.tuples(st.lists(strange, max_size=4), st.lists(strange, max_size=3), counts, counts, counts, strange),
    max_size=25,
)


@settings(max_examples=150, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(strange_steps)
def test_no_statistics_poison_the_sums(told):
    clock = [100.0]
    steps = EngineSteps(EngineLimits(batch_tokens=64), now=lambda: clock[0])
    for gaps, firsts, tokens, running, computed, passed in told:
        clock[0] += abs(passed) if math.isfinite(passed) else 0.0
        row = SimpleNamespace(
            e2e_latency=passed, decode_time=gaps[0] if gaps else 0.0, prefill_time=0.1, num_prompt_tokens=computed,
            num_generation_tokens=tokens,
        )  # fmt: skip
        iteration = SimpleNamespace(
            inter_token_latencies_iter=gaps, time_to_first_tokens_iter=firsts, num_generation_tokens=tokens,
            prompt_token_stats=SimpleNamespace(computed=computed, total=computed), finished_requests=[row],
        )  # fmt: skip
        steps.record(SimpleNamespace(num_running_reqs=running, num_waiting_reqs=0), iteration)
        share = steps.share(row)
        assert share is None or (math.isfinite(share.prefill_seconds) and math.isfinite(share.decode_seconds))
    assert all(math.isfinite(value) for value in steps.shares.mark())
    assert math.isfinite(steps.totals.busy_seconds) and steps.totals.busy_seconds >= 0
