"""Time lines of alerts as data: what is found at each tick, and the path of states that must follow.

A file is a list of scenarios. Each has a `name` (the path of states), a `rule` (for, keep_firing_for, interval,
missing_evals, no_data, limit), and `ticks`: one word a tick, or `word xN` for N of them:

    breach  fine  unknown          the row is there and says so (unknown: it can't be judged)
    missing                        the row is absent, another is there
    no_data  error  stale          nothing was found, the evaluation failed, telemetry is too old
    down 2h                        nothing is evaluated for so long
    back 1h                        the clock is set back
    edit  reword                   the rule becomes another version; only its wording changes
    restart                        the process ends and starts again from what is stored

`path` is what must come out: every transition as `state(reason)`, in order, with a leading `+90s` where the time since
the first tick is to be checked. `told` is what a receiver hears: firing, repeat, flapping, resolved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from alerts.durations import parse_duration, write_duration
from alerts.errors import ScenarioFileError
from alerts.machine import step
from alerts.notify import Told, decide
from alerts.rules import Duration
from alerts.states import (
    EvaluationError,
    NoData,
    NoDataPolicy,
    Outcome,
    RuleSpec,
    RuleState,
    Sample,
    Samples,
    StaleData,
    Transition,
)

START = datetime(2026, 1, 5, 12)
LABELS = {"model": "llama"}
OTHER = {"model": "other"}
BREACHES = {"breach": True, "fine": False, "unknown": None}
REPEAT_SECONDS = 4 * 3600


class ScenarioRule(BaseModel):
    """The part of a rule that the state machine sees."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    for_: Duration = Field(default=0, alias="for", description="As in a rule.")
    keep_firing_for: Duration = Field(default=0, description="As in a rule.")
    interval: Duration = Field(default=60, ge=1, description="As in a rule; also the time between ticks.")
    missing_evals: int = Field(default=2, ge=1, description="As in a rule.")
    no_data: NoDataPolicy = Field(default=NoDataPolicy.KEEP, description="As in a rule.")
    limit: int = Field(default=200, ge=1, description="As in a rule.")


class Scenario(BaseModel):
    """One time line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="The path of states, and what it shows.")
    rule: ScenarioRule = Field(default_factory=ScenarioRule, description="The rule.")
    ticks: tuple[str, ...] = Field(min_length=1, description="What is found, tick by tick.")
    path: tuple[str, ...] = Field(description="The transitions that must follow.")
    told: tuple[str, ...] | None = Field(default=None, description="What a receiver must hear; unset is unchecked.")


@dataclass(slots=True)
class Player:
    """Plays one time line."""

    rule: RuleSpec
    state: RuleState
    now: datetime = START
    transitions: list[Transition] = field(default_factory=list)
    told: Told | None = None
    heard: list[str] = field(default_factory=list)

    def play(self, word: str) -> None:
        """Do what one word says."""
        verb, _, rest = word.partition(" ")
        if verb in ("down", "back"):
            shift = timedelta(seconds=parse_duration(rest))
            self.now += shift if verb == "down" else -shift - timedelta(seconds=self.rule.interval_seconds)
        elif verb == "edit":
            self.rule = replace(self.rule, version=self.rule.version + "+")
        elif verb == "restart":
            from alerts.state_store import RULE

            self.state = RULE.validate_json(RULE.dump_json(self.state))
        elif verb != "reword":
            self.tick(outcome_of(verb))

    def tick(self, outcome: Outcome) -> None:
        """Evaluate once, and let a receiver hear of it."""
        self.state, transitions = step(self.rule, self.state, outcome, self.now)
        self.transitions += transitions
        for instance in [*(each.instance for each in transitions), *self.state.instances.values()]:
            decision = decide(instance, self.told, self.now, repeat_seconds=REPEAT_SECONDS)
            self.told = decision.told
            if decision.kind is not None:
                self.heard.append(str(decision.kind))
        self.now += timedelta(seconds=self.rule.interval_seconds)


def outcome_of(word: str) -> Outcome:
    """Turn a word into what an evaluation finds.

    Raises:
        ScenarioFileError: the word is not known.
    """
    if word in BREACHES:
        return Samples((Sample(LABELS, BREACHES[word], 2.0 if word == "breach" else 1.0, 1.5), Sample(OTHER, False)))
    match word:
        case "missing":
            return Samples((Sample(OTHER, False),))
        case "no_data":
            return NoData()
        case "error":
            return EvaluationError("told to fail")
        case "stale":
            return StaleData()
    known = "breach, fine, unknown, missing, no_data, error, stale, down, back, edit, reword, restart"
    raise ScenarioFileError(f"unknown word {word!r} in ticks; known are {known}")


def expanded(ticks: tuple[str, ...]) -> Iterator[str]:
    """Write out `breach x3`."""
    for tick in ticks:
        word, _, count = tick.partition(" x")
        yield from [word] * (int(count) if count.isdigit() else 1)


def play(scenario: Scenario) -> tuple[list[Transition], list[str]]:
    """Play a scenario; return its transitions and what a receiver heard."""
    rule = RuleSpec(
        uid="scenario",
        version="1",
        interval_seconds=scenario.rule.interval,
        for_seconds=scenario.rule.for_,
        keep_firing_for_seconds=scenario.rule.keep_firing_for,
        missing_evals=scenario.rule.missing_evals,
        no_data=scenario.rule.no_data,
        limit=scenario.rule.limit,
    )
    player = Player(rule, RuleState("scenario", version="1"))
    for word in expanded(scenario.ticks):
        player.play(word)
    return player.transitions, player.heard


def differences(scenario: Scenario) -> list[str]:
    """Play a scenario and list what comes out otherwise than it says."""
    transitions, heard = play(scenario)
    came = [f"{each.after}({each.reason})" for each in transitions]
    times = [f"+{write_duration((each.at - START).total_seconds())}" for each in transitions]
    wanted = [re.fullmatch(r"(?:(\+\S+) )?(\S+)", step_) for step_ in scenario.path]
    problems: list[str] = []
    path = [found[2] if found else text for found, text in zip(wanted, scenario.path, strict=True)]
    if path != came:
        problems.append(f"path: expected {' '.join(path) or 'nothing'}; came {' '.join(came) or 'nothing'}")
    else:
        problems += [
            f"path: {state} expected at {found[1]}; came at {time}"
            for found, state, time in zip(wanted, came, times, strict=True)
            if found and found[1] and found[1] != time
        ]
    if scenario.told is not None and list(scenario.told) != heard:
        problems.append(f"told: expected {' '.join(scenario.told) or 'nothing'}; came {' '.join(heard) or 'nothing'}")
    return problems


def read_scenarios(file: Path) -> list[Scenario]:
    """Read a file of scenarios.

    Raises:
        ScenarioFileError: it is missing, not YAML, or does not fit; every problem is told.
    """
    import yaml

    try:
        document: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        return TypeAdapter(list[Scenario]).validate_python(document)
    except OSError as error:
        raise ScenarioFileError(f"no scenarios at {file} ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioFileError(f"{file} is not YAML: {error}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
        raise ScenarioFileError("\n".join([f"{file} is no list of scenarios:", *lines])) from error


def play_file(file: Path, tell: Callable[[str], None]) -> list[str]:
    """Play every scenario of a file, tell each by name, and return what failed."""
    failures: list[str] = []
    for scenario in read_scenarios(file):
        problems = differences(scenario)
        tell(f"{'FAIL' if problems else 'ok  '}  {scenario.name}")
        failures += [f"{file.name}: {scenario.name}: {problem}" for problem in problems]
    return failures
