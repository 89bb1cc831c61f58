"""Durations as people write them in rules (`90s`, `5m`, `1h30m`, `3d`) and read them in messages."""

from __future__ import annotations

import re

UNIT_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
PATTERN = re.compile(r"(?:\d+[wdhms])+")


def parse_duration(text: str | int | float) -> int:
    """Read a duration into whole seconds: `5m`, `1h30m`, or a plain number of seconds.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(text, int | float) and not isinstance(text, bool) and text >= 0 and text == int(text):
        return int(text)
    if not isinstance(text, str) or not PATTERN.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write it as 30s, 5m, 1h30m or 3d")
    return sum(int(number) * UNIT_SECONDS[unit] for number, unit in re.findall(r"(\d+)([wdhms])", text))


def write_duration(seconds: float) -> str:
    """Write seconds the way rules do: 5400 is `1h30m`, 0 is `0s`."""
    rest = round(seconds)
    parts: list[str] = []
    for unit, size in UNIT_SECONDS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def say_duration(seconds: float) -> str:
    """Say a duration to a person, two units at most: `3 d 4 h`, `12 min`, `40 s`."""
    rest = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "0 s"
