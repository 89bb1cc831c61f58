"""Dated factors from the energy of a GPU to that of a site, and to carbon dioxide; a data file with sources."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analytics.errors import AnalyticsError

FILE = Path(__file__).parents[1] / "data" / "energy_factors.yaml"


class Factor(BaseModel):
    """One value of one factor, for some regions, from a day on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str = Field(min_length=1, description="Glob of the regions that it holds for; * is all.")
    valid_from: date = Field(description="First day on which it holds.")
    value: Decimal = Field(ge=0, le=100_000, description="The factor.")
    source: str = Field(min_length=1, description="Where it comes from.")


class EnergyFactors(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host_ratio: tuple[Factor, ...] = Field(description="Energy of the host per energy of its GPUs.")
    pue: tuple[Factor, ...] = Field(description="Energy of the site per energy of its computers; at least 1.")
    grid_grams_per_kwh: tuple[Factor, ...] = Field(description="Carbon dioxide of the grid. Unit: g/kWh.")


def load_factors(file: Path | None = None) -> EnergyFactors:
    """Read the factors; None is the packaged file.

    Raises:
        AnalyticsError: the file is missing, or not what it should be.
    """
    path = file or FILE
    try:
        factors = EnergyFactors.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise AnalyticsError(f"the energy factors can't be read: {error}; see analytics.energy_factors_file") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise AnalyticsError(f"{path} holds no energy factors: {error}; the packaged file shows the form") from error
    if low := [factor for factor in factors.pue if factor.value < 1]:
        raise AnalyticsError(f"{path}: a PUE is at least 1, not {low[0].value} ({low[0].region})")
    return factors


def chosen(factors: Sequence[Factor], region: str | None, day: date) -> Factor | None:
    """Return the factor that holds for a region on a day: the longest glob that fits, then the latest; None: none.

    A replica without a region takes what holds for all (`*`).
    """
    fitting = [one for one in factors if one.valid_from <= day and fnmatchcase(region or "", one.region)]
    return max(fitting, key=lambda one: (len(one.region), one.valid_from), default=None)
