"""The tables of names: complete, sourced, and in agreement with the closed list."""

import re

import pytest
import yaml

from engine_exporter import alias_tables, semconv

CANONICAL = {one.name for one in (*semconv.METRICS, *semconv.GPU_METRICS, *semconv.GPU_SERIES)}
IN_BETWEEN = {"infer.gpu.memory_free", "infer.gpu.memory_reserved"}
"""Parts of the memory's size, which no sample keeps."""
TABLES = pytest.mark.parametrize("table", alias_tables.tables(), ids=lambda table: table.engine)
FILES = sorted(alias_tables.DATA.rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_data_file_names_its_source(file):
    head = file.read_text(encoding="utf-8").split("\n\n")[0]
    assert re.search(r"^# Source: ", head, re.MULTILINE)


@TABLES
def test_every_canonical_name_is_in_the_closed_list(table):
    named = {alias.to for alias in table.metrics.values()} | {derived.to for derived in table.derived}
    assert named - IN_BETWEEN <= CANONICAL


@TABLES
def test_no_name_is_in_two_lists(table):
    assert not table.metrics.keys() & table.kept.keys()
    assert not table.ignored.keys() & table.known().keys()


@TABLES
def test_what_replaced_a_name_means_the_same(table):
    for alias in table.metrics.values():
        if alias.now is not None:
            assert table.metrics[alias.now].to == alias.to
            assert table.metrics[alias.now].rank < alias.rank or table.engine == "dynamo"


@TABLES
def test_what_is_derived_or_suspect_is_a_known_name(table):
    everything = table.known().keys() | table.ignored.keys()
    for derived in table.derived:
        served = {*derived.sum, *derived.product, *filter(None, (derived.times, derived.of))}
        assert served <= everything
    assert table.suspects.keys() <= everything


def test_a_name_belongs_to_one_engine():
    seen = {}
    for table in alias_tables.tables():
        for prefix in table.prefixes:
            for name in table.known():
                assert seen.setdefault(prefix + name, table.engine) == table.engine


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.32.0rc1+cpu", (0, 32, 0)), ("v1.2", (1, 2)), ("b1-0c1e570", ()), ("", ()), ("0.9", (0, 9))],
)
def test_versions_are_read_up_to_their_first_word(text, numbers):
    assert alias_tables.parse_version(text) == numbers


def test_an_engine_without_a_table_is_told():
    with pytest.raises(KeyError, match="vllm"):
        alias_tables.table_of("ollama")


def test_the_catalogue_of_xids_names_an_action_for_each():
    raw = yaml.safe_load((alias_tables.DATA / "xids.yaml").read_text())
    for code, (mnemonic, meaning, action, severity) in raw["xids"].items():
        assert isinstance(code, int) and mnemonic and meaning
        assert action is None or action in raw["actions"]
        assert severity in ("fatal", "app", "info")
