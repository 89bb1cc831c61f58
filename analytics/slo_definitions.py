"""What is promised: SLO definitions as a YAML data file, checked as a whole before any of it is used."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from analytics.burn_windows import WINDOW_SECONDS, load_burn_windows
from analytics.errors import DefinitionError, UnreadableError

FILE = Path(__file__).parent / "data" / "slos.yaml"
LATENCY_SLIS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class SloDefinition:
    """One promise: which events count, which of them are bad, and how many may be."""

    name: str
    """Unique within the file."""
    sli: str
    """ttft, tpot, e2e or availability."""
    model: str | None
    """The one model it is for; None is each model by itself."""
    team: str | None
    """The one team whose requests count; None is everybody's."""
    threshold_seconds: float | None
    """A latency above it is bad; None for availability. Unit: s."""
    objective_ratio: float
    """Share of events that must be good. Unit: 1."""
    window_days: int
    """Length of the rolling window of the budget. Unit: days."""
    title: str
    """A few words for a human."""

    @property
    def allowed_ratio(self) -> float:
        """Share of events that may be bad: 1 - objective in decimals, so that 0.999 allows 0.001 exactly."""
        return float(1 - Decimal(repr(self.objective_ratio)))


class SloEntry(BaseModel):
    """One entry of the YAML, as a user writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Unique name.")
    sli: Literal["ttft", "tpot", "e2e", "availability"] = Field(description="What is measured.")
    title: str = Field(default="", description="A few words for a human.")
    model: str | None = Field(default=None, description="The one model it is for; unset is each by itself.")
    team: str | None = Field(default=None, description="The one team it is for; unset is everybody.")
    threshold_seconds: float | None = Field(default=None, gt=0, description="Latency above it is bad. Unit: s.")
    objective_ratio: float = Field(gt=0, lt=1, description="Share of events that must be good. Unit: 1.")
    window_days: int = Field(default=30, ge=1, le=90, description="Rolling window. Unit: days.")


def load_definitions(path: Path | None = None) -> tuple[SloDefinition, ...]:
    """Read and check SLO definitions.

    Args:
        path: a YAML list of definitions; None takes the packaged default.

    Raises:
        DefinitionError: the file is missing or no YAML list, a key is unknown, a value does not fit, a name comes
            twice, or an objective is so low that a page could never fire. The message lists every problem.
    """
    import yaml

    file = path or FILE
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableError(f"no SLO definitions at {file} ({error.strerror}); name an existing YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{file} is not YAML: {error}") from error
    if not isinstance(document, list) or not document:
        raise DefinitionError(f"{file} must be a YAML list of SLOs, each with name, sli and objective_ratio")
    try:
        entries = TypeAdapter(list[SloEntry]).validate_python(document)
    except ValidationError as error:
        problems = [describe(document, problem["loc"], problem["msg"]) for problem in error.errors()]
        raise DefinitionError("\n".join([f"{file}:", *problems])) from error
    definitions = tuple(SloDefinition(**{**dict(entry), "title": entry.title or entry.name}) for entry in entries)
    if problems := problems_of(definitions):
        raise DefinitionError("\n".join([f"{file}:", *problems]))
    return definitions


def describe(document: list[object], location: tuple[int | str, ...], message: str) -> str:
    """Name the entry and key that a validation problem is about."""
    entry = document[location[0]] if location and isinstance(location[0], int) else None
    name = entry.get("name", f"number {location[0]}") if isinstance(entry, dict) else f"number {location[0]}"
    key = ".".join(str(part) for part in location[1:])
    return f"  SLO {name}: {key + ': ' if key else ''}{message}"


def problems_of(definitions: tuple[SloDefinition, ...]) -> list[str]:
    """List what can't hold, one line a problem."""
    problems = []
    seen: set[str] = set()
    for slo in definitions:
        if slo.name in seen:
            problems.append(f"  SLO {slo.name}: the name comes twice; give each SLO its own")
        seen.add(slo.name)
        if slo.sli in LATENCY_SLIS and slo.threshold_seconds is None:
            problems.append(f"  SLO {slo.name}: a {slo.sli} SLO needs threshold_seconds")
        if slo.sli == "availability" and slo.threshold_seconds is not None:
            problems.append(f"  SLO {slo.name}: an availability SLO takes no threshold_seconds; drop it")
        problems.extend(burn_problems(slo))
    return problems


def burn_problems(slo: SloDefinition) -> list[str]:
    """List the burn windows that could never fire for this SLO, or that are longer than its own window."""
    problems = []
    steepest = max(load_burn_windows(), key=lambda window: window.factor)
    if steepest.factor * slo.allowed_ratio > 1:
        problems.append(
            f"  SLO {slo.name}: objective_ratio {slo.objective_ratio:g} is too low to be paged on: "
            f"{steepest.factor:g} × {slo.allowed_ratio:g} > 1, so that even a total outage burns slower than "
            f"the {steepest.factor:g} of the {steepest.long_window} window; take {1 - 1 / steepest.factor:.4f} or more"
        )
    longest = max(load_burn_windows(), key=lambda window: WINDOW_SECONDS[window.long_window]).long_window
    if WINDOW_SECONDS[longest] > slo.window_days * 86400:
        problems.append(
            f"  SLO {slo.name}: window_days {slo.window_days} is shorter than the {longest} burn window; "
            f"take {WINDOW_SECONDS[longest] // 86400} or more"
        )
    return problems
