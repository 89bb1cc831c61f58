"""What must hold for any history of any alert, whatever is found, missed, edited or restarted."""

from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from alerts.machine import step
from alerts.notify import decide
from alerts.state_store import RULE
from alerts.states import (
    ACTIVE,
    EvaluationError,
    NoData,
    NoDataPolicy,
    Reason,
    RuleSpec,
    RuleState,
    Sample,
    Samples,
    StaleData,
    State,
)

START = datetime(2026, 3, 1)
MODELS = ("a", "b", "c")
BLIND = st.sampled_from([EvaluationError("x"), StaleData(), NoData()])


class AlertHistory(RuleBasedStateMachine):
    """Drives the machine through anything, and keeps its own, simpler account."""

    @initialize(
        for_minutes=st.integers(0, 4),
        keep_minutes=st.integers(0, 4),
        missing=st.integers(1, 3),
        limit=st.integers(1, 3),
    )
    def begin(self, for_minutes, keep_minutes, missing, limit):
        self.rule = RuleSpec("r", "1", 60, 60 * for_minutes, 60 * keep_minutes, missing, NoDataPolicy.KEEP, limit)
        self.state = RuleState("r", version="1")
        self.now = START
        self.transitions = []
        self.told = {}
        self.heard = {}
        self.breaching_since = {}

    def evaluate(self, outcome):
        before = self.state
        self.state, transitions = step(self.rule, before, outcome, self.now)
        self.transitions += transitions
        for transition in transitions:
            self.hear(transition.instance)
        for instance in self.state.instances.values():
            self.hear(instance)
        again, nothing = step(self.rule, self.state, outcome, self.now)
        assert (again, nothing) == (self.state, ()), "a time that was evaluated changes nothing"
        self.now += timedelta(seconds=60)
        return before, transitions

    def hear(self, instance):
        decision = decide(instance, self.told.get(instance.fingerprint), self.now, repeat_seconds=10**9)
        self.told[instance.fingerprint] = decision.told
        if decision.kind:
            self.heard.setdefault(instance.fingerprint, []).append(str(decision.kind))

    @rule(verdicts=st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=3), times=st.integers(1, 4))
    def rows(self, verdicts, times):
        for _ in range(times):
            rows = tuple(Sample({"model": model}, verdict) for model, verdict in zip(MODELS, verdicts, strict=False))
            for row in rows:
                if row.breach is True:
                    self.breaching_since.setdefault(row.labels["model"], self.now)
                elif row.breach is False:
                    self.breaching_since.pop(row.labels["model"], None)
            _, transitions = self.evaluate(Samples(rows))
            for transition in transitions:
                if transition.after == State.FIRING and transition.before == State.PENDING:
                    since = self.breaching_since[transition.instance.labels["model"]]
                    lasted = (transition.at - since).total_seconds()
                    assert lasted >= self.rule.for_seconds, "it fired before the breach had lasted for `for`"

    @rule(outcome=BLIND, times=st.integers(1, 8))
    def ignorance(self, outcome, times):
        for _ in range(times):
            before, transitions = self.evaluate(outcome)
            if before.version == self.rule.version:
                assert all(each.reason == Reason.RESTORED for each in transitions), "ignorance changed a state"
                states = {key: each.state for key, each in before.instances.items()}
                assert {key: each.state for key, each in self.state.instances.items()} == states

    @rule(minutes=st.integers(1, 200))
    def outage(self, minutes):
        self.now += timedelta(minutes=minutes)

    @rule()
    def restart(self):
        restored = RULE.validate_json(RULE.dump_json(self.state))
        assert restored == self.state, "what is stored is not what was known"
        self.state = restored

    @rule()
    def edit(self):
        self.rule = RuleSpec(
            "r",
            self.rule.version + "+",
            60,
            self.rule.for_seconds,
            self.rule.keep_firing_for_seconds,
            2,
            NoDataPolicy.KEEP,
            3,
        )
        self.breaching_since = {}
        active = {key for key, each in self.state.instances.items() if each.state in ACTIVE}
        _, transitions = self.evaluate(StaleData())
        ended = {each.instance.fingerprint for each in transitions if each.reason == Reason.RULE_UPDATED}
        assert ended == active, "an edited rule ends exactly what was active"

    @invariant()
    def transitions_follow_each_other(self):
        at = {}
        for each in getattr(self, "transitions", []):
            key = each.instance.fingerprint
            if key in at and each.before not in (State.INACTIVE, State.RESOLVED):
                assert at[key] == each.before, "a transition left a state that was not entered"
            at[key] = each.after

    @invariant()
    def a_receiver_hears_fire_and_resolve_in_turn(self):
        for heard in getattr(self, "heard", {}).values():
            turns = [kind for kind in heard if kind in ("firing", "resolved")]
            assert turns == ["firing", "resolved"] * (len(turns) // 2) + ["firing"] * (len(turns) % 2)

    @invariant()
    def active_alerts_are_named_and_within_the_limit(self):
        state = getattr(self, "state", None)
        if state is None:
            return
        active = [each for each in state.instances.values() if each.state in ACTIVE]
        assert all(each.fired_at is not None and each.episode > 0 for each in active)


AlertHistory.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAlertHistory = AlertHistory.TestCase
