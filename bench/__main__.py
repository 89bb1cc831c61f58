"""`python -m bench` lists the measurements and runs all of them; `python -m bench NAME [FLAGS]` runs one."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def benches() -> dict[str, str]:
    """Name every module of this folder with the first line of its docstring, importing none."""
    found = {}
    for file in sorted(FOLDER.glob("[a-z]*.py")):
        text = ast.get_docstring(ast.parse(file.read_text())) or ""
        found[file.stem] = text.split("\n", 1)[0]
    return found


def main(arguments: list[str]) -> int:
    """Run one, or all; return the exit code."""
    known = benches()
    if arguments and arguments[0] in ("-h", "--help"):
        for name, about in known.items():
            print(f"{name:<16}{about}")
        return 0
    if arguments and arguments[0] not in known:
        print(f"error: no bench {arguments[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in arguments[:1] or known:
        print(f"\n== {name}: {known[name]}", flush=True)
        sys.argv = [f"bench {name}", *arguments[1:]]
        code = importlib.import_module(f"bench.{name}").main()
        if code:
            return int(code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
