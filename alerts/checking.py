"""What a rules file says that is valid and still can't work: a rule that can never fire, an SLO that is not defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alerts.kinds.burn_rate import out_of_reach
from alerts.rules import BurnRateRule, RuleBase

if TYPE_CHECKING:
    from analytics.slo import SloDefinition


def findings(rules: Sequence[RuleBase], definitions: Sequence[SloDefinition]) -> list[str]:
    """List what can't work, one line each with the fix."""
    found: list[str] = []
    for rule in rules:
        if isinstance(rule, BurnRateRule):
            try:
                found += out_of_reach(rule, definitions)
            except ValueError as error:
                found.append(f"rule {rule.uid}: {error}")
        if rule.for_ and rule.for_ % rule.interval:
            found.append(
                f"rule {rule.uid}: `for` is no multiple of `interval`, so it fires up to one interval late; align them"
            )
    return found
