import numpy as np
import pytest
from scipy import stats

from analytics.two_sample import false_discovery_q, kolmogorov_smirnov_p, pooled, wasserstein_distances

LEVELS = (np.arange(100) + 0.5) / 100


def sketch(values):
    return np.quantile(values, LEVELS)


def test_distance_of_a_shift_is_the_shift():
    values = np.random.default_rng(1).lognormal(size=1000)
    found = wasserstein_distances([sketch(values)], [sketch(values), sketch(values + 0.3)])
    assert found.shape == (1, 2)
    assert found[0] == pytest.approx([0, 0.3])


def test_distance_of_sketches_is_near_that_of_all_rows():
    rng = np.random.default_rng(2)
    left, right = rng.normal(0, 1, 4000), rng.normal(0.5, 1.5, 4000)
    exact = stats.wasserstein_distance(left, right)
    assert wasserstein_distances([sketch(left)], [sketch(right)])[0, 0] == pytest.approx(exact, rel=0.03)


def test_pool_weighs_by_rows():
    few, many = sketch(np.full(10, 100.0)), sketch(np.arange(90.0))
    together = pooled([few, many], [10, 90])
    assert np.median(together) == pytest.approx(50, abs=2)
    assert (together > 95).mean() == pytest.approx(0.1, abs=0.02)


def test_pool_of_one_is_itself():
    values = sketch(np.random.default_rng(3).normal(size=500))
    assert pooled([values], [500]) == pytest.approx(values)


def test_p_value_errs_on_the_side_of_chance():
    rng = np.random.default_rng(4)
    for shift in (0.0, 0.05, 0.1, 0.2):
        left, right = rng.normal(0, 1, 1500), rng.normal(shift, 1, 900)
        exact = stats.ks_2samp(left, right, method="asymp").pvalue
        ours = kolmogorov_smirnov_p(sketch(left), 1500, sketch(right), 900)
        assert ours >= exact * 0.5
        assert ours < 1e-6 or exact > 1e-8


def test_equal_samples_with_ties_are_no_change():
    ties = sketch(np.repeat([1.0, 2.0], 300))
    assert kolmogorov_smirnov_p(ties, 600, ties, 600) == 1


def test_q_values_are_those_of_benjamini_and_hochberg():
    p_values = [0.01, 0.9, 0.02, 0.04, 0.5, 1e-9]
    assert false_discovery_q(p_values) == pytest.approx(stats.false_discovery_control(p_values))
    assert false_discovery_q([]) == []
