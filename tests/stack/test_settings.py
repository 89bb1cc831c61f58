"""The one YAML: precedence, and every problem told at once with its key path and the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.errors import ConfigurationError
from stack.settings import Settings


def written(folder: Path, text: str) -> Path:
    file = folder / "fleetmeter.yaml"
    file.write_text(text)
    return file


def test_a_value_comes_from_flag_then_environment_then_file_then_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "collector:\n  api_port: 1111\n  otlp_http_port: 1112\n  otlp_grpc_port: 1113\n")
    monkeypatch.setenv("FLEETMETER__COLLECTOR__API_PORT", "2221")
    monkeypatch.setenv("FLEETMETER__COLLECTOR__OTLP_HTTP_PORT", "2222")
    section = Settings(file).section("collector", api_port=3331, host=None)
    assert (section.api_port, section.otlp_http_port, section.otlp_grpc_port) == (3331, 2222, 1113)
    assert section.host == "127.0.0.1"


def test_every_problem_is_told_at_once_with_its_path_and_the_nearest_key(tmp_path: Path) -> None:
    file = written(tmp_path, "collector:\n  api_prt: 1\n  host: 4\nfoo: 1\n")
    with pytest.raises(ConfigurationError) as caught:
        Settings(file).whole()
    message = str(caught.value)
    assert "3 problems" in message
    assert "collector.api_prt: unknown key; did you mean 'api_port'?" in message
    assert "collector.host" in message
    assert "foo: unknown key; known keys: alerts, analytics, collector" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["collector: [", "- a\n- b\n", "just words\n"])
def test_what_is_not_a_mapping_of_sections_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="YAML"):
        Settings(written(tmp_path, text)).whole()


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert Settings(written(tmp_path, "")).section("collector").api_port == 8320


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no configuration file at .*absent\.yaml"):
        Settings(tmp_path / "absent.yaml").whole()


def test_a_flag_out_of_range_is_told_like_any_other_problem() -> None:
    with pytest.raises(ConfigurationError, match="the command line has 1 problem"):
        Settings().section("collector", api_port=70000)
