"""When requests come: renewal processes whose rate goes through the day and the week.

Gaps of a process with rate 1 (exponential, gamma or Weibull, by coefficient of variation) are laid out on the
integral of
the rate and mapped back to the clock (time rescaling), so that the counts follow the rate and the burstiness the gaps.
Each UTC day is drawn by a generator of its own: what comes on a day depends on the seed, the stream and the day alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from analytics.simulator.config import CycleConfig

Floats = npt.NDArray[np.float64]
DAY_SECONDS = 86_400.0
GRID_SECONDS = 300.0
_EPOCH = datetime(1970, 1, 1)

EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""
SATURDAY = 5


def random_of(seed: int, *key: object) -> np.random.Generator:
    """A generator for one purpose: the same seed and key give the same draws, whatever else was drawn."""
    digest = hashlib.blake2b("\x1f".join(map(str, (seed, *key))).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def day_of(at: datetime) -> int:
    """Days since 1970-01-01 of a naive UTC time."""
    return (at - _EPOCH) // timedelta(days=1)


def start_of(day: int) -> datetime:
    """The naive UTC time at which a day begins."""
    return _EPOCH + timedelta(days=day)


def cycle_rate(cycle: CycleConfig, day: int, seconds: Floats, shift_seconds: float = 0.0) -> Floats:
    """Rate over the weekday mean at each second of a UTC day; the mean over a weekday is 1.

    Args:
        cycle: The daily and weekly cycle.
        day: Days since 1970-01-01, UTC.
        seconds: Seconds of that day.
        shift_seconds: How far the fleet's own calendar is ahead of UTC.
    """
    own_days = day + (seconds + shift_seconds) / DAY_SECONDS
    wave = 1.0 + cycle.day_amplitude * np.cos((own_days * 24.0 - cycle.peak_hour) * (2 * math.pi / 24))
    weekend = (np.floor(own_days) + EPOCH_WEEKDAY) % 7 >= SATURDAY
    return np.asarray(wave * np.where(weekend, cycle.weekend_ratio, 1.0))


def unit_gaps(rng: np.random.Generator, kind: str, cv: float, count: int) -> Floats:
    """Gaps of mean 1 with the coefficient of variation asked for (1 for poisson)."""
    if kind == "poisson":
        return rng.standard_exponential(count)
    if kind == "gamma":
        shape = 1.0 / cv**2
        return rng.standard_gamma(shape, count) / shape
    shape = weibull_shape(cv)
    return rng.weibull(shape, count) / math.gamma(1.0 + 1.0 / shape)


def weibull_shape(cv: float) -> float:
    """The Weibull shape of a coefficient of variation, by bisection (CV falls as the shape grows)."""
    low, high = 0.1, 200.0
    for _ in range(80):
        shape = math.sqrt(low * high)
        log_ratio = math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)
        low, high = (shape, high) if math.expm1(log_ratio) > cv**2 else (low, shape)
    return math.sqrt(low * high)


def day_arrivals(rng: np.random.Generator, kind: str, cv: float, rate: Callable[[Floats], Floats]) -> Floats:
    """Seconds of one day at which something comes.

    Args:
        rng: The day's generator.
        kind: poisson, gamma or weibull.
        cv: Coefficient of variation of the gaps (not used by poisson).
        rate: Events per second at each second of the day; taken as linear between points 300 s apart.

    Returns:
        Ascending seconds in [0, 86400).
    """
    grid = np.arange(0.0, DAY_SECONDS + 1, GRID_SECONDS)
    rates = np.maximum(rate(grid), 0.0)
    integral = np.concatenate([[0.0], np.cumsum((rates[1:] + rates[:-1]) * (GRID_SECONDS / 2))])
    total = float(integral[-1])
    if total <= 0:
        return np.zeros(0)
    spread = 1.0 if kind == "poisson" else cv
    laid = np.zeros(0)
    while laid.size == 0 or laid[-1] < total:
        missing = total - (laid[-1] if laid.size else 0.0)
        more = unit_gaps(rng, kind, cv, int(missing + 6 * spread * math.sqrt(missing) + 16))
        laid = np.concatenate([laid, np.cumsum(more) + (laid[-1] if laid.size else 0.0)])
    return np.asarray(np.interp(laid[laid < total], integral, grid))
