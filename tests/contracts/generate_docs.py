"""Writes docs/schema.md, metrics.md, config.md and commands.md from what they describe.

    python -m tests.contracts.generate_docs            writes them
    python -m tests.contracts.generate_docs --check    says which are out of date, and exits 1 if any is

Run it from the repository's root. A test runs the check.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

from tests.contracts.describe import commands, config, metrics, schema

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES: dict[str, Callable[[], str]] = {
    "schema.md": schema.page,
    "metrics.md": metrics.page,
    "config.md": config.page,
    "commands.md": commands.page,
}


def out_of_date() -> list[str]:
    """Say for every page that is not what it would be now where it first differs."""
    found = []
    for name, page in PAGES.items():
        file = DOCS / name
        old = file.read_text(encoding="utf-8") if file.is_file() else ""
        if (new := page()) != old:
            lines = difflib.unified_diff(
                old.splitlines(), new.splitlines(), "as it is", "as it would be", lineterm="", n=0
            )
            found.append(f"docs/{name} is out of date:\n" + "\n".join(list(lines)[2:12]))
    return found


def main(words: list[str]) -> int:
    """Write the pages, or check them."""
    if words == ["--check"]:
        found = out_of_date()
        print("\n\n".join([*found, "run: python -m tests.contracts.generate_docs"]) if found else "docs are current")
        return 1 if found else 0
    if words:
        print(__doc__, file=sys.stderr)
        return 2
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
