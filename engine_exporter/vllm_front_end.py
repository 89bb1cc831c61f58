"""What the middleware reads from inside vLLM's front end: the models served, the live request states, the usage.

All of it is internal to vLLM and differs by version, so nothing here may be relied on: a part that is missing reads as
nothing. (Read from vLLM 0.32.0: `app.state.engine_client.output_processor`, `app.state.openai_serving_models`,
`request.state.request_metadata`, `app.state.openai_serving_responses`.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from engine_exporter.http_half import NO_USAGE, Usage
from engine_exporter.request_attributes import Served

_PROMPTS_LIMIT = 1024


class FrontEnd:
    """vLLM's front end as seen from one request's ASGI scope."""

    __slots__ = ("_scope", "_state")

    def __init__(self, scope: Any) -> None:
        self._scope = scope
        self._state = getattr(scope.get("app"), "state", None)

    def served(self, asked: str | None) -> Served:
        """Tell base model and adapter apart by what the server serves; take the name as it is where that is unknown."""
        models = getattr(self._state, "openai_serving_models", None)
        paths = getattr(models, "base_model_paths", None)
        if not paths:
            return Served(asked)
        base = paths[0].name
        if asked is None or asked == base or any(path.name == asked for path in paths):
            return Served(base)
        return Served(base, asked) if asked in getattr(models, "lora_requests", ()) else Served(None)

    def shows_models(self) -> bool:
        """Whether the models served can be seen, so that a model's name is no client's word."""
        models = getattr(self._state, "openai_serving_models", None)
        return bool(getattr(models, "base_model_paths", None))

    def errored(self) -> bool:
        """Whether the engine says that it is dead."""
        return bool(getattr(getattr(self._state, "engine_client", None), "errored", False))

    def background_work(self) -> asyncio.Future[Any] | None:
        """What makes an answer that was promised (`"background": true`); None where it can't be seen."""
        work = self._promised("background_tasks")
        return work if isinstance(work, asyncio.Future) else None

    def background_status(self) -> str | None:
        """How such work stands: queued, in_progress, completed, incomplete, failed or cancelled; None where unknown."""
        status = getattr(self._promised("response_store"), "status", None)
        return status if isinstance(status, str) else None

    def _promised(self, kept_in: str) -> Any:
        kept = getattr(getattr(self._state, "openai_serving_responses", None), kept_in, None)
        return kept.get(self.engine_request_id()) if isinstance(kept, dict) else None

    def engine_request_id(self) -> str | None:
        """The id that vLLM gave the request; None where it came to no generation."""
        found = getattr(self._metadata(), "request_id", None)
        return str(found) if found else None

    def usage(self) -> Usage:
        """The final usage that vLLM keeps for its middlewares, asked for by the client or not."""
        usage = getattr(self._metadata(), "final_usage_info", None)
        if usage is None:
            return NO_USAGE
        prompt = getattr(usage, "prompt_tokens_details", None)
        completion = getattr(usage, "completion_tokens_details", None)
        return Usage(
            _count(getattr(usage, "prompt_tokens", None)),
            _count(getattr(prompt, "cached_tokens", None)),
            _count(getattr(usage, "completion_tokens", None)),
            _count(getattr(completion, "reasoning_tokens", None)),
        )

    def live_states(self, request_id: str) -> list[Any]:
        """The `RequestState`s of a request that runs: they stay readable after vLLM has dropped them.

        Args:
            request_id: the 32 hex digits around which the engine's id is built.
        """
        processor = getattr(getattr(self._state, "engine_client", None), "output_processor", None)
        external = getattr(processor, "external_req_ids", None)
        states: dict[str, Any] = getattr(processor, "request_states", {})
        if not states:
            return []
        name = self.engine_request_id()
        if external is None:  # before vLLM told its own ids from the client's (0.13): the states are under the latter
            needle = name or request_id
            return [state for key, state in list(states.items()) if needle in key]
        if not external:
            return []
        internal = _internal_ids(external.get, name) if name else []
        if not internal:
            needle = name or request_id
            internal = [one for key, ids in list(external.items()) if needle in key for one in ids]
        return [states[one] for one in internal if one in states]

    def shows_states(self) -> bool:
        """Whether the running requests can be seen at all."""
        processor = getattr(getattr(self._state, "engine_client", None), "output_processor", None)
        return getattr(processor, "request_states", None) is not None

    def has_usage(self) -> bool | None:
        """Whether vLLM leaves the usage of a request for its middlewares; None where it left nothing of this one."""
        metadata = self._metadata()
        return None if metadata is None else hasattr(metadata, "final_usage_info")

    def still_running(self, states: list[Any]) -> bool:
        """Whether vLLM has not yet dropped one of these states."""
        processor = getattr(getattr(self._state, "engine_client", None), "output_processor", None)
        running = getattr(processor, "request_states", {})
        return any(running.get(getattr(state, "request_id", None)) is state for state in states)

    def _metadata(self) -> Any:
        state = self._scope.get("state")
        return state.get("request_metadata") if isinstance(state, dict) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _internal_ids(find: Callable[[str], list[str] | None], name: str) -> list[str]:
    """chat `ID`; completions and pooling `ID-0`, `ID-1` …; responses `ID_0`, `ID_1` …"""
    if ids := find(name):
        return list(ids)
    found: list[str] = []
    for mark in "-_":
        for index in range(_PROMPTS_LIMIT):
            ids = find(f"{name}{mark}{index}")
            if not ids:
                break
            found += ids
        if found:
            break
    return found
