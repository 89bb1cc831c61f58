"""Drift on real production streams (ServeGen, Alibaba): how often it cries wolf, and what it finds.

A stream is one client of one model. Its rows of a 6-hour window are drawn from the client's own measured distribution
of output lengths; shifts are made by multiplying the current window. Streams that really changed count as false
alarms.
"""

from collections import defaultdict

import numpy as np
import polars as pl
import pytest

from analytics.config import DriftConfig
from analytics.drift import Window, judge, verdict
from analytics.two_sample import false_discovery_q

pytestmark = pytest.mark.shared
WINDOW_SECONDS, DAY_SECONDS = 21_600, 86_400
LEVELS = (np.arange(100) + 0.5) / 100
CONFIG = DriftConfig()


@pytest.fixture(scope="module")
def streams(shared):
    """Window by start, by client: all windows of the two weeks with enough rows."""
    folder = shared / "data" / "servegen"
    rates = pl.scan_parquet(folder / "client_rates.parquet").filter(pl.col("model") == "m-large")
    counts = rates.group_by("client_id", window_s=pl.col("t_s") // WINDOW_SECONDS * WINDOW_SECONDS).agg(
        count=(pl.col("rate_rps") * 600).sum()
    )
    lengths = pl.scan_parquet(folder / "client_token_pdfs.parquet").filter(
        pl.col("model") == "m-large", pl.col("field") == "output_tokens"
    )
    table = lengths.group_by("client_id", "window_s", maintain_order=True).agg("bin", "prob").collect()
    known = {
        (client, start): count
        for client, start, count in counts.select("client_id", "window_s", "count").collect().iter_rows()
    }
    rng = np.random.default_rng(20261121)
    found = defaultdict(dict)
    for client, start, bins, shares in table.iter_rows():
        count = int(min(known.get((client, start), 0), 5000))
        if count >= CONFIG.min_count:
            weights = np.asarray(shares, dtype=float)
            drawn = rng.choice(bins, size=count, p=weights / weights.sum())
            found[client][start] = Window(count, np.quantile(np.log1p(drawn), LEVELS))
    return found


def scans(streams, factor):
    """One scan at the end of every window of the second week: (drifted, threshold, psi) per judged stream."""
    found = []
    for start in range(7 * DAY_SECONDS, 14 * DAY_SECONDS, WINDOW_SECONDS):
        judged = []
        for windows in streams.values():
            if start not in windows:
                continue
            placed = {
                ((start - then) // DAY_SECONDS, (start - then) % DAY_SECONDS // WINDOW_SECONDS): window
                for then, window in windows.items()
                if then <= start
            }
            current = placed[0, 0]
            placed[0, 0] = Window(current.count, current.sketch + np.log(factor))
            judgement = judge("output_tokens", placed, CONFIG)
            if judgement.refusal is None:
                psi = stability_index(placed[0, 0].sketch, placed[1, 0].sketch) if (1, 0) in placed else None
                judged.append((judgement, psi))
        q_values = false_discovery_q([judgement.p_value for judgement, _ in judged])
        found += [
            (verdict(judgement, q, CONFIG), judgement.effect_threshold, psi)
            for (judgement, psi), q in zip(judged, q_values, strict=True)
        ]
    return found


def stability_index(current, reference) -> float:
    """Population stability index over the deciles of the reference."""
    edges = np.quantile(reference, np.linspace(0.1, 0.9, 9))
    shares = [np.bincount(np.searchsorted(edges, side), minlength=10) / len(side) for side in (current, reference)]
    now, before = (np.maximum(share, 1e-4) for share in shares)
    return float(((now - before) * np.log(now / before)).sum())


def test_at_most_one_in_twenty_unchanged_windows_is_called_drifted(streams):
    found = scans(streams, 1.0)
    alarms = np.mean([drifted for drifted, *_ in found])
    fixed_threshold = np.mean([psi > 0.25 for *_, psi in found if psi is not None])
    print(f"{len(found)} windows: {alarms:.1%} false alarms; PSI > 0.25: {fixed_threshold:.1%}")
    assert len(found) > 500
    assert alarms <= 0.05
    assert fixed_threshold > 5 * alarms


@pytest.mark.parametrize("factor", [1.3, 1.5, 2.0])
def test_four_in_five_shifts_are_found_where_history_leaves_room(streams, factor):
    found = scans(streams, factor)
    attainable = [drifted for drifted, threshold, _ in found if threshold < np.log(factor)]
    power = np.mean(attainable)
    overall = np.mean([drifted for drifted, *_ in found])
    print(f"×{factor}: {power:.1%} of {len(attainable)} attainable, {overall:.1%} of all {len(found)}")
    assert len(attainable) > 100
    assert power >= 0.8
