"""Weights out of the engine's phase times, compiled: whose was the time of a batch, told from when requests ran in
it.

Of each request it is known when it was scheduled, when its first token came and when its last. Between two such
moments nothing changes, so one sweep over an hour of a replica recovers its steps: a prefill that ends is one step,
shared with the sequences that decode then; in the time without prefill each decoding sequence makes its tokens at
its own measured rate, whose mean is the rate of steps. Running sums over the sweep give each request, at the cost of
two look-ups, how many sequences shared its steps and how many prompt tokens were computed beside it. From those the
costs of a step are learned (`step_costs`: the measured phases are the left sides), and each request is given what it
caused: `step` divided by the sequences that were there, the rest its own. So the batch is taken into account, and
the shares of an hour add up.

`shapley` is the same sweep with teams as the players: the cost of a set of teams is the time that the hour's steps
would take with these teams' sequences alone, and a step that any of them is in costs `step` once. That cost is a sum
of terms "paid once if any of these teams is there", whose Shapley value is an equal part for each of them, so it is
exact for any number of teams; a team's part is divided among its sequences.

Undefined when: requests were preempted (their recomputation is in their decode time) or prompts were computed in
several chunks (counted as one step); such hours are the less exact.
"""

from __future__ import annotations

import numpy as np

from analytics.allocation.exact import sort_values
from analytics.allocation.layout import PHASES_KNOWN, compiled
from analytics.allocation.pieces import whole_us
from analytics.allocation.step_costs import FEATURES, learn, solve

PREFILL_STARTS, PREFILL_ENDS, DECODE_STARTS, DECODE_ENDS = 0, 1, 2, 3
PHASE_PRIOR_WEIGHT = 1e-3
SUMS = 9
"""Running sums: pure decode seconds, steps, step shares, sequences, context, mixed steps, prompt tokens, attention, and
step shares by team."""
PURE, STEPS, EQUAL, SEQUENCES, CONTEXT, MIXED, PROMPT, ATTENTION, TEAM_EQUAL = range(SUMS)


@compiled
def ends_prefill(p):  # type: ignore[no-untyped-def]
    """Whether a request's first token comes in this piece; in exactly one of its pieces it does."""
    return p.lo < p.first <= p.hi or p.first == p.begin == p.lo


@compiled
def events_of(piece, hour_at, packed):  # type: ignore[no-untyped-def]
    """The moments at which a cell's batch changes, packed as (µs, piece, kind) and sorted; return how many."""
    n = 0
    for k in range(piece.shape[0]):
        p = piece[k]
        if p.flags & PHASES_KNOWN == 0 or p.hi <= p.lo:
            continue
        tag = k << 2
        if p.begin < p.first and p.first > p.lo and p.begin < p.hi:
            packed[n] = (max(p.begin, p.lo) - hour_at) << 28 | tag | PREFILL_STARTS
            n += 1
        if ends_prefill(p):
            packed[n] = (p.first - hour_at) << 28 | tag | PREFILL_ENDS
            n += 1
        elif p.first <= p.lo:
            packed[n] = (p.lo - hour_at) << 28 | tag | DECODE_STARTS
            n += 1
        if p.end > p.first and p.first < p.hi:
            packed[n] = (p.hi - hour_at) << 28 | tag | DECODE_ENDS
            n += 1
    sort_values(packed, n)
    return n


@compiled
def decoded(p):  # type: ignore[no-untyped-def]
    """Tokens that a piece decodes: (before it, in it)."""
    length = float(p.end - p.first)
    tokens = float(max(p.made - 1, 0))
    if length <= 0.0 or p.hi <= p.first:
        return 0.0, 0.0
    lo = max(p.lo, p.first)
    return tokens * (lo - p.first) / length, tokens * (p.hi - lo) / length


