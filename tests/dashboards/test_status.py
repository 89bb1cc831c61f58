"""Limits, statuses and colours."""

import re
import tomllib
from pathlib import Path

import pytest

import dashboards
from dashboards.errors import DashboardsError
from dashboards.palette import DARK, LIGHT, palette
from dashboards.status import LIMITS_FILE, Limit, Status, limits, worst

FOLDER = Path(dashboards.__file__).parent


@pytest.mark.parametrize(("value", "status"), [(0.5, "ok"), (0.9, "warn"), (0.98, "page"), (None, "unknown")])
def test_a_value_is_judged_by_its_limit(value, status):
    assert limits()["kv_cache_max_ratio"].judge(value) == status


@pytest.mark.parametrize(("value", "status"), [(0.9, "ok"), (0.25, "warn"), (0.0, "page"), (-3, "page")])
def test_a_limit_can_have_lower_as_worse(value, status):
    assert limits()["budget_left_ratio"].judge(value) == status


def test_nan_is_unknown_and_never_well():
    assert Limit(1, 2).judge(float("nan")) == Status.UNKNOWN


def test_the_worst_of_some_wins():
    assert worst(Status.OK, Status.UNKNOWN, Status.WARN) == Status.WARN
    assert worst() == Status.UNKNOWN


def test_well_and_unknown_have_no_status_colour():
    assert {Status.OK.colour, Status.UNKNOWN.colour} == {"gray"}


def test_a_broken_file_of_limits_is_told(tmp_path):
    (tmp_path / "limits.yaml").write_text("kv: [1, 2]")
    with pytest.raises(DashboardsError, match="warn, page"):
        limits(tmp_path / "limits.yaml")


def test_every_limit_names_its_source():
    blocks = LIMITS_FILE.read_text().split("\n")
    for number, line in enumerate(blocks):
        if re.match(r"^[a-z_]+:", line):
            assert blocks[number - 1].startswith("#"), line


def test_a_name_keeps_its_colour_whatever_the_order_of_the_rows():
    assert LIGHT.of(["b", "a", "c"]) == LIGHT.of(["c", "c", "a", "b"])


def test_no_entity_has_a_status_colour():
    for theme in (LIGHT, DARK):
        assert not {theme.page, theme.warn, theme.ok} & set(theme.entities)


def test_the_palette_is_that_of_the_theme():
    theme = tomllib.loads((FOLDER / ".streamlit" / "config.toml").read_text())["theme"]
    for name, ours in (("light", LIGHT), ("dark", DARK)):
        colours = theme[name]
        assert (colours["redColor"], colours["orangeColor"], colours["greenColor"]) == (ours.page, ours.warn, ours.ok)
        assert colours["backgroundColor"] == ours.surface
        assert palette(name) is ours
    assert palette(None) is LIGHT


def test_fonts_are_served_by_us_with_their_licence():
    theme = tomllib.loads((FOLDER / ".streamlit" / "config.toml").read_text())["theme"]
    for face in theme["fontFaces"]:
        assert (FOLDER / face["url"].removeprefix("app/")).is_file()
    assert len(list((FOLDER / "static").glob("LICENSE-*.txt"))) == len(theme["fontFaces"])
