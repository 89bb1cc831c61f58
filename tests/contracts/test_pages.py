"""What README and docs/ show exists: links lead somewhere, and every command line is one that fleetmeter takes."""

import re
import shlex
from pathlib import Path

import click
import pytest

import fleetmeter

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def command_lines(page: Path) -> list[str]:
    """Every line that runs fleetmeter in the page's shell blocks, continued lines put together."""
    lines = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ").splitlines()
    return [line[line.index("fleetmeter ") :] for line in lines if re.match(r"(\$ |[A-Z_]+=\S+ )*fleetmeter ", line)]


EXAMPLES = [(page.name, line) for page in PAGES for line in command_lines(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page):
    targets = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_shows_commands():
    assert len([line for name, line in EXAMPLES if name == "README.md"]) >= 5


@pytest.mark.parametrize(("page", "line"), EXAMPLES, ids=[f"{page}: {line[:50]}" for page, line in EXAMPLES])
def test_a_command_line_that_is_shown_can_be_typed(page, line):
    words = shlex.split(line, comments=True)[1:]
    words = words[: next((place for place, word in enumerate(words) if word in ("|", ">", "&", "&&", ";")), None)]
    command: click.Command = fleetmeter.cli
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        child = command.get_command(context, words[0])
        assert child is not None, f"no command {words[0]!r}"
        command, words = child, words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert options <= known | {"--help", "-h", "--version"}, f"{line}: no option {options - known}"
