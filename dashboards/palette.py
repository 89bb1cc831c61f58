"""Colours. Red, orange, green and grey are status; every entity keeps one colour on every page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """The colours of one theme; the same as in `.streamlit/config.toml`."""

    page: str
    """Status: somebody is paged."""
    warn: str
    """Status: look at it today."""
    ok: str
    """Status: well."""
    quiet: str
    """No status: context, the median, the past."""
    main: str
    """The series that a chart is about, e.g. p95."""
    second: str
    """The series beside it, e.g. p99."""
    text: str
    """Axis labels and titles."""
    faint: str
    """Grid lines and idle."""
    surface: str
    """The page behind a chart."""
    entities: tuple[str, ...]
    """Teams, models and replicas, in sorted order; none of them is a status colour."""

    def of(self, names: Iterable[str]) -> Mapping[str, str]:
        """Give each entity a colour by its place in the sorted names, so that it never depends on the rows' order."""
        return {name: self.entities[index % len(self.entities)] for index, name in enumerate(sorted(set(names)))}


LIGHT = Palette(
    page="#D32F2F",
    warn="#C8650A",
    ok="#0B8A5F",
    quiet="#667085",
    main="#2456D6",
    second="#7A3FC9",
    text="#5B6472",
    faint="#DFE3EA",
    surface="#FBFBFA",
    entities=(
        "#2456D6",
        "#0E9384",
        "#A8590F",
        "#7A3FC9",
        "#C22559",
        "#5B7A0B",
        "#0E7FB8",
        "#667085",
        "#8C6D1F",
        "#3F7F93",
    ),
)
DARK = Palette(
    page="#FF6B6B",
    warn="#F0953F",
    ok="#3CCB92",
    quiet="#98A2B3",
    main="#6E9BFF",
    second="#B78CFF",
    text="#A5AEBD",
    faint="#262C36",
    surface="#0E1116",
    entities=(
        "#6E9BFF",
        "#2BC4B0",
        "#D9964A",
        "#B78CFF",
        "#F06595",
        "#A3C64D",
        "#4DB8EA",
        "#98A2B3",
        "#D1B15A",
        "#7FC3D6",
    ),
)


def palette(theme: str | None) -> Palette:
    """Choose by the theme's name, `light` or `dark`; light where it is not known yet."""
    return DARK if theme == "dark" else LIGHT
