"""Every time line in tests/scenarios comes out as it says, and the runner notices when one does not."""

from pathlib import Path

import pytest

from alerts.errors import ScenarioFileError
from alerts.scenarios import Scenario, differences, play_file, read_scenarios

FILES = sorted((Path(__file__).parent.parent / "scenarios").glob("*.yaml"))
SCENARIOS = [scenario for file in FILES for scenario in read_scenarios(file)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_path_of_states_is_as_the_scenario_says(scenario):
    assert differences(scenario) == []


def test_a_wrong_path_a_wrong_time_and_a_wrong_message_are_noticed():
    wrong = Scenario(name="wrong", ticks=["breach", "fine"], path=["pending(breach_began)"], told=["firing"])
    assert len(differences(wrong)) == 2
    late = Scenario(name="late", ticks=["fine", "breach"], path=["+2m pending(breach_began)", "firing(for_elapsed)"])
    assert differences(late) == ["path: pending(breach_began) expected at +2m; came at +1m"]


def test_a_scenario_file_with_an_unknown_key_is_refused_with_its_place(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("- {name: x, ticks: [fine], path: [], wut: 1}")
    with pytest.raises(ScenarioFileError, match=r"0\.wut"):
        play_file(file, tell=lambda line: None)


def test_an_unknown_word_names_the_known_ones():
    with pytest.raises(ScenarioFileError, match="known are breach, fine"):
        differences(Scenario(name="x", ticks=["breech"], path=[]))
