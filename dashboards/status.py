"""Which colour and icon a number gets: by its limit, never by the sign of its change. Limits are data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from dashboards.errors import DashboardsError

LIMITS_FILE = Path(__file__).parent / "data" / "limits.yaml"


class Status(StrEnum):
    """How bad a number is."""

    PAGE = "page"
    WARN = "warn"
    OK = "ok"
    UNKNOWN = "unknown"

    @property
    def colour(self) -> str:
        """Streamlit's name of its colour; well and unknown are grey, so that colour means trouble."""
        return {"page": "red", "warn": "orange"}.get(self.value, "gray")

    @property
    def icon(self) -> str | None:
        """Its icon, for those who don't see the colour; none where all is well."""
        return {"page": ":material/error:", "warn": ":material/warning:"}.get(self.value)


@dataclass(frozen=True)
class Limit:
    """From where on a number is orange and red. `page < warn` says that lower is worse."""

    warn: float
    page: float

    def judge(self, value: float | None) -> Status:
        """Judge a value; absent is unknown, not well."""
        if value is None or not math.isfinite(value):
            return Status.UNKNOWN
        sign = -1.0 if self.page < self.warn else 1.0
        if value * sign >= self.page * sign:
            return Status.PAGE
        return Status.WARN if value * sign >= self.warn * sign else Status.OK

    def scaled(self, factor: float) -> Limit:
        """The same limit in units of something else, e.g. shares of an SLO's threshold."""
        return Limit(self.warn * factor, self.page * factor)


@cache
def limits(file: Path = LIMITS_FILE) -> dict[str, Limit]:
    """Read the limits.

    Raises:
        DashboardsError: the file is not a mapping of name to {warn, page}.
    """
    import yaml

    try:
        return {
            name: Limit(float(one["warn"]), float(one["page"]))
            for name, one in yaml.safe_load(file.read_text()).items()
        }
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DashboardsError(f"{file} is no mapping of a number's name to {{warn, page}}: {error}") from error


def worst(*statuses: Status) -> Status:
    """The worst of some."""
    order = [Status.PAGE, Status.WARN, Status.UNKNOWN, Status.OK]
    return min(statuses, key=order.index, default=Status.UNKNOWN)
