"""Whose were the engine's steps? Splits the time of every step over its sequences, at O(1) a step and O(1) a request.

A step of `n` decoding sequences with `C` tokens of context in all, and of `m` prefilling ones that compute `p` tokens
each at a mean position of `x`, is taken to last about

    step + sequence*n + context*C + prefill_step*[m > 0] + prefill*sum(p) + attention*sum(p*x)

The coefficients are learned from the steps themselves. A step's seconds are then shared as they were caused: `step`
equally over all n + m sequences and `prefill_step` over the m (the Shapley value of a cost with a fixed part), the rest
to the sequence that has the tokens; all scaled by what the step really took, so that the shares of a step sum to its
elapsed time whatever the coefficients are.

No sequence is touched in a step: six running sums move. A decoding sequence that joined at step k0 with a context of c0
tokens has c0 + (k - k0) of them in step k, so its share of any stretch of steps is

    d(equal) + (c0 - k0) * d(weight) + d(weighted_steps)            d: the sum's growth over the stretch

and that of a prefill chunk in its step is `d(prefill_each) + tokens*d(prefill_token) + tokens*x*d(prefill_span)`.
Plain floats throughout, so that it can be written down again in a compiled simulator.

Undefined when: a step has no sequence (its seconds are counted as `unshared_seconds`).
"""

from __future__ import annotations

from typing import NamedTuple

FEATURES = 6
"""step, sequence, context, prefill_step, prefill, attention, in this order everywhere."""
PRIOR = (1.0, 0.005, 5e-6, 0.1, 0.004, 5e-8)
"""What is believed before anything was seen, relative to `step`: the middle of measured engines. Only ratios count."""
PRIOR_WEIGHT = 1e-5
"""How much of each feature's own information the prior is given: it decides what the steps cannot tell apart."""
SOLVE_STEPS = 256
"""Steps between two solutions; the first come at 8, 16, 32 … steps."""
_FIRST_SOLVE = 8
KEPT_RATIO = 0.9975
"""Weight of the past at each solution: steps are forgotten over about a hundred thousand."""
SAMPLED = 4
"""After the first `SETTLED_STEPS`, one in so many steps without prefill is learned from: they are much alike."""
SETTLED_STEPS = 1024
_SHORTEST_SECONDS, _LONGEST_SECONDS = 1e-7, 86_400.0
"""What lies outside is no step's time, and is not counted."""


class Mark(NamedTuple):
    """The running sums at one moment. Unit: s, per sequence, token or token times position; `steps` is a count."""

    steps: float
    equal: float
    weight: float
    weighted_steps: float
    prefill_each: float
    prefill_token: float
    prefill_span: float


def decode_seconds(start: Mark, end: Mark, context_tokens: float) -> float:
    """The share of one sequence that decoded in every step between two marks.

    Args:
        start: before its first decoding step.
        end: after its last.
        context_tokens: its context in the first of these steps.
    """
    weight = end.weight - start.weight
    share = (
        end.equal - start.equal + (context_tokens - start.steps) * weight + end.weighted_steps - start.weighted_steps
    )
    return max(share, 0.0)


def prefill_seconds(start: Mark, end: Mark, tokens: float, position: float) -> float:
    """The share of one prefill chunk.

    Args:
        start: before the step that computed it.
        end: after that step.
        tokens: tokens computed, the cached ones not included.
        position: the mean position of these tokens in their sequence.
    """
    each = end.prefill_each - start.prefill_each
    token = end.prefill_token - start.prefill_token
    return each + tokens * (token + position * (end.prefill_span - start.prefill_span))


