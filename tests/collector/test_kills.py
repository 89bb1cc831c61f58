"""kill -9 at random moments; `python -m bench kills` does it 200 times."""

import random

import pytest

from bench.kills import run


@pytest.mark.slow
def test_killed_at_ten_random_moments_nothing_acknowledged_is_lost_or_doubled(data_dir):
    seed = random.SystemRandom().randrange(2**31)
    assert run(10, seed, data_dir) == "", f"python -m bench kills --count 10 --seed {seed}"
