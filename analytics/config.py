"""The analytics section of the configuration: where SLOs are defined, how drift is judged, how tokens are weighed."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class DriftConfig(BaseModel):
    """When a stream counts as drifted: significance, effect size and the stream's own history must all agree."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_hours: float = Field(
        default=6.0, gt=0, le=24, description="Length of the current window, ending now. Unit: h."
    )
    history_days: int = Field(default=14, ge=2, le=90, description="How many earlier days are compared. Unit: days.")
    min_count: int = Field(default=500, ge=30, description="Fewest rows in a window that is judged. Unit: rows.")
    min_history_days: int = Field(
        default=3, ge=2, description="Fewest earlier days with enough rows before a stream is judged. Unit: days."
    )
    sample_count: int = Field(
        default=10_000, ge=500, description="Rows of each side that are drawn (seeded) for a comparison. Unit: rows."
    )
    false_discovery_ratio: float = Field(
        default=0.01, gt=0, lt=1, description="Benjamini-Hochberg level over all streams of a scan. Unit: 1."
    )
    min_effect: float = Field(
        default=0.1,
        ge=0,
        description="Smallest distance of logarithms that matters, for tokens and latency (0.1: a tenth). Unit: 1.",
    )
    min_effect_ratio: float = Field(
        default=0.05, ge=0, description="Smallest distance of ratios that matters, for the cached share. Unit: 1."
    )


class TokenWeights(BaseModel):
    """What a token of each kind counts when a GPU-hour is shared out; only ratios matter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(default=1.0, ge=0, le=1000, description="Weight of a prompt token that was computed. Unit: 1.")
    cached: float = Field(
        default=0.1, ge=0, le=1000, description="Weight of a prompt token read from the prefix cache. Unit: 1."
    )
    output: float = Field(default=2.0, ge=0, le=1000, description="Weight of a generated token. Unit: 1.")

    def milli(self) -> tuple[int, int, int]:
        """Return (input, cached, output) in whole thousandths, in which all sharing is done."""
        return round(self.input * 1000), round(self.cached * 1000), round(self.output * 1000)


class AnalyticsConfig(BaseModel):
    """How analytics read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slos_file: Path | None = Field(default=None, description="YAML of SLO definitions; unset takes the packaged ones.")
    energy_factors_file: Path | None = Field(
        default=None, description="YAML of host ratio, PUE and grid factors; unset takes the packaged ones."
    )
    drift: DriftConfig = Field(default_factory=DriftConfig, description="When a stream counts as drifted.")
    token_weights: TokenWeights = Field(
        default_factory=TokenWeights,
        description="Token weights of the cost ledger (default: input 1, output 2 as VTC; cached a tenth of input).",
    )