class StepCosts:
    """Learns the seconds of a step from steps: weighted least squares, never negative, slowly forgetting.

    Each step weighs one over its time squared: relative errors count, and a step that hung says little.
    """

    __slots__ = ("_learned", "_next", "_sums", "_targets", "coefficients")

    def __init__(self) -> None:
        self.coefficients: list[float] = list(PRIOR)
        """Seconds per unit of each feature once learned; before that, only their ratios mean something."""
        self._sums = [0.0] * (FEATURES * FEATURES)
        self._targets = [0.0] * FEATURES
        self._learned = 0
        self._next = _FIRST_SOLVE

    @property
    def learned(self) -> bool:
        """Whether the coefficients come from steps."""
        return self._learned >= _FIRST_SOLVE

    def learn(self, seconds: float, features: tuple[float, float, float, float, float, float]) -> None:
        """Take one step in: O(1), 27 multiplications; now and then the coefficients are solved for."""
        over = 1.0 / seconds
        u, n, c, h, p, q = features
        u, n, c = u * over, n * over, c * over
        sums, targets = self._sums, self._targets
        sums[0] += u * u
        sums[1] += u * n
        sums[2] += u * c
        sums[7] += n * n
        sums[8] += n * c
        sums[14] += c * c
        targets[0] += u
        targets[1] += n
        targets[2] += c
        if h:
            h, p, q = h * over, p * over, q * over
            sums[3] += u * h
            sums[4] += u * p
            sums[5] += u * q
            sums[9] += n * h
            sums[10] += n * p
            sums[11] += n * q
            sums[15] += c * h
            sums[16] += c * p
            sums[17] += c * q
            sums[21] += h * h
            sums[22] += h * p
            sums[23] += h * q
            sums[28] += p * p
            sums[29] += p * q
            sums[35] += q * q
            targets[3] += h
            targets[4] += p
            targets[5] += q
        self._learned += 1
        if self._learned >= self._next:
            self._next += min(self._learned, SOLVE_STEPS)
            self.coefficients = solve(sums, targets)
            for i in range(FEATURES * FEATURES):
                sums[i] *= KEPT_RATIO
            for i in range(FEATURES):
                targets[i] *= KEPT_RATIO


def solve(sums: list[float], targets: list[float]) -> list[float]:
    """Non-negative coefficients of the least squares, leaning on the prior where the steps say nothing.

    Args:
        sums: weighted sums of products of two features, row-major, of which the upper triangle is read.
        targets: weighted sums of feature times seconds.
    """
    believed = sum(PRIOR[i] * targets[i] for i in range(FEATURES))
    square = 0.0
    for i in range(FEATURES):
        for j in range(FEATURES):
            square += PRIOR[i] * PRIOR[j] * sums[min(i, j) * FEATURES + max(i, j)]
    scale = believed / square if square > 0.0 else 1.0
    kept = [True] * FEATURES
    while True:
        found = _solve_kept(sums, targets, kept, scale)
        worst, where = 0.0, -1
        for i in range(FEATURES):
            # Compared in seconds of the feature's own size, so that units do not matter.
            size = found[i] * sums[i * FEATURES + i] ** 0.5
            if kept[i] and size < worst:
                worst, where = size, i
        if where < 0:
            return found
        kept[where] = False


def _solve_kept(sums: list[float], targets: list[float], kept: list[bool], scale: float) -> list[float]:
    """Gauss on the features that are kept, each scaled to size one; those never seen keep their prior."""
    sizes = [sums[i * FEATURES + i] ** 0.5 for i in range(FEATURES)]
    rows = []
    for i in range(FEATURES):
        row = [0.0] * (FEATURES + 1)
        if kept[i] and sizes[i] > 0.0:
            for j in range(FEATURES):
                if kept[j] and sizes[j] > 0.0:
                    row[j] = sums[min(i, j) * FEATURES + max(i, j)] / (sizes[i] * sizes[j])
            row[i] += PRIOR_WEIGHT
            row[FEATURES] = targets[i] / sizes[i] + PRIOR_WEIGHT * PRIOR[i] * scale * sizes[i]
        else:
            row[i] = 1.0
            row[FEATURES] = PRIOR[i] * scale if kept[i] else 0.0
        rows.append(row)
    for i in range(FEATURES):  # positive definite by the prior's weight: no pivoting
        pivot = rows[i]
        for k in range(i + 1, FEATURES):
            ratio = rows[k][i] / pivot[i]
            if ratio != 0.0:
                for j in range(i, FEATURES + 1):
                    rows[k][j] -= ratio * pivot[j]
    found = [0.0] * FEATURES
    for i in range(FEATURES - 1, -1, -1):
        rest = rows[i][FEATURES]
        for j in range(i + 1, FEATURES):
            rest -= rows[i][j] * found[j]
        found[i] = rest / rows[i][i]
    return [found[i] / sizes[i] if kept[i] and sizes[i] > 0.0 else found[i] for i in range(FEATURES)]


