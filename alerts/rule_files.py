"""Reads rules from YAML and checks the whole file: every problem at once, with its key path and the nearest key."""

from __future__ import annotations

import difflib
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from alerts.errors import RuleFileError
from alerts.rules import KINDS, InternalRule, Rule, RuleBase

PACKAGED = Path(__file__).parent / "data" / "default_rules.yaml"
INTERNAL = Path(__file__).parent / "data" / "internal_rules.yaml"
RULE: TypeAdapter[Rule] = TypeAdapter(Rule)


def load_rules(path: Path | None = None) -> tuple[RuleBase, ...]:
    """Read the rules of a file (None: the packaged ones) and fleetmeter's own, which a file may replace by uid.

    Raises:
        RuleFileError: with every problem of the file.
    """
    rules = read_rules(path or PACKAGED)
    named = {rule.uid for rule in rules}
    replaced = {rule.signal for rule in rules if isinstance(rule, InternalRule)}
    own = [
        rule
        for rule in read_rules(INTERNAL)
        if isinstance(rule, InternalRule) and rule.signal not in replaced and rule.uid not in named
    ]
    return (*rules, *own)


def read_rules(path: Path) -> tuple[RuleBase, ...]:
    """Read one file of rules.

    Raises:
        RuleFileError: with every problem of the file.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RuleFileError(f"no rules at {path} ({error.strerror}); name an existing YAML of rules") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RuleFileError(f"{path} is not YAML: {error}") from error
    entries = document.get("rules") if isinstance(document, dict) and set(document) == {"rules"} else None
    if not isinstance(entries, list):
        raise RuleFileError(f"{path} must be a mapping with the one key `rules`, a list of rules")
    rules, problems = [], []
    for number, entry in enumerate(entries):
        try:
            rules.append(RULE.validate_python(entry))
        except ValidationError as error:
            problems += [describe(number, entry, problem) for problem in error.errors()]
    for uid, count in Counter(rule.uid for rule in rules).items():
        if count > 1:
            problems.append(f"  rules: the uid {uid!r} stands {count} times; each rule needs its own")
    if problems:
        plural = "s" if len(problems) > 1 else ""
        raise RuleFileError("\n".join([f"{path} has {len(problems)} problem{plural}:", *problems]))
    return tuple(rules)


def describe(number: int, entry: Any, problem: Any) -> str:
    """Tell one problem on a line: key path, what is wrong, nearest known key."""
    kind = entry.get("kind") if isinstance(entry, dict) else None
    name = entry.get("uid", number) if isinstance(entry, dict) else number
    path = [str(part) for part in problem["loc"] if part != kind]
    place = ".".join([f"rules[{name}]", *path])
    model = KINDS.get(str(kind))
    if problem["type"] == "extra_forbidden":
        known = known_keys(model, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        return f"  {place}: unknown key; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}")
    if problem["type"] == "union_tag_not_found":
        return f"  {place}.kind: missing; take one of {', '.join(KINDS)}"
    if problem["type"] == "union_tag_invalid":
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"take one of {', '.join(KINDS)}"
        return f"  {place}.kind: unknown kind {kind!r}; {hint}"
    if problem["type"] == "missing":
        return f"  {place}: missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if isinstance(problem["input"], str | int | float) and str(problem["input"]) not in message:
        message += f" (got {problem['input']!r})"
    return f"  {place}: {message}"


def known_keys(model: type[BaseModel] | None, path: list[str]) -> list[str]:
    """Name the keys that stand at a path of a rule."""
    current: Any = model
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        current = field.annotation if field is not None else None
    fields = getattr(current, "model_fields", {})
    return sorted(field.alias or name for name, field in fields.items())