@compiled
def find_rates(piece, packed, n, start, rate):  # type: ignore[no-untyped-def]
    """First pass: the steps a second that each sequence made while nothing prefilled."""
    decoding, prefilling, pure, mixed, before, last = 0, 0, 0.0, 0.0, 0, -1
    for e in range(n):
        at, k, kind = packed[e] >> 28, (packed[e] >> 2) & 0x3FFFFFF, packed[e] & 3
        if decoding > 0 and prefilling == 0:
            pure += (at - before) * 1e-6
        before = at
        p = piece[k]
        if kind == PREFILL_STARTS:
            prefilling += 1
        elif kind == DECODE_ENDS:
            decoding -= 1
            seconds = pure - start[k, PURE]
            steps = max(decoded(p)[1] - (mixed - start[k, MIXED]), 0.0)
            rate[k] = steps / seconds if seconds > 0.0 else 0.0
        else:
            if kind == PREFILL_ENDS:
                if p.begin < p.first and p.first > p.lo:
                    prefilling -= 1
                if at != last:
                    mixed += 1.0
                    last = at
            if p.end > p.first and p.first < p.hi:
                decoding += 1
                start[k, PURE], start[k, MIXED] = pure, mixed


@compiled
def take_steps(now, count, decoding, context, teams, present):  # type: ignore[no-untyped-def]
    """Move the running sums over `count` steps of a batch without prefill; return the context after them."""
    now[STEPS] += count
    now[EQUAL] += count / decoding
    now[SEQUENCES] += count * decoding
    now[CONTEXT] += count * (context + 0.5 * decoding * max(count - 1.0, 0.0))
    if teams.shape[0] > 0:
        there = 0
        for t in range(present.shape[0]):
            there += present[t] > 0
        for t in range(present.shape[0]):
            if present[t] > 0:
                teams[t] += count / (there * present[t])
    return context + decoding * count


@compiled
def mixed_step(piece, packed, first, last, now, decoding, context, teams, present, team, own, sums, targets, seconds):  # type: ignore[no-untyped-def]
    """Take the step whose prefills end together (events first to last): share it, and learn from it."""
    count, tokens, attention, whole = 0, 0.0, 0.0, True
    for e in range(first, last):
        if packed[e] & 3 == PREFILL_ENDS:
            p = piece[(packed[e] >> 2) & 0x3FFFFFF]
            computed = float(p.prompt - p.cached)
            tokens += computed
            attention += computed * (p.cached + 0.5 * computed)
            whole = whole and p.begin >= p.lo and p.preemptions == 0
            present[team[p.key]] += 1
            count += 1
    if count == 0:
        return context
    there = 0
    for t in range(present.shape[0]):
        there += present[t] > 0
    for e in range(first, last):
        if packed[e] & 3 == PREFILL_ENDS:
            k = (packed[e] >> 2) & 0x3FFFFFF
            own[k, 0] = 1.0 / (decoding + count)
            own[k, 1] = 1.0 / count
            own[k, 2] = 1.0 / (there * present[team[piece[k].key]])
    if seconds > 0.0 and whole:
        learn(sums, targets, seconds, (1.0, float(decoding), context, 1.0, tokens, attention))
    now[STEPS] += 1.0
    now[EQUAL] += 1.0 / (decoding + count)
    now[SEQUENCES] += decoding
    now[CONTEXT] += context
    now[MIXED] += 1.0
    now[PROMPT] += tokens
    now[ATTENTION] += attention
    if teams.shape[0] > 0:
        for t in range(present.shape[0]):
            if present[t] > 0:
                teams[t] += 1.0 / (there * present[t])
    for e in range(first, last):
        if packed[e] & 3 == PREFILL_ENDS:
            present[team[piece[(packed[e] >> 2) & 0x3FFFFFF].key]] -= 1
    return context + decoding


@compiled
def note(sums, k, now, teams, team):  # type: ignore[no-untyped-def]
    """Write down the running sums as they are."""
    for j in range(SUMS):
        sums[k, j] = now[j]
    if teams.shape[0] > 0:
        sums[k, TEAM_EQUAL] = teams[team]


@compiled
def take_away(end, start, k, difference):  # type: ignore[no-untyped-def]
    """The growth of the running sums between two notes."""
    for j in range(SUMS):
        difference[j] = end[k, j] - start[k, j]