class StepShares:
    """The running sums of one engine, and the costs learned from it."""

    __slots__ = (
        "busy_seconds",
        "costs",
        "equal",
        "prefill_each",
        "prefill_span",
        "prefill_token",
        "steps",
        "unshared_seconds",
        "weight",
        "weighted_steps",
    )

    def __init__(self) -> None:
        self.costs = StepCosts()
        self.steps = 0.0
        self.equal = self.weight = self.weighted_steps = 0.0
        self.prefill_each = self.prefill_token = self.prefill_span = 0.0
        self.busy_seconds = 0.0
        self.unshared_seconds = 0.0
        """Of `busy_seconds`, those of steps in which no sequence was seen."""

    def mark(self) -> Mark:
        """The running sums as they are."""
        return Mark(
            self.steps,
            self.equal,
            self.weight,
            self.weighted_steps,
            self.prefill_each,
            self.prefill_token,
            self.prefill_span,
        )

    def expected_seconds(
        self, decoding: float, context_tokens: float, prefilling: float, prefill_tokens: float, prefill_span: float
    ) -> float | None:
        """What a step of this composition is expected to take; None before anything was learned."""
        if not self.costs.learned:
            return None
        step, sequence, context, prefill_step, prefill, attention = self.costs.coefficients
        expected = step + sequence * decoding + context * context_tokens
        if prefilling > 0.0:
            expected += prefill_step + prefill * prefill_tokens + attention * prefill_span
        return expected

    def step(
        self,
        seconds: float,
        decoding: float,
        context_tokens: float,
        prefilling: float = 0.0,
        prefill_tokens: float = 0.0,
        prefill_span: float = 0.0,
        learn: bool = True,
    ) -> None:
        """Share out one step.

        Args:
            seconds: what it took.
            decoding: sequences that decoded in it.
            context_tokens: their context in all.
            prefilling: sequences that prefilled in it.
            prefill_tokens: tokens that those computed, the cached ones not included.
            prefill_span: the sum of these tokens' positions in their sequences.
            learn: False where the seconds are not trusted enough to learn from.
        """
        before = self.steps
        self.steps = before + 1.0
        if not _SHORTEST_SECONDS < seconds < _LONGEST_SECONDS:
            return
        self.busy_seconds += seconds
        sequences = decoding + prefilling
        if sequences <= 0.0:
            self.unshared_seconds += seconds
            return
        step, sequence, context, prefill_step, prefill, attention = self.costs.coefficients
        expected = step + sequence * decoding + context * context_tokens
        if prefilling > 0.0:
            expected += prefill_step + prefill * prefill_tokens + attention * prefill_span
        if expected <= 0.0:  # nothing is known of such steps: share them equally
            step, expected, sequence, context, prefill_step, prefill, attention = 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
        scale = seconds / expected
        share = scale * step / sequences
        weight = scale * context
        self.equal += share + scale * sequence
        self.weight += weight
        self.weighted_steps += weight * before
        if prefilling > 0.0:
            self.prefill_each += share + scale * prefill_step / prefilling
            self.prefill_token += scale * prefill
            self.prefill_span += scale * attention
        if learn and (prefilling > 0.0 or before < SETTLED_STEPS or before % SAMPLED == 0.0):
            features = (1.0, decoding, context_tokens, float(prefilling > 0.0), prefill_tokens, prefill_span)
            self.costs.learn(seconds, features)
