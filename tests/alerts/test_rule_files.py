"""A rules file is checked as a whole: every problem with its place, the nearest key, and the fix."""

from pathlib import Path

import pytest

import alerts
from alerts.errors import RuleFileError
from alerts.rule_files import load_rules, read_rules
from alerts.rules import Signal

RUNBOOKS = Path(alerts.__file__).parent / "data" / "runbooks"
GOOD = """
  - uid: good
    title: Good
    kind: threshold
    severity: page
    measure: error_ratio
    op: ">"
    threshold: 0.01
    for: 5m
    annotations: {summary: "{model}: {value}", runbook_url: /runbooks/errors}
"""


def problems(tmp_path, text):
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(RuleFileError) as error:
        read_rules(file)
    return str(error.value)


def test_the_packaged_rules_are_valid_and_their_runbooks_exist():
    rules = load_rules()
    assert {rule.kind for rule in rules} == {"burn_rate", "threshold", "drift", "budget", "internal"}
    paths = {rule.annotations.runbook_url for rule in rules}
    assert {path.removeprefix("/runbooks/") for path in paths} == {file.stem for file in RUNBOOKS.glob("*.md")}


def test_every_signal_of_fleetmeter_itself_has_a_rule():
    assert {rule.signal for rule in load_rules() if rule.kind == "internal"} == set(Signal)


def test_all_problems_are_told_at_once_each_with_its_place(tmp_path):
    text = f"""rules:{GOOD}
  - uid: bad-keys
    title: Bad
    kind: threshold
    severity: page
    mesure: error_ratio
    op: ">"
    threshold: 0.01
    annotations: {{sumary: s, runbook_url: /runbooks/errors}}
  - uid: bad-kind
    kind: treshold
  - uid: bad-words
    title: Bad
    kind: threshold
    severity: sms
    measure: error_ratio
    op: ">"
    threshold: 0.01
    for: soon
    annotations: {{summary: s, runbook_url: /runbooks/errors}}
"""
    told = problems(tmp_path, text)
    for line in (
        "rules[bad-keys].measure: missing",
        "rules[bad-keys].mesure: unknown key; did you mean 'measure'?",
        "rules[bad-keys].annotations.sumary: unknown key; did you mean 'summary'?",
        "rules[bad-kind].kind: unknown kind 'treshold'; did you mean 'threshold'?",
        "rules[bad-words].severity: Input should be 'page' or 'ticket' (got 'sms')",
        "rules[bad-words].for: 'soon' is not a duration; write it as 30s, 5m, 1h30m or 3d",
    ):
        assert line in told
    assert "has 7 problems" in told
    assert "rules[good]" not in told


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('"{model}: {value}"', '"{modle}"'), "annotations.summary names {modle}; known are"),
        (('"{model}: {value}"', '"{model.__class__}"'), "is no plain name"),
        (('"{model}: {value}"', '"{model"'), "expected '}' before end of string"),
        (("threshold: 0.01", "threshold: a lot"), "unable to parse string as a number"),
        (('op: ">"', "op: in"), "op `in` takes `values`"),
        (("measure: error_ratio", "measure: last_xid"), "last_xid is not measured per model; it has scope replica"),
        (("uid: good", "uid: Not Good"), "should match pattern"),
    ],
)
def test_what_could_never_work_is_refused(tmp_path, change, problem):
    assert problem in problems(tmp_path, "rules:" + GOOD.replace(*change))


def test_a_uid_stands_for_one_rule(tmp_path):
    assert "the uid 'good' stands 2 times" in problems(tmp_path, "rules:" + GOOD + GOOD)


@pytest.mark.parametrize("text", ["", "[]", "rules: 3", "rule: []", "rules: [\n"])
def test_a_file_that_is_no_list_of_rules_says_what_it_must_be(tmp_path, text):
    told = problems(tmp_path, text)
    assert "must be a mapping with the one key `rules`" in told or "is not YAML" in told


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RuleFileError, match=r"no rules at .*nowhere\.yaml"):
        load_rules(tmp_path / "nowhere.yaml")


def test_a_rules_file_replaces_fleetmeters_own_rule_by_its_signal(tmp_path):
    file = tmp_path / "rules.yaml"
    own = (
        "rules: [{uid: mine, title: M, kind: internal, signal: ingest_stale, severity: ticket, "
        "annotations: {summary: s, runbook_url: /x}}]"
    )
    file.write_text(own)
    stale = [rule for rule in load_rules(file) if getattr(rule, "signal", None) == Signal.INGEST_STALE]
    assert [rule.uid for rule in stale] == ["mine"]


def test_wording_keeps_the_version_and_anything_else_changes_it(rules_of):
    (rule,) = rules_of("rules:" + GOOD)
    (reworded,) = rules_of("rules:" + GOOD.replace("title: Good", "title: Better"))
    assert rule.version() == reworded.version()
    for change in (("0.01", "0.02"), ("for: 5m", "for: 6m"), ("severity: page", "severity: ticket")):
        (edited,) = rules_of("rules:" + GOOD.replace(*change))
        assert edited.version() != rule.version()


def test_the_slos_are_part_of_the_version_of_a_burn_rule():
    rule = next(rule for rule in load_rules() if rule.kind == "burn_rate")
    assert rule.version(["objective 0.99"]) != rule.version(["objective 0.999"])
