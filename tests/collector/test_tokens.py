"""Tokens open doors by right, expire, are read again, and have quotas."""

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from collector import tokens as tokens_module
from collector.errors import PermanentError
from collector.quotas import Bucket, QuotaError
from collector.tokens import ForbiddenError, Tokens, UnknownTokenError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def entry(word, **more):
    return {"name": f"holder of {word}", "sha256": hashlib.sha256(word.encode()).hexdigest(), **more}


def write(file, *entries):
    file.write_text(yaml.safe_dump({"tokens": list(entries)}))
    os.utime(file, ns=(0, write.count))
    write.count += 1


write.count = 1


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens.yaml"


def bearer(word):
    return f"Bearer {word}"


def test_each_right_is_a_door_of_its_own(file):
    write(file, entry("reads", may=["read"]), entry("all", may=["read", "write", "admin"]), entry("usual"))
    tokens = Tokens(file)
    opened = {}
    for word in ("reads", "all", "usual"):
        for right in ("read", "write", "admin"):
            try:
                tokens.check(bearer(word), right)
            except ForbiddenError as error:
                assert f"may not {right}" in str(error)
            else:
                opened.setdefault(word, []).append(right)
    assert opened == {"reads": ["read"], "all": ["read", "write", "admin"], "usual": ["read", "write"]}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic reads", "Bearer unknown", "Bearer \udcff"])
def test_what_is_no_good_token_is_turned_away(file, header):
    write(file, entry("reads"))
    with pytest.raises(UnknownTokenError):
        Tokens(file).check(header, "read")


def test_a_token_opens_until_it_expires(file):
    write(file, entry("short", expires_at=NOON.isoformat()))
    now = [NOON - timedelta(seconds=1)]
    tokens = Tokens(file, now=lambda: now[0])
    assert tokens.check(bearer("short"), "read").name == "holder of short"
    now[0] = NOON
    with pytest.raises(UnknownTokenError, match="expired"):
        tokens.check(bearer("short"), "read")


def test_a_token_taken_out_of_the_file_is_revoked(file):
    clock = Clock()
    write(file, entry("one"), entry("two"))
    tokens = Tokens(file, clock=clock)
    write(file, entry("two"))
    assert tokens.check(bearer("one"), "read")  # not looked at again yet
    clock.seconds = 3
    with pytest.raises(UnknownTokenError):
        tokens.check(bearer("one"), "read")
    assert tokens.check(bearer("two"), "read")


@pytest.mark.parametrize("broken", ["tokens: [", "tokens:", "", "tokens: [{expires_at: 2027-13-01}]", "\0"])
def test_a_file_that_breaks_leaves_the_last_good_one_in_force(file, broken):
    clock = Clock()
    write(file, entry("one"))
    tokens = Tokens(file, clock=clock)
    file.write_text(broken)
    clock.seconds = 3
    assert tokens.check(bearer("one"), "read")
    file.unlink()
    clock.seconds = 6
    assert tokens.check(bearer("one"), "read")
    write(file, entry("new"))
    clock.seconds = 9
    assert tokens.check(bearer("new"), "read")
    with pytest.raises(UnknownTokenError):
        tokens.check(bearer("one"), "read")


def test_a_file_that_could_not_be_read_once_is_read_again(file, monkeypatch, caplog):
    clock = Clock()
    write(file, entry("one"), entry("two"))
    tokens = Tokens(file, clock=clock)
    write(file, entry("two"))

    def refuse(*_args, **_how):
        raise PermissionError("no")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", refuse)
        for clock.seconds in (3.0, 6.0):
            assert tokens.check(bearer("one"), "read")
    assert [one.message for one in caplog.records] == ["tokens_file_broken"] * 2
    clock.seconds = 9
    with pytest.raises(UnknownTokenError):
        tokens.check(bearer("one"), "read")


def test_another_file_of_the_same_time_and_size_is_read(file, tmp_path):
    clock = Clock()
    write(file, entry("one"))
    os.utime(file, ns=(0, 0))
    tokens = Tokens(file, clock=clock)
    other = tmp_path / "other.yaml"
    write(other, entry("two"))
    os.utime(other, ns=(0, 0))
    other.rename(file)
    clock.seconds = 3
    assert tokens.check(bearer("two"), "read")


def test_what_is_written_while_the_file_is_read_at_the_start_is_read_again(file, monkeypatch):
    clock = Clock()
    write(file, entry("one"))
    read = tokens_module.read_tokens

    def read_and_write(path):
        found = read(path)
        write(path, entry("two"))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(tokens_module, "read_tokens", read_and_write)
        tokens = Tokens(file, clock=clock)
    clock.seconds = 3
    with pytest.raises(UnknownTokenError):
        tokens.check(bearer("one"), "read")


def test_the_last_token_is_revoked_by_an_empty_list(file):
    clock = Clock()
    write(file, entry("one"))
    tokens = Tokens(file, clock=clock)
    write(file)
    clock.seconds = 3
    with pytest.raises(UnknownTokenError):
        tokens.check(bearer("one"), "read")


@pytest.mark.parametrize(
    "text",
    ["tokens: [{name: a, sha256: plain-secret}]", "tokens:\n  - name: a\n    sha256: [plain-secret\n", "plain-secret"],
)
def test_what_stands_in_the_file_is_not_told(file, text):
    file.write_text(text)
    with pytest.raises(PermanentError, match="is not a tokens file") as refused:
        Tokens(file)
    assert "plain-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([entry("a", team="x", may=["admin"])], "administers"),
        ([entry("a"), {**entry("a"), "name": "b"}], "more than once"),
        ([entry("a", may=["everything"])], "read"),
        ([entry("a", expires_at="2026-01-01T00:00:00")], "timezone"),
        ([entry("a", queries_per_minute=0)], "greater than 0"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(file, entries, says):
    write(file, *entries)
    with pytest.raises(PermanentError, match=says):
        Tokens(file)


def test_a_quota_of_bytes_fills_again_with_time(file):
    clock = Clock()
    write(file, entry("sender", write_bytes_per_second=100))
    tokens = Tokens(file, clock=clock)
    tokens.check(bearer("sender"), "write").spend_bytes(1000)  # ten seconds' worth at once
    with pytest.raises(QuotaError) as refused:
        tokens.check(bearer("sender"), "write").spend_bytes(500)
    assert refused.value.retry_after_seconds == 6
    clock.seconds = 5
    tokens.check(bearer("sender"), "write").spend_bytes(500)


def test_a_quota_outlives_a_change_of_other_tokens(file):
    clock = Clock()
    write(file, entry("sender", queries_per_minute=1))
    tokens = Tokens(file, clock=clock)
    tokens.check(bearer("sender"), "read").spend_query()
    write(file, entry("sender", queries_per_minute=1), entry("other"))
    clock.seconds = 3
    with pytest.raises(QuotaError):
        tokens.check(bearer("sender"), "read").spend_query()


def test_what_is_larger_than_a_bucket_gets_through_a_full_one_and_leaves_a_debt():
    clock = Clock()
    bucket = Bucket(10, burst_seconds=1, clock=clock)
    assert bucket.take(100) == 0
    assert bucket.take(1) == pytest.approx(9.1)
    clock.seconds = 9.1
    assert bucket.take(1) == 0
