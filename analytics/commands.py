"""The commands `slo`, `cost` and `drift`. Light: polars and the rest are imported when a command runs."""

from analytics.cost_commands.group import cost
from analytics.drift_commands import drift
from analytics.slo_commands import slo

__all__ = ["cost", "drift", "slo"]
