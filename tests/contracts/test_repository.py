"""What is published names no machine and no registry, and the locks pin everything."""

import gzip
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
UNPUBLISHED = {"var", "dist", "build", "__pycache__", "venv", "env", "node_modules"}
MACHINE_PATH = re.compile(rb"(?<![\w.$}~-])/(?:work|root|home|Users)/(?!\.\.\.)[A-Za-z0-9._-]+")
PIN = re.compile(r"([a-z0-9][a-z0-9._-]*)(\[[a-z,]+\])?==(\S+)(?: ; .+)?")


def published() -> list[Path]:
    """Every file of the working tree that could be committed."""
    found = []
    for top in ROOT.iterdir():
        if top.name in UNPUBLISHED or (top.name.startswith(".") and top.name not in (".ci", ".gitignore")):
            continue
        files = top.rglob("*") if top.is_dir() else [top]
        found += [f for f in files if f.is_file() and not UNPUBLISHED & set(f.relative_to(ROOT).parts)]
    return [file for file in found if not file.name.endswith((".duckdb", ".wal", ".pyc"))]


def content(file: Path) -> bytes:
    raw = file.read_bytes()
    return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw


def test_no_file_names_a_place_on_somebodys_machine():
    named = {
        str(file.relative_to(ROOT)): match.group().decode()
        for file in published()
        if (match := MACHINE_PATH.search(content(file)))
    }
    assert named == {}


def test_the_search_for_machine_paths_finds_one():
    folder = b"ho" + b"me"  # put together here, so that this file names none itself
    assert MACHINE_PATH.search(b'open("/' + folder + b'/ada/x")')
    assert not MACHINE_PATH.search(b"GET /v1/" + folder + b"/x, ../ro" + b"ot/y")


def test_there_are_locks():
    assert [lock.name for lock in LOCKS] == ["requirements-test.lock", "requirements.lock"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_holds_exact_versions_and_hashes_and_no_address(lock):
    text = lock.read_text(encoding="utf-8")
    assert not re.search(r"https?:|://|--(extra-)?index|--find-links|--trusted-host", text)
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 30
    for entry in entries:
        requirement, *hashes = (line.strip().removesuffix("\\").strip() for line in entry.splitlines())
        assert PIN.fullmatch(requirement), f"{lock.name}: not an exact version: {requirement}"
        assert hashes, f"{lock.name}: no hash: {requirement}"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), requirement


def pins(lock: Path) -> dict[str, str]:
    text = lock.read_text(encoding="utf-8")
    return {match[1]: match[3] for match in map(PIN.match, text.splitlines()) if match}


def test_the_tests_run_on_the_versions_that_users_get():
    users, testers = (pins(ROOT / name) for name in ("requirements.lock", "requirements-test.lock"))
    assert {name: version for name, version in users.items() if testers.get(name) != version} == {}


def test_every_dependency_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"]]
    for part in ("exporter", "jwt", "kv-events", "collector", "analytics", "alerts", "dashboards"):
        wanted += [item for item in extras[part] if not item.startswith("fleetmeter[")]
    names = {re.sub(r"[._-]+", "-", re.match(r"[A-Za-z0-9._-]+", item).group().lower()) for item in wanted}
    assert names - set(pins(ROOT / "requirements.lock")) == set()


def test_nothing_tells_pip_of_another_registry():
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", *(ROOT / ".ci").rglob("*"), *(ROOT / "tests").rglob("*.sh")]
    for file in files:
        assert not re.search(r"(index-url|find-links)[= ]+\S*://", file.read_text(encoding="utf-8")), file.name