@compiled
def sweep(piece, packed, n, rate, start, end, own, teams, present, team, sums, targets):  # type: ignore[no-untyped-def]
    """Second pass: the running sums at the start and end of each piece's decoding; learns the costs of a step."""
    now = np.zeros(SUMS)
    decoding, prefilling, rates, context, before, began = 0, 0, 0.0, 0.0, 0, 0
    e = 0
    while e < n:
        at = packed[e] >> 28
        if decoding > 0 and prefilling == 0 and at > before:
            count = (at - before) * 1e-6 * max(rates, 0.0) / decoding
            context = take_steps(now, count, float(decoding), context, teams, present)
        before = at
        last = e
        while last < n and packed[last] >> 28 == at:
            last += 1
        context = mixed_step(
            piece,
            packed,
            e,
            last,
            now,
            decoding,
            context,
            teams,
            present,
            team,
            own,
            sums,
            targets,
            (at - began) * 1e-6,
        )
        if prefilling > 0:
            began = at
        for j in range(e, last):
            k, kind = (packed[j] >> 2) & 0x3FFFFFF, packed[j] & 3
            p = piece[k]
            if kind == PREFILL_STARTS:
                if prefilling == 0:
                    began = at
                prefilling += 1
                continue
            if kind == DECODE_ENDS:
                note(end, k, now, teams, team[p.key])
                decoding -= 1
                rates -= rate[k]
                present[team[p.key]] -= 1
                context -= start[k, CONTEXT + SUMS] + now[STEPS] - start[k, STEPS]
                if decoding == 0:
                    rates, context = 0.0, 0.0
                continue
            if kind == PREFILL_ENDS and p.begin < p.first and p.first > p.lo:
                prefilling -= 1
            if p.end > p.first and p.first < p.hi:
                note(start, k, now, teams, team[p.key])
                start[k, CONTEXT + SUMS] = p.prompt + decoded(p)[0]
                decoding += 1
                rates += rate[k]
                present[team[p.key]] += 1
                context += start[k, CONTEXT + SUMS]
        e = last


@compiled
def learn_decodes(piece, start, end, sums, targets):  # type: ignore[no-untyped-def]
    """Learn the costs of a step from each request that decoded wholly in this hour."""
    d = np.zeros(SUMS)
    for k in range(piece.shape[0]):
        p = piece[k]
        tokens = decoded(p)[1]
        if p.flags & PHASES_KNOWN == 0 or p.first < p.lo or p.end > p.hi or tokens < 1.0 or p.preemptions > 0:
            continue
        take_away(end, start, k, d)
        if d[STEPS] <= 0.0:
            continue
        stretch = tokens / d[STEPS]
        features = (tokens, d[SEQUENCES] * stretch, d[CONTEXT] * stretch, d[MIXED], d[PROMPT], d[ATTENTION])
        learn(sums, targets, (p.end - p.first) * 1e-6, features)


@compiled
def phase_weights(piece, hour_at, packed, by_team, teams_count, team):  # type: ignore[no-untyped-def]
    """Give the pieces whose phases are known their weights: whole µs of engine time under the learned costs."""
    n = events_of(piece, hour_at, packed)
    size = piece.shape[0]
    start, end, own = np.zeros((size, 2 * SUMS)), np.zeros((size, SUMS)), np.zeros((size, 3))
    rate = np.zeros(size)
    find_rates(piece, packed, n, start, rate)
    sums, targets, costs = np.zeros((FEATURES, FEATURES)), np.zeros(FEATURES), np.zeros(FEATURES)
    teams, present = np.zeros(teams_count if by_team else 0), np.zeros(teams_count, np.int64)
    start = np.zeros((size, 2 * SUMS))
    sweep(piece, packed, n, rate, start, end, own, teams, present, team, sums, targets)
    learn_decodes(piece, start, end, sums, targets)
    solve(sums, targets, PHASE_PRIOR_WEIGHT, costs)
    d = np.zeros(SUMS)
    for k in range(size):
        p = piece[k]
        if p.flags & PHASES_KNOWN == 0:
            continue
        take_away(end, start, k, d)
        tokens = decoded(p)[1]
        stretch = tokens / d[STEPS] if d[STEPS] > 0.0 else 0.0
        context = start[k, CONTEXT + SUMS]
        shared = d[TEAM_EQUAL] if by_team else d[EQUAL]
        decode = costs[0] * shared * stretch + tokens * (costs[1] + costs[2] * (context + 0.5 * tokens))
        prefill, cached = 0.0, 0.0
        if ends_prefill(p):
            computed = float(p.prompt - p.cached)
            prefill = costs[0] * (own[k, 2] if by_team else own[k, 0]) + costs[3] * own[k, 1]
            prefill += computed * (costs[4] + costs[5] * 0.5 * computed)
            cached = costs[5] * computed * p.cached
        p.input_weight = whole_us(prefill)
        p.cached_weight = whole_us(cached)
        p.output_weight = whole_us(decode)
