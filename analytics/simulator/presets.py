"""Presets and engine profiles: YAML files, read and checked."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analytics.simulator.config import FleetConfig
from analytics.simulator.errors import SimulatorError

PRESETS_FOLDER = Path(__file__).parents[2] / "sample_data" / "presets"
PROFILES_FILE = Path(__file__).parent / "data" / "profiles.yaml"


class StepSeconds(BaseModel):
    """Seconds of an engine step.

    `n` decoding sequences with `C` tokens of context in all take `step + sequence*n + context*C`. Prefill chunks of
    `p` tokens
    at a mean context of `x` add `prefill_step + prefill*max(sum(p) - hidden_tokens, 0) + attention*sum(p*x)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: float = Field(gt=0, description="Constant of a step: weights read, launches, scheduling. Unit: s.")
    sequence: float = Field(ge=0, description="A decoding sequence. Unit: s.")
    context: float = Field(ge=0, description="A token of context of a decoding sequence. Unit: s.")
    prefill: float = Field(gt=0, description="A prompt token. Unit: s.")
    attention: float = Field(ge=0, description="A prompt token for each token of context before it. Unit: s.")
    prefill_step: float = Field(
        default=0, ge=0, description="What any prefill adds, e.g. for want of a CUDA graph. Unit: s."
    )
    hidden_tokens: float = Field(
        default=0, ge=0, description="Prompt tokens of a step that cost nothing: computed while weights are read."
    )


class Power(BaseModel):
    """Electrical and thermal figures of the GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    idle_watts: float = Field(gt=0, description="Model loaded, nothing running. Unit: W.")
    decode_watts: float = Field(gt=0, description="Decoding at a small batch. Unit: W.")
    limit_watts: float = Field(gt=0, description="Prefill, the board limit. Unit: W.")
    clock_hertz: float = Field(gt=0, description="SM clock under load. Unit: Hz.")


class Profile(BaseModel):
    """An engine: one model on one kind of GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu_type: str = Field(description="GPU model.")
    gpu_count: int = Field(default=1, ge=1, description="GPUs of a replica (tensor parallel).")
    gpu_memory_bytes: int = Field(gt=0, description="Memory of one GPU. Unit: bytes.")
    block_size: int = Field(default=16, ge=1, le=1024, description="Tokens of a KV block.")
    kv_blocks: int = Field(ge=1, description="Blocks of the KV cache.")
    max_num_seqs: int = Field(default=256, ge=1, le=4096, description="Sequences in a batch.")
    max_num_batched_tokens: int = Field(default=2048, ge=1, description="Tokens of a step.")
    reserve_prompt: bool = Field(default=False, description="Admit a request only when its whole prompt finds blocks.")
    seconds: StepSeconds = Field(description="Duration of a step.")
    power: Power = Field(description="Power of one GPU.")
    origin: str = Field(description="Where the figures come from.")


def preset_names() -> list[str]:
    """Name the presets that come with fleetmeter."""
    return sorted(file.stem for file in PRESETS_FOLDER.glob("*.yaml"))


def load_preset(name_or_file: str | Path) -> FleetConfig:
    """Read a preset by name, or any YAML file by path.

    Raises:
        SimulatorError: no such preset or file, or it is not a valid fleet; every problem is named.
    """
    file = Path(name_or_file)
    if file.suffix not in (".yaml", ".yml"):
        file = PRESETS_FOLDER / f"{name_or_file}.yaml"
        if not file.is_file():
            near = difflib.get_close_matches(str(name_or_file), preset_names(), 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(preset_names())}"
            raise SimulatorError(f"no preset {str(name_or_file)!r}; {hint} (or name a YAML file)")
    return parse_fleet(_read_yaml(file), str(file))


def parse_fleet(data: Any, origin: str) -> FleetConfig:
    """Check a fleet; see `load_preset`."""
    try:
        return FleetConfig.model_validate(data)
    except ValidationError as error:
        raise SimulatorError(f"{origin} is not a fleet:\n{_problems(error)}") from error


@cache
def load_profiles(file: Path = PROFILES_FILE) -> dict[str, Profile]:
    """Read the engine profiles."""
    try:
        return {name: Profile.model_validate(value) for name, value in _read_yaml(file).items()}
    except ValidationError as error:
        raise SimulatorError(f"{file} holds a wrong profile:\n{_problems(error)}") from error


def find_profile(name: str) -> Profile:
    """Find an engine profile by name.

    Raises:
        SimulatorError: there is none of this name.
    """
    profiles = load_profiles()
    if name not in profiles:
        near = difflib.get_close_matches(name, profiles, 1)
        raise SimulatorError(
            f"no engine profile {name!r}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(profiles)}")
        )
    return profiles[name]


def _read_yaml(file: Path) -> Any:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SimulatorError(f"{file} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SimulatorError(f"{file} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise SimulatorError(f"{file} must hold a mapping at its top")
    return data


def _problems(error: ValidationError) -> str:
    return "\n".join(f"  {'.'.join(map(str, e['loc'])) or 'fleet'}: {e['msg']}" for e in error.errors())
