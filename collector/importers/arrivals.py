"""Arrival times of a stationary renewal process, seeded.

Intervals are Gamma or Weibull with the mean 1/rate; the shape sets how bursty they are (Gamma: CV = 1/sqrt(shape)).
A window begins at a random moment of a process that has always been running, so the first arrival is not an interval
but what is left of one: U * L, with U uniform in 0-1 and L an interval drawn with weight proportional to its length.
Without that, a window of a bursty process holds (CV^2 - 1)/2 arrivals too many on average; with it, it holds
rate * duration on average.

L is drawn exactly: weighted by length, Gamma(k) is Gamma(k + 1), and Weibull(k) is the k-th root of Gamma(1 + 1/k).

Source: D. R. Cox, Renewal Theory (1962), chapters 2 and 5.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PATTERNS = ("Gamma", "Weibull")


def draw_arrivals(
    random: np.random.Generator, pattern: str, shape: float, rate_per_second: float, duration_seconds: float
) -> NDArray[np.float64]:
    """Draw the arrivals of one window.

    Args:
        random: the only source of randomness.
        pattern: Gamma or Weibull.
        shape: the distribution's shape parameter, above 0.
        rate_per_second: mean arrivals per second, above 0.
        duration_seconds: length of the window.

    Returns:
        Seconds from the window's start, ascending, in [0, duration); rate * duration of them on average.

    Raises:
        ValueError: an unknown pattern, or a parameter that is not positive.

    >>> import numpy
    >>> len(draw_arrivals(numpy.random.default_rng(1), "Gamma", 0.25, 2.0, 600.0))
    1213
    """
    import numpy as np

    if pattern not in PATTERNS or not (shape > 0 and rate_per_second > 0):
        raise ValueError(f"no {pattern} arrivals of shape {shape} at {rate_per_second} a second")
    mean = 1 / rate_per_second
    if pattern == "Gamma":
        scale = mean / shape
        whole = scale * random.gamma(shape + 1)
    else:
        scale = mean / math.gamma(1 + 1 / shape)
        whole = scale * random.gamma(1 + 1 / shape) ** (1 / shape)
    parts = [np.array([random.random() * whole])]
    at_once = int(rate_per_second * duration_seconds * 1.1) + 16
    while parts[-1][-1] < duration_seconds:
        intervals = (
            random.gamma(shape, scale, at_once) if pattern == "Gamma" else scale * random.weibull(shape, at_once)
        )
        parts.append(parts[-1][-1] + np.cumsum(intervals))
    times = np.concatenate(parts)
    return times[times < duration_seconds]
