"""How far off the forecasts of a month's cost are, and how often their intervals hold, on simulated months.

Each series is a team's daily cost: a weekday profile (weekends down by up to 70 %), noise of days that go together, a
slow growth or decline, now and then a step to another level. Forecasts are made on days 2 to 28 of a month
after four weeks. Parameters are drawn from a seed (--seed).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator

from analytics.budget_forecasts import mean_of_week, weekday_profile

MODELS = {"mean_of_week": mean_of_week, "weekday_profile": weekday_profile}
KINDS = ("flat", "weekdays", "growth", "steps")
HISTORY, MONTH = 28, 30


def series(draw: random.Random, kind: str) -> list[int]:
    """Draw the daily cost of a team over history and month. Unit: 1e-9 of the currency."""
    weekend = 1.0 if kind == "flat" else draw.uniform(0.3, 0.9)
    growth = draw.uniform(-0.01, 0.02) if kind == "growth" else 0.0
    step = (draw.randrange(HISTORY, HISTORY + MONTH), draw.choice((0.7, 1.4))) if kind == "steps" else (10**6, 1.0)
    together, noise, state = draw.uniform(0, 0.7), draw.uniform(0.03, 0.2), 0.0
    begins = draw.randrange(7)
    days = []
    for day in range(HISTORY + MONTH):
        state = together * state + draw.gauss(0, noise)
        level = (1 + growth) ** day * (step[1] if day >= step[0] else 1) * (weekend if (day + begins) % 7 >= 5 else 1)
        days.append(round(100e9 * level * max(1 + state, 0.05)))
    return days


def errors(days: list[int], name: str) -> Iterator[tuple[float, bool, float]]:
    """Forecast the month's end from several days of it: (error, whether the interval held, its width), of the truth."""
    truth = sum(days[HISTORY:])
    for today in range(1, MONTH - 1):
        now = HISTORY + today
        used, past = sum(days[HISTORY:now]), days[now - HISTORY : now][::-1]
        low, expected, high = MODELS[name](used, past, float(MONTH - today))
        assert low is not None and expected is not None and high is not None
        yield (expected - truth) / truth, low <= truth <= high, (high - low) / truth


def main() -> int:
    """Print a table: kind of series, model, mean absolute error, how often the interval held, its mean width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--months", type=int, default=300, help="months of each kind")
    given = parser.parse_args()
    print(f"{'series':<10}{'model':<18}{'mean error':>11}{'interval held':>15}{'its width':>11}")
    for kind in KINDS:
        for name in MODELS:
            draw = random.Random(f"{given.seed} {kind}")
            found = [one for _ in range(given.months) for one in errors(series(draw, kind), name)]
            off = sum(abs(error) for error, _, _ in found) / len(found)
            held = sum(inside for _, inside, _ in found) / len(found)
            width = sum(each for _, _, each in found) / len(found)
            print(f"{kind:<10}{name:<18}{off:>11.2%}{held:>15.1%}{width:>11.1%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
