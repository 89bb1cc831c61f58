"""Coloured labels in tables: a column whose words are states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

TINTS = {
    "page": "rgba(224,62,62,0.28)",
    "warn": "rgba(226,125,32,0.28)",
    "ok": "rgba(20,150,105,0.22)",
    "unknown": "rgba(128,138,150,0.25)",
}
"""Translucent, so that one colour reads on light and on dark."""

SEVERITIES = {"page": "page", "ticket": "unknown"}


def pills(label: str, states: Mapping[str, str], *, width: int) -> Any:
    """A column of pills: cells are lists of one word.

    Args:
        label: the column's title.
        states: word -> page, warn, ok or unknown.
        width: in pixels.
    """
    return st.column_config.MultiselectColumn(
        label, options=list(states), color=[TINTS[status] for status in states.values()], width=width
    )
