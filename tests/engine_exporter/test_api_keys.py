"""Keys to teams: hashed, reloaded while the engine runs, never lost by a broken file."""

import json
import os
import time

import pytest
import yaml

from engine_exporter.api_keys import ApiKeys, add_key, parse_key_file
from engine_exporter.errors import ExporterError
from engine_exporter.identity import NOBODY


def touched(path, seconds):
    os.utime(path, (seconds, seconds))


def test_a_known_key_says_team_and_app_and_a_strange_one_its_hash(tmp_path):
    path = tmp_path / "keys.yaml"
    add_key(path, "sk-1", "search", "ranker", "made for the tests")
    keys = ApiKeys(path)
    known, strange = keys.identify(b"sk-1"), keys.identify(b"sk-2")
    assert (known.team, known.app, len(known.api_key_hash)) == ("search", "ranker", 16)
    assert strange.team is None and strange.api_key_hash not in (None, known.api_key_hash)
    assert keys.identify(b"") == NOBODY
    assert "sk-1" not in path.read_text()


def test_without_a_file_nobody_is_known():
    assert ApiKeys(None).identify(b"sk-1") == NOBODY


def test_the_file_is_read_again_when_it_changes_and_never_by_a_request(tmp_path):
    path = tmp_path / "keys.yaml"
    add_key(path, "sk-1", "search")
    touched(path, 100)
    keys = ApiKeys(path)
    add_key(path, "sk-2", "chat")
    touched(path, 200)
    assert keys.identify(b"sk-2").team is None
    keys.refresh()
    assert keys.identify(b"sk-2").team == "chat"
    assert keys.identify(b"sk-1").team == "search"


def test_a_thread_of_its_own_sees_the_change(tmp_path):
    path = tmp_path / "keys.yaml"
    keys = ApiKeys(path)
    keys.watch(interval_seconds=0.01)
    add_key(path, "sk-1", "search")
    deadline = time.monotonic() + 60
    while keys.identify(b"sk-1").team is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert keys.identify(b"sk-1").team == "search"
    keys.stop()


def test_a_team_that_changes_is_seen_although_the_key_was_seen_before(tmp_path):
    path = tmp_path / "keys.yaml"
    add_key(path, "sk-1", "search")
    keys = ApiKeys(path)
    assert keys.identify(b"sk-1").team == "search"
    path.write_text(path.read_text().replace("team: search", "team: ranking"))
    keys.refresh()
    assert keys.identify(b"sk-1").team == "ranking"


def test_a_file_that_breaks_or_goes_leaves_the_last_good_map(tmp_path, caplog):
    path = tmp_path / "keys.yaml"
    add_key(path, "sk-1", "search")
    keys = ApiKeys(path)
    path.write_text("keys: [")
    keys.refresh()
    assert keys.identify(b"sk-1").team == "search"
    assert "not an API-key file" in keys.problem and "last good map" in caplog.text
    path.unlink()
    keys.refresh()
    assert keys.identify(b"sk-1").team == "search"
    add_key(path, "sk-1", "chat")
    keys.refresh()
    assert keys.identify(b"sk-1").team == "chat"
    assert keys.problem is None


def test_a_file_that_is_not_there_yet_is_found_later(tmp_path):
    path = tmp_path / "keys.yaml"
    keys = ApiKeys(path)
    assert keys.identify(b"sk-1") == NOBODY
    add_key(path, "sk-1", "search")
    keys.refresh()
    assert keys.identify(b"sk-1").team == "search"


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_keys_are_added_one_by_one_in_the_files_own_format(tmp_path, suffix):
    path = tmp_path / f"keys.{suffix}"
    for number in range(3):
        add_key(path, f"sk-{number}", "team")
    read = json.loads if suffix == "json" else yaml.safe_load
    assert len(read(path.read_text())["keys"]) == 3
    assert len(parse_key_file(path.read_text(), "x").keys) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_belongs_to_one_team(tmp_path):
    path = tmp_path / "keys.yaml"
    add_key(path, "sk-1", "search")
    with pytest.raises(ExporterError, match="already"):
        add_key(path, "sk-1", "chat")


def test_the_same_key_hashes_differently_in_another_file(tmp_path):
    hashes = [add_key(tmp_path / name, "sk-1", "search").hash for name in ("a.yaml", "b.yaml")]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "not an API-key file"),
        ("salt: zz", "salt"),
        ("salt: 00112233445566778899\nkeys: [{hash: abc, team: x}]", "keys.0.hash"),
        ("salt: 00112233445566778899\nkeys: [{key: sk-1, team: x}]", "keys.0.key"),
        ('{"salt": ', "not an API-key file"),
    ],
)
def test_a_wrong_file_says_where_and_how_to_make_one(text, says):
    with pytest.raises(ExporterError, match=says) as caught:
        parse_key_file(text, "keys.yaml")
    assert "hash-key" in str(caught.value)


def test_keys_that_somebody_guesses_do_not_fill_the_memory(tmp_path):
    path = tmp_path / "keys.yaml"
    add_key(path, "sk-1", "search")
    keys = ApiKeys(path)
    for number in range(100):
        keys.identify(f"guess-{number}".encode())
    keys.identify(b"sk-1")
    assert len(keys.reading.seen) == 1
