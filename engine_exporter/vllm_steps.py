"""The steps of one vLLM engine, put together from what its stat logger is told, and each request's share of them.

vLLM tells after a step: the gap since the last token of each decoding sequence (so the step's time on the engine's own
clock), how many first tokens there were and how many prompt tokens were computed for them, how many requests run and
wait, and who finished, with its times. It does not tell who was in the step. So the running sums are kept by time, and
a request is settled at its end against those at its first token, which its own times name to the step.

Known to the step: a server with one API process. Estimated, and marked so: several API processes (each is told of its
own requests alone; the others tell theirs on a board, but not what they prefill), preempted requests
(charged for as many steps as they have tokens; what their second prefill cost is shared by all), chunks of a prompt
that is not completed in the step (the token budget less what is accounted for, unless the engine tells by
`--enable-logging-iteration-details`), and the first step after idleness (arrival to first token, less what the front
end took before).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from engine_exporter.step_board import StepBoard
from engine_exporter.step_history import Moment, StepHistory
from engine_exporter.step_settling import StepShare, settle
from engine_exporter.step_shares import Mark, StepShares
from engine_exporter.vllm_step_stats import (
    LONGEST_SECONDS,
    NO_OUTPUT,
    EngineLimits,
    StepOutput,
    StepTotals,
    completed_span,
    read_iteration,
    sound_seconds,
)

_CLOCK_SLACK_SECONDS = 0.002
_SURPRISE_RATIO = 1.3
"""With several API processes: a step this much longer than expected has prefilled for another process."""


class EngineSteps:
    """One engine, as one API process sees it. `record` is called once a step and costs a few microseconds."""

    def __init__(
        self,
        limits: EngineLimits | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
        board: StepBoard | None = None,
    ) -> None:
        """Start before the first step.

        Args:
            limits: what the configuration says.
            board: what the other API processes tell; None where there are none.
            now: the monotonic clock of this machine, which the engine's processes share.
        """
        self.limits = limits or EngineLimits()
        self.shares = StepShares()
        self.totals = StepTotals()
        self.history = StepHistory()
        self._now = now
        self._board = board
        self._alone = self.limits.processes == 1
        self._surprise = 0.0
        """Share of late steps that took much longer than what is known of them."""
        self._at = now()
        self._idle = True
        self._uncounted: float | None = None
        """Time counted since a prompt's first chunk after idleness, whose own time is not known yet."""
        self._overhead: float | None = None
        self._running = 0
        self._others = 0
        self._own = 0
        self._own_context = 0.0
        self._chunk_outstanding = 0.0
        self._chunk_tokens = 0.0
        self._chunk_seconds = 0.0
        self.history.append(Moment(self._at, self.shares.mark(), 0.0, 0.0, False))

    def record(self, scheduler: Any, iteration: Any) -> None:
        """Take in one engine step.

        Args:
            scheduler: vLLM's `SchedulerStats`, or None.
            iteration: vLLM's `IterationStats`, or None where no request of this process had output.
        """
        now = self._now()
        if (
            self._alone
            and scheduler is not None
            and iteration is not None
            and self._decode_only(now, scheduler, iteration)
        ):
            return
        details = getattr(scheduler, "iteration_details", None)
        if details is not None and getattr(details, "is_dummy", False):
            return
        own = read_iteration(iteration) if iteration is not None else NO_OUTPUT
        finished = iteration.finished_requests if iteration is not None else ()
        known = self._running
        decoding, first = len(own.gaps), own.first_count
        if scheduler is not None:
            self._running = max(int(getattr(scheduler, "num_running_reqs", 0) or 0), 0)
        if decoding < self._own:  # some were aborted or preempted and nobody said so: keep the mean
            self._own_context *= decoding / self._own
        partial = self._partial(known, decoding + first, len(finished))
        tokens, chunk = self._prefill(own, details, partial, decoding)
        completed = max(tokens - chunk, 0.0)
        if first:  # what completes its prompt was begun in the chunks before
            self._chunk_outstanding = max(self._chunk_outstanding - max(own.computed_tokens - completed, 0.0), 0.0)
        prefilling = first + partial
        own_span = completed_span(completed, own)
        span = own_span + chunk * (self._chunk_outstanding + chunk / 2)
        others, other_context = self._not_own(now, decoding)
        n, context = decoding + others, self._own_context + other_context
        seconds, sure, busy = self._elapsed(now, own, details, n, context, prefilling, tokens, span)
        seconds = sound_seconds(seconds)
        if decoding or prefilling or seconds > 0.0:
            before = self.shares.mark()
            if others and sure:
                self._step_among_others(seconds, n, context, prefilling, tokens, span, own)
            else:
                self.shares.step(seconds, n, context, prefilling, tokens, span, learn=sure)
            self._count(before, own, decoding, prefilling, tokens, span, chunk, partial, seconds)
            # Requests are charged by the position that the step was: what they are told sums to what it took.
            position = own_span / completed if completed > 0.0 else 0.0
            self.history.append(
                Moment(self._at, self.shares.mark(), self._chunk_tokens, self._chunk_seconds, busy, position),
                first_tokens=first > 0,
            )
        self._chunk_outstanding = self._chunk_outstanding + chunk if partial else 0.0
        self._own = decoding + first - len(finished)
        self._own_context += own.prompt_tokens + own.output_tokens - first
        for stats in finished:
            self._leave(stats)
        if self._own <= 0:
            self._own, self._own_context = 0, 0.0
        if self._board is not None:
            self._board.tell(now, self._own, self._own_context)
        if scheduler is not None:
            waiting = int(getattr(scheduler, "num_waiting_reqs", 0) or 0)
            self._idle = self._running == 0 and waiting == 0
            self._others = max(self._running - self._own, 0) if self.limits.processes > 1 else 0
        elif self.limits.processes > 1:
            self._idle = self._own == 0

    def _decode_only(self, now: float, scheduler: Any, iteration: Any) -> bool:
        """Take in the plainest of steps, which are nearly all: the same sequences decode as before, and no more."""
        gaps = getattr(iteration, "inter_token_latencies_iter", None)
        if not gaps or getattr(iteration, "time_to_first_tokens_iter", None) or iteration.finished_requests:
            return False
        decoding, running = len(gaps), getattr(scheduler, "num_running_reqs", None)
        if decoding != self._own or running != decoding or self._running != decoding or self._uncounted is not None:
            return False
        gap = gaps[0] if gaps[0] < gaps[-1] else gaps[-1]
        last = self._at
        if not 1e-6 < gap <= 2 * (now - last) + _CLOCK_SLACK_SECONDS:
            return False
        at = last + gap
        self._at = at = at if at < now else max(now, last)
        self.shares.step(gap, decoding, self._own_context)
        made = max(getattr(iteration, "num_generation_tokens", 0), 0)
        totals = self.totals
        totals.steps_count += 1
        totals.busy_seconds += gap
        totals.shared_seconds += gap
        totals.decoding_count += decoding
        totals.context_tokens += int(self._own_context)
        totals.output_tokens += made
        self.history.add(at, self.shares, self._chunk_tokens, self._chunk_seconds)
        self._own_context += made
        self._chunk_outstanding = 0.0
        return True

    def share(self, stats: Any) -> StepShare | None:
        """What a request that finished in the step just recorded had of the steps; None where they were not seen.

        Args:
            stats: its `FinishedRequestStats`.
        """
        decode = float(getattr(stats, "decode_time", 0.0) or 0.0)
        prefill = float(getattr(stats, "prefill_time", 0.0) or 0.0)
        first_at = self._at - decode
        return settle(
            self.history,
            self.limits,
            first_at - prefill,
            first_at,
            self._at,
            int(getattr(stats, "num_prompt_tokens", 0) or 0),
            int(getattr(stats, "num_cached_tokens", 0) or 0),
            int(getattr(stats, "num_generation_tokens", 0) or 0),
            int(getattr(stats, "num_preemptions", 0) or 0),
            finished=True,
        )

    def share_of_gone(self, state: Any) -> StepShare | None:
        """What a request that was broken off had of the steps until then; None where they were not seen.

        Args:
            state: its `RequestState`, whose times are those of the engine's monotonic clock.
        """
        stats = getattr(state, "stats", None)
        scheduled = float(getattr(stats, "scheduled_ts", 0.0) or 0.0)
        first = float(getattr(stats, "first_token_ts", 0.0) or 0.0)
        if not scheduled or not first:
            return None
        return settle(
            self.history,
            self.limits,
            scheduled,
            first,
            float(getattr(stats, "last_token_ts", first) or first),
            int(getattr(state, "prompt_len", 0) or 0),
            int(getattr(state, "num_cached_tokens", 0) or 0),
            int(getattr(stats, "num_generation_tokens", 0) or 0),
            int(getattr(stats, "num_preemptions", 0) or 0),
            finished=False,
        )

    def _partial(self, known: int, with_output: int, finished: int) -> int:
        """Requests that prefilled in this step without completing their prompt."""
        if self.limits.batch_tokens is None or self.limits.processes > 1:
            return 0
        if self.limits.asynchronous:
            return max(known - with_output, 0)
        return max(self._running - (with_output - finished), 0)

    def _prefill(self, own: StepOutput, details: Any, partial: int, decoding: int) -> tuple[float, float]:
        """Tokens prefilled in this step in all, and those of them in chunks that completed no prompt."""
        completed = max(own.computed_tokens - self._chunk_outstanding, float(own.first_count))
        if details is not None and self.limits.processes == 1:
            tokens = float(getattr(details, "num_ctx_tokens", 0) or 0)
            return tokens, max(tokens - completed, 0.0) if partial else 0.0
        chunk = 0.0
        if self.limits.processes > 1 and self.limits.batch_tokens is not None:
            room = max(self.limits.batch_tokens - decoding, own.first_count)
            return min(completed, float(room)), 0.0
        if partial and self.limits.batch_tokens is not None:
            chunk = max(self.limits.batch_tokens - decoding - completed, 0.0)
            if self.limits.chunk_tokens:
                chunk = min(chunk, float(self.limits.chunk_tokens * partial))
        return completed + chunk, chunk

    def _not_own(self, now: float, decoding: int) -> tuple[int, float]:
        """Sequences of other API processes, and their context; without a board as of the last total, like one's own."""
        if self.limits.processes == 1:
            return 0, 0.0
        if self._board is not None:
            return self._board.others(now)
        mean = self._own_context / decoding if decoding else 0.0
        return self._others, self._others * mean

    def _step_among_others(
        self, seconds: float, n: int, context: float, prefilling: int, tokens: float, span: float, own: StepOutput
    ) -> None:
        """Share out a step in which other processes may have prefilled."""
        hidden = self._prefilled_by_others(seconds, n, context, prefilling, tokens, span)
        shares = self.shares
        if not hidden:
            # The last chunk of a prompt is smaller than it seems where there were others before it.
            shares.step(seconds, n, context, prefilling, tokens, span, learn=own.computed_tokens <= tokens)
            return
        shares.step(seconds, n, context, prefilling + 1, tokens + hidden, span, learn=False)
        if prefilling and own.computed_tokens <= tokens:  # to leave out the long ones would make prefill look cheap
            shares.costs.learn(seconds, (1.0, n, context, 1.0, tokens, span))

    def _prefilled_by_others(
        self, seconds: float, n: int, context: float, prefilling: int, tokens: float, span: float
    ) -> float:
        """Tokens that other processes' requests must have prefilled, where a step took far longer than what is known.

        Unless most steps do: then the engine has become slower, and the costs are to be learned anew.
        """
        expected = self.shares.expected_seconds(n, context, prefilling, tokens, span)
        if expected is None:
            return 0.0
        long = seconds > _SURPRISE_RATIO * expected
        self._surprise += 0.05 * (long - self._surprise)
        prefill = self.shares.costs.coefficients[4]
        if not long or self._surprise > 0.5 or prefill <= 0.0:
            return 0.0
        return (seconds - expected) / prefill

    def _elapsed(
        self,
        now: float,
        own: StepOutput,
        details: Any,
        n: int,
        context: float,
        prefilling: int,
        tokens: float,
        span: float,
    ) -> tuple[float, bool, bool]:
        """Seconds of this step; whether to learn from them; whether it began where the last one ended."""
        last = self._at
        if own.gaps:
            gap = sound_seconds(min(own.gaps[0], own.gaps[-1]))
            self._at = min(last + gap, max(now, last))
            if gap > 2 * (now - last) + _CLOCK_SLACK_SECONDS:  # its last token is more than a step ago
                return max(now - last, 0.0), False, True
            return gap, self._uncounted is None, True
        self._at = max(now, last)
        expected = self.shares.expected_seconds(n, context, prefilling, tokens, span)
        since_arrival = own.slowest_ttft - (self._overhead or 0.0) if own.first_count else 0.0
        sure = since_arrival > 0.0
        if not sure:  # the front end took less than it was thought to
            since_arrival = own.slowest_ttft if expected is None else min(own.slowest_ttft, expected)
        if self.limits.processes > 1:  # the steps between were others', and the wait for them is in the arrival's time
            seconds = min(since_arrival, self._at - last)
            if not n:  # nobody decodes, so it was idle
                return seconds, sure, False
            return seconds if expected is None else min(seconds, expected), False, False
        if not self._idle:
            seconds = self._at - last
            if self._uncounted is None:
                return seconds, own.first_count > 0, True
            self._uncounted += seconds
            if own.first_count:
                seconds += max(since_arrival - self._uncounted, 0.0)
                self._uncounted = None
            return seconds, False, True
        told = sound_seconds(float(getattr(details, "elapsed_ms", 0.0) or 0.0) / 1000)
        if told > 0.0:
            return min(told, self._at - last), True, False
        if not own.first_count:
            self._uncounted = 0.0
            return 0.0, False, False
        self._uncounted = None
        return min(since_arrival, self._at - last), sure, False

    def _count(
        self, before: Mark, own: StepOutput, decoding: int, prefilling: int, tokens: float, span: float, chunk: float,
        partial: int, seconds: float,
    ) -> None:  # fmt: skip
        shares, totals = self.shares, self.totals
        each = shares.prefill_each - before.prefill_each
        token = shares.prefill_token - before.prefill_token
        position = shares.prefill_span - before.prefill_span
        rest = own.computed_tokens - tokens if self.limits.processes > 1 else 0.0
        if rest > 0.0:  # prefilled in steps before, which were seen to be long and not charged to anybody
            self._chunk_tokens += rest
            earlier = rest * self.shares.costs.coefficients[4] if self.shares.costs.learned else 0.0
            self._chunk_seconds += earlier
            totals.shared_seconds += earlier
        if chunk > 0.0:
            self._chunk_tokens += chunk
            at = self._chunk_outstanding + chunk / 2
            self._chunk_seconds += partial * each + chunk * (token + at * position)
        totals.steps_count += 1
        totals.busy_seconds += seconds
        totals.shared_seconds += (
            decoding * (shares.equal - before.equal)
            + self._own_context * (shares.weight - before.weight)
            + prefilling * each + tokens * token + span * position
        )  # fmt: skip
        totals.decoding_count += decoding
        totals.prefilling_count += prefilling
        totals.context_tokens += round(self._own_context)
        totals.prefill_tokens += round(tokens)
        totals.output_tokens += own.output_tokens

    def _leave(self, stats: Any) -> None:
        prompt, made = getattr(stats, "num_prompt_tokens", 0), getattr(stats, "num_generation_tokens", 0)
        self._own_context = max(self._own_context - max(prompt or 0, 0) - max((made or 0) - 1, 0), 0.0)
        engine = sum(getattr(stats, name, 0.0) or 0.0 for name in ("queued_time", "prefill_time", "decode_time"))
        overhead = max((getattr(stats, "e2e_latency", 0.0) or 0.0) - engine, 0.0)
        if not overhead <= LONGEST_SECONDS:
            return
        if self._overhead is None or overhead < self._overhead:
            self._overhead = overhead
        else:  # near the least there is: what a busy event loop adds is no part of it
            self._overhead += 0.02 * (overhead - self._overhead)
