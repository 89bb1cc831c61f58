"""What an XID means: `data/xids.yaml`, by code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).resolve().parent / "data" / "xids.yaml"


@dataclass(frozen=True, slots=True)
class Xid:
    """One code of NVIDIA's XID catalogue."""

    code: int
    mnemonic: str
    """NVIDIA's name of it; empty where the catalogue does not have the code."""
    meaning: str
    action: str
    """NVIDIA's resolution bucket, e.g. RESET_GPU; empty where it names none."""
    advice: str
    """The action in words."""
    severity: str
    """fatal, app, info, or unknown."""

    @property
    def title(self) -> str:
        """A sentence for people."""
        return f"XID {self.code}: {self.meaning}" + (f"; {self.advice}" if self.advice else "")


def describe_xid(code: int) -> Xid:
    """Look a code up; one that is not in the catalogue is told as such."""
    return _catalogue().get(code) or Xid(code, "", "not in NVIDIA's catalogue as of 2026", "", "", "unknown")


@cache
def _catalogue() -> dict[int, Xid]:
    raw = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {
        code: Xid(code, mnemonic, meaning, action or "", raw["actions"].get(action, ""), severity)
        for code, (mnemonic, meaning, action, severity) in raw["xids"].items()
    }
