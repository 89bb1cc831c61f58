import pytest

from analytics.errors import DefinitionError
from analytics.slo import load_definitions


@pytest.fixture
def write(tmp_path):
    def _write(text):
        file = tmp_path / "slos.yaml"
        file.write_text(text)
        return file

    return _write


GOOD = "{name: a, sli: ttft, threshold_seconds: 2.0, objective_ratio: 0.99}"


def test_packaged_definitions_cover_ttft_tpot_and_availability():
    assert [slo.sli for slo in load_definitions()] == ["ttft", "tpot", "availability"]


def test_what_is_left_out_has_a_default(write):
    (slo,) = load_definitions(write(f"- {GOOD}"))
    assert (slo.model, slo.team, slo.window_days, slo.title) == (None, None, 30, "a")


def test_allowed_ratio_is_free_of_binary_noise(write):
    (slo,) = load_definitions(write("- {name: a, sli: availability, objective_ratio: 0.999}"))
    assert slo.allowed_ratio == 0.001


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1", "must be a YAML list"),
        ("[]", "must be a YAML list"),
        ("- [", "is not YAML"),
        ("- {name: a, sli: speed, objective_ratio: 0.99}", "SLO a: sli"),
        ("- {name: a, sli: availability, objective_ratio: 0.99, colour: red}", "SLO a: colour"),
        ("- {name: a, sli: availability, objective_ratio: 1.0}", "SLO a: objective_ratio"),
        ("- 3", "SLO number 0"),
        ("- {name: a, sli: ttft, objective_ratio: 0.99}", "needs threshold_seconds"),
        ("- {name: a, sli: availability, threshold_seconds: 1, objective_ratio: 0.99}", "takes no threshold_seconds"),
        (f"- {GOOD}\n- {GOOD}", "the name comes twice"),
        ("- {name: a, sli: availability, objective_ratio: 0.93}", "14.4 × 0.07 > 1"),
        ("- {name: a, sli: availability, objective_ratio: 0.99, window_days: 2}", "shorter than the 3d burn window"),
    ],
)
def test_a_definition_that_cannot_hold_is_refused_with_the_reason(write, text, says):
    with pytest.raises(DefinitionError, match=says.replace(".", r"\.")):
        load_definitions(write(text))


def test_an_objective_just_above_the_limit_is_taken(write):
    load_definitions(write("- {name: a, sli: availability, objective_ratio: 0.9306}"))


def test_all_problems_are_told_at_once(write):
    with pytest.raises(DefinitionError) as caught:
        load_definitions(write("- {name: a, sli: ttft, objective_ratio: 0.5, window_days: 1}"))
    assert str(caught.value).count("SLO a:") == 3


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DefinitionError, match=r"no SLO definitions at .*absent\.yaml"):
        load_definitions(tmp_path / "absent.yaml")
