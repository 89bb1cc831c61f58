"""What must stay light stays light, in a fresh interpreter; importing a package does nothing."""

import ast
import json
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import pytest

import fleetmeter

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("engine_exporter", "collector", "analytics", "alerts", "dashboards", "stack")
IMPORT_NAMES = ("fleetmeter", *PACKAGES)
HEAVY = ("vllm", "streamlit", "duckdb", "polars", "sklearn", "numba", "pyarrow")


def loaded_by(code: str) -> set[str]:
    """Run code in an interpreter of its own; tell which top-level modules it loaded."""
    ending = "\nimport sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    ran = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import fleetmeter; fleetmeter.run(fleetmeter.cli, ['--help'])",
        "import engine_exporter.semconv",
        *sorted({f"import {target.partition(':')[0]}" for target, _ in fleetmeter.COMMANDS.values()}),
    ],
)
def test_no_engine_page_or_number_cruncher_is_loaded_by(code):
    assert loaded_by(code) & set(HEAVY) == set()


def test_the_probe_itself_sees_what_is_loaded():
    assert "duckdb" in loaded_by("import duckdb")


@pytest.mark.parametrize("name", IMPORT_NAMES)
def test_an_import_name_belongs_to_this_distribution_alone_and_comes_from_here(name):
    assert set(metadata.packages_distributions().get(name, [])) <= {"fleetmeter"}
    spec = util.find_spec(name)
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)


@pytest.mark.parametrize("file", sorted(file for name in PACKAGES for file in (ROOT / name).rglob("__init__.py")))
def test_a_package_file_holds_a_docstring_only(file):
    body = ast.parse(file.read_text(encoding="utf-8")).body
    assert len(body) == 1, f"{file.relative_to(ROOT)} holds more than a docstring"
    assert isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    assert isinstance(body[0].value.value, str)


def test_every_folder_of_modules_is_a_package():
    folders = {file.parent for name in PACKAGES for file in (ROOT / name).rglob("*.py")}
    assert {str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()} == set()


def test_no_module_is_named_like_a_top_level_folder_a_dependency_or_the_standard_library():
    """Streamlit and plugins put a script's own folder first on the path: such a module would shadow the other."""
    taken = {folder.name for folder in ROOT.iterdir() if folder.is_dir()} | {"fleetmeter"}
    taken |= set(sys.stdlib_module_names) | set(metadata.packages_distributions())
    files = [file for name in PACKAGES for file in (ROOT / name).rglob("*.py")]
    modules = [file.parent if file.stem == "__init__" else file for file in files]
    shadowing = [str(file.relative_to(ROOT)) for file in modules if file.stem in taken and file.parent != ROOT]
    assert shadowing == []


def test_modules_are_not_named_after_nothing():
    vague = {"utils", "util", "common", "helpers", "helper", "core", "misc"}
    named = {
        str(file.relative_to(ROOT)) for name in PACKAGES for file in (ROOT / name).rglob("*.py") if file.stem in vague
    }
    assert named == set()


MAY_KNOW = {
    "collector": {
        "engine_exporter": {"semconv", "alias_tables", "normalise", "gpu_pages", "gpu_sample", "xids"},
    },
    "analytics": {"collector": {"client", "options", "errors"}, "engine_exporter": {"semconv"}},
    "alerts": {"collector": {"client", "options", "errors"}, "engine_exporter": {"semconv"}},
    "dashboards": {"collector": {"client", "options", "errors"}, "engine_exporter": {"semconv"}},
}
"""Which modules of another package are a contract; what is not named here, as `analytics` for `alerts`, is free."""


def imported_by(file: Path) -> set[str]:
    """Every dotted name that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_part_knows_only_the_contract_modules_of_others(package):
    wrong = []
    for file in (ROOT / package).rglob("*.py"):
        for name in imported_by(file):
            owner, _, rest = name.partition(".")
            allowed = MAY_KNOW.get(package, {}).get(owner)
            if allowed is not None and rest.partition(".")[0] not in allowed:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
            if owner == "fleetmeter" and package != "stack":
                wrong.append(f"{file.relative_to(ROOT)} imports the command tree")
    assert wrong == []
