"""Targets out of files in Prometheus' file_sd format: a list of `{targets: [...], labels: {...}}`, JSON or YAML."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from collector.targets import Found, sorted_labels

log = logging.getLogger(__name__)


@dataclass(slots=True)
class TargetFiles:
    """Files that are read again when they change; one that is broken keeps what it said before.

    Args:
        patterns: paths or globs.
    """

    patterns: tuple[str, ...]
    _known: dict[Path, tuple[tuple[int, int], list[Found]]] = field(default_factory=dict)

    def find(self) -> list[Found]:
        """Return what all files say now."""
        paths = sorted({path for pattern in self.patterns for path in matching(Path(pattern))})
        for gone in self._known.keys() - set(paths):
            del self._known[gone]
        for path in paths:
            self._read(path)
        return [one for path in paths for one in self._known.get(path, ((0, 0), []))[1]]

    def _read(self, path: Path) -> None:
        try:
            status = path.stat()
            version = (status.st_mtime_ns, status.st_size)
            if path not in self._known or self._known[path][0] != version:
                self._known[path] = (version, groups_of(path.read_text(encoding="utf-8"), path.suffix))
        except (OSError, ValueError, yaml.YAMLError) as error:
            log.warning("target_file_broken", extra={"file": str(path), "error": str(error)})


def matching(pattern: Path) -> list[Path]:
    """Return the files that a path or glob names."""
    return list(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))


def groups_of(text: str, suffix: str) -> list[Found]:
    """Read one file.

    Raises:
        ValueError: it is no list of groups.
    """
    tree: Any = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    if tree is None:
        return []
    if not isinstance(tree, list):
        raise ValueError("a list of {targets, labels} is expected")
    found = []
    for group in tree:
        if not isinstance(group, dict) or not isinstance(group.get("targets"), list):
            raise ValueError(f"a group needs a list of targets: {group!r}")
        labels = {str(name): str(value) for name, value in (group.get("labels") or {}).items()}
        scheme, path = labels.get("__scheme__"), labels.get("__metrics_path__")
        found += [Found(str(one), sorted_labels(labels), scheme, path) for one in group["targets"]]
    return found
