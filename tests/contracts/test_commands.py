"""Every command has help, refuses what it does not know with exit code 2, and errors have their documented codes."""

import re

import click
import pytest

import fleetmeter
from fleetmeter import COMMANDS


def walk(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every path of words in the command tree."""
    found = [path]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            try:
                child = command.get_command(context, name)
            except ImportError:  # told by the tests of that command
                child = None
            found += walk(child, (*path, name)) if child else [(*path, name)]
    return found


PATHS = walk(fleetmeter.cli)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_a_command_explains_itself_and_all_its_options(cli, path):
    ran = cli(*path, "--help")
    assert ran.code == 0
    assert ran.out.startswith("Usage: fleetmeter")
    assert len(ran.out.split("Options:")[0].splitlines()) >= 3, "no sentence says what it does"
    assert cli(*path, "-h").out == ran.out


@pytest.mark.parametrize("path", [path for path in PATHS if path], ids=" ".join)
def test_every_option_of_a_command_says_what_it_does(path):
    command: click.Command = fleetmeter.cli
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.opts[0] for option in options if not option.help and not isinstance(option.type, click.Choice)] == []


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_an_unknown_option_is_a_usage_error(cli, path):
    ran = cli(*path, "--no-such-option")
    assert ran.code == 2
    assert ran.out == ""
    assert "--no-such-option" in ran.err


def test_the_help_lists_every_command_in_a_line(cli):
    listed = cli("--help").out
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line[:30])}", listed, re.MULTILINE)


def test_the_version_is_the_distributions(cli):
    from importlib import metadata

    assert metadata.version("fleetmeter") in cli("--version").out


NO_ONE = "http://127.0.0.1:1"
READERS = [
    ("query", "SELECT 1"),
    ("slo", "status"),
    ("cost", "report"),
    ("drift", "scan"),
]


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_missing_database_exits_2_and_an_absent_collector_3(cli, words, tmp_path):
    ran = cli(*words, "--db", tmp_path / "absent.duckdb")
    assert (ran.code, ran.out) == (2, "")
    assert "no database at" in ran.err and "--url" in ran.err
    ran = cli(*words, "--url", NO_ONE)
    assert (ran.code, ran.out) == (3, "")
    assert "no collector answers" in ran.err and "fleetmeter collect" in ran.err


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_file_and_an_address_at_once_exit_2(cli, words, tmp_path):
    ran = cli(*words, "--db", tmp_path / "x.duckdb", "--url", NO_ONE)
    assert ran.code == 2
    assert "exclude each other" in ran.err


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_file_that_is_no_database_exits_2(cli, words, tmp_path):
    (tmp_path / "x.duckdb").write_text("this is not a database, whatever its name says")
    ran = cli(*words, "--db", tmp_path / "x.duckdb")
    assert (ran.code, ran.out) == (2, "")
    assert "not a DuckDB file" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nonsense",), "No such command 'nonsense'; there are: demo, up"),
        (("qery",), "No such command 'qery'; did you mean 'query'?"),
        (("config", "show", "--config", "absent.yaml"), "no configuration file at absent.yaml"),
        (("config", "check", "absent.yaml"), "absent.yaml"),
        (("import", "parquet", "x"), "unknown format"),
    ],
)
def test_usage_and_configuration_errors_exit_2(cli, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = cli(*words)
    assert ran.code == 2
    assert said in ran.err
