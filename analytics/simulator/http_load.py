"""A bounded load of simulated arrivals on a real OpenAI-compatible server.

Prompts are made of words that tokenisers commonly take for one token each, as many as the simulated prompt has
tokens, and
prompts that share a prefix in the simulation share their text; so lengths are near, not exact.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from analytics.simulator.errors import ReceiverError, SimulatorError
from analytics.simulator.incidents import Clock
from analytics.simulator.presets import find_profile
from analytics.simulator.workload import Ending, Turns, draw_workload, join

if TYPE_CHECKING:
    from analytics.simulator.config import FleetConfig

WORDS = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
]
CONCURRENT_MOST = 256
TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Call:
    """One request to send."""

    at: float
    """Seconds after the first."""
    team: str | None
    body: dict[str, Any]
    leaves_after: int | None
    """Chunks after which the client hangs up; None stays."""


def load_server(
    config: FleetConfig,
    seed: int,
    start: datetime,
    end: datetime,
    url: str,
    *,
    requests_most: int,
    speed: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, int]:
    """Send the first requests of a simulated fleet to a server, at their times.

    Args:
        config: The fleet.
        seed: The seed.
        start: First arrival, naive UTC.
        end: Last arrival, naive UTC.
        url: `http://host:port`, with or without `/v1`. OPENAI_API_KEY is sent where it is set.
        requests_most: No more than so many.
        speed: 10 plays ten seconds in one.
        progress: Called with 1 for each answer.

    Returns:
        Answers counted: ok, client_disconnect, rejected, error; and output_chunks.

    Raises:
        ReceiverError: no server answers.
        SimulatorError: the address is none, or the server has no model.
    """
    base = url.rstrip("/").removesuffix("/v1") + "/v1"
    served = served_models(base)
    calls = plan_calls(config, seed, start, end, served, requests_most)
    return asyncio.run(_send_all(base, calls, speed, progress or (lambda _: None)))


def served_models(base: str) -> dict[str, str]:
    """The models that the server names, and who owns each."""
    try:
        answer = httpx.get(f"{base}/models", headers=_headers(), timeout=30.0)
        answer.raise_for_status()
        names = {str(model["id"]): str(model.get("owned_by")) for model in answer.json()["data"]}
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise SimulatorError(f"{base} is not an address ({error}); begin it with http://") from error
    except httpx.HTTPStatusError as error:
        raise SimulatorError(
            f"{base}/models answered {error.response.status_code}; set OPENAI_API_KEY if it asks for one"
        ) from error
    except httpx.HTTPError as error:
        raise ReceiverError(f"no OpenAI-compatible server answers at {base} ({error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SimulatorError(f"{base}/models is not what an OpenAI-compatible server answers") from error
    if not names:
        raise SimulatorError(f"{base}/models names no model")
    return names


def plan_calls(
    config: FleetConfig, seed: int, start: datetime, end: datetime, served: dict[str, str], requests_most: int
) -> list[Call]:
    """The first requests of all deployments in order of arrival; models that are not served go to the first that is."""
    clock = Clock(start.replace(minute=0, second=0, microsecond=0), start, end, end)
    parts = []
    for model in config.models:
        profile = find_profile(model.profile)
        room = min(model.max_model_len, (model.kv_blocks or profile.kv_blocks) * profile.block_size)
        parts.append(draw_workload(config, model, seed, clock, room).turns)
    turns = join(parts)
    turns = turns.take(np.argsort(turns.at, kind="stable")[:requests_most])
    return [_call(config, turns, i, served) for i in range(turns.at.size)]


def _call(config: FleetConfig, turns: Turns, i: int, served: dict[str, str]) -> Call:
    stream = config.streams[int(turns.stream[i])]
    shared = int(turns.shared[i])
    common = text_of(f"{stream.team}/{stream.app}", shared)
    talk = text_of(f"{stream.team}/{stream.app}/{turns.day[i]}/{turns.conversation[i]}", int(turns.prompt[i]) - shared)
    ending = int(turns.ending[i])
    model = stream.model if stream.model in served else next(iter(served))
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "system", "content": common}, {"role": "user", "content": talk}],
        "max_tokens": -1 if ending == Ending.REJECTED else int(turns.output[i]),
        "stream": stream.stream,
    }
    if served[model] == "vllm":
        body["ignore_eos"] = True  # so that answers are as long as simulated
    if not common:
        body["messages"] = body["messages"][1:]
    leaves = int(turns.output[i]) if ending == Ending.DISCONNECT else None
    if leaves is not None:
        body |= {"stream": True, "max_tokens": leaves * 4}
    return Call(float(turns.at[i] - turns.at[0]), stream.team, body, leaves)


def text_of(key: str, words: int) -> str:
    """So many words, the same for the same key; a longer text begins with the shorter one."""
    draw = random.Random(key)
    return " ".join(draw.choice(WORDS) for _ in range(words))


def _headers() -> dict[str, str]:
    key = os.environ.get("OPENAI_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


async def _send_all(base: str, calls: list[Call], speed: float, progress: Callable[[int], None]) -> dict[str, int]:
    counts: Counter[str] = Counter(ok=0, client_disconnect=0, rejected=0, error=0, output_chunks=0)
    gate = asyncio.Semaphore(CONCURRENT_MOST)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, headers=_headers()) as client:

        async def one(call: Call) -> None:
            await asyncio.sleep(max(begin + call.at / speed - loop.time(), 0))
            async with gate:
                outcome, chunks = await _send(client, base, call)
            counts[outcome] += 1
            counts["output_chunks"] += chunks
            progress(1)

        await asyncio.gather(*map(one, calls))
    return dict(counts)


async def _send(client: httpx.AsyncClient, base: str, call: Call) -> tuple[str, int]:
    """One request: how it ended, and the chunks that came."""
    headers = {"X-Fleetmeter-Team": call.team} if call.team else {}
    chunks = 0
    try:
        async with client.stream("POST", f"{base}/chat/completions", json=call.body, headers=headers) as answer:
            if answer.status_code >= 400:
                return ("rejected" if answer.status_code < 500 or answer.status_code == 503 else "error"), 0
            async for line in answer.aiter_lines():
                if line.startswith("data: {") or (not call.body["stream"] and line):
                    chunks += 1
                if call.leaves_after is not None and chunks >= call.leaves_after:
                    return "client_disconnect", chunks
    except httpx.HTTPError:
        return "error", chunks
    return "ok", chunks
