"""What vLLM's statistics say about one engine step, and what its configuration says about all of them.

vLLM's classes are not a stable interface: every field is read by name, with a default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the configuration says about a step."""

    batch_tokens: int | None = None
    """Most tokens of a step (`max_num_batched_tokens`); None where unknown: chunks are not seen then."""
    chunk_tokens: int = 0
    """Most tokens of one chunk of a long prompt; 0 for no limit."""
    asynchronous: bool = False
    """A step is scheduled while the one before runs."""
    processes: int = 1
    """API processes that share the engine."""


@dataclass(slots=True)
class StepTotals:
    """Sums over all steps that this process was told of; they only grow."""

    steps_count: int = 0
    busy_seconds: float = 0.0
    """Time in steps. Several API processes are told of the same steps."""
    shared_seconds: float = 0.0
    """The part that belongs to this process's requests: it adds up over processes."""
    decoding_count: int = 0
    """Decoding sequences of this process, summed over steps."""
    prefilling_count: int = 0
    context_tokens: int = 0
    """Context of this process's decoding sequences, summed over steps."""
    prefill_tokens: int = 0
    output_tokens: int = 0


class StepOutput(NamedTuple):
    """One engine step as this process was told of it; `own` are this process's requests."""

    gaps: Sequence[float]
    first_count: int
    computed_tokens: int
    prompt_tokens: int
    output_tokens: int
    slowest_ttft: float


LONGEST_SECONDS = 86_400.0
NO_OUTPUT = StepOutput((), 0, 0, 0, 0, 0.0)


def read_iteration(iteration: Any) -> StepOutput:
    """Read one `IterationStats`."""
    first = getattr(iteration, "time_to_first_tokens_iter", ())
    prompt = getattr(iteration, "prompt_token_stats", None)
    total = int(getattr(prompt, "total", None) or getattr(iteration, "num_prompt_tokens", 0) or 0)
    computed = getattr(prompt, "computed", None)
    gaps = getattr(iteration, "inter_token_latencies_iter", None)
    return StepOutput(
        gaps if gaps is not None else getattr(iteration, "time_per_output_tokens_iter", ()),  # vLLM 0.11
        len(first),
        max(total if computed is None else int(computed), 0),
        max(total, 0),
        max(int(getattr(iteration, "num_generation_tokens", 0) or 0), 0),
        sound_seconds(max(first)) if first else 0.0,
    )


def sound_seconds(seconds: float) -> float:
    """A time as it is told; 0 for what is none (negative, not a number) or longer than any step or wait can be."""
    return seconds if 0.0 <= seconds <= LONGEST_SECONDS else 0.0


def completed_span(completed: float, own: StepOutput) -> float:
    """The sum of the positions of the computed tokens, if the prompts of a step are alike."""
    if not own.first_count:
        return 0.0
    cached = max(own.prompt_tokens - own.computed_tokens, 0)
    earlier = max(own.computed_tokens - completed, 0.0)
    return completed * (cached + earlier + completed / 2) / own.first_count
