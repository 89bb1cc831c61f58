"""Team shares against the simulator's own ledger truth; the wide table is `python -m bench ledger_truth`."""

from datetime import timedelta

import pytest

from analytics.simulator.fleet import simulate
from analytics.simulator.presets import load_preset
from bench.ledger_truth import END, crowded, errors, measured_profiles, one_price

DEMO = one_price(load_preset("demo"))


@pytest.mark.parametrize(
    ("config", "seed"),
    [(DEMO, 11), (crowded(DEMO), 12), (measured_profiles(DEMO), 13)],
    ids=lambda value: str(value)[:4],
)
def test_shares_of_teams_are_those_of_the_truth(config, seed):
    found = errors(simulate(config, seed, END - timedelta(days=2), END), ("step_share", "phase_time"))
    assert found["step_share"][0] <= 0.01
    assert found["phase_time"][0] <= 0.03
