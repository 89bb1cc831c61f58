"""The audit log: whole lines, rotated by size, and what can't be written is told."""

import json
import os
import threading
from pathlib import Path

import pytest

from collector.audit import FILES, Audit, LinesFile, shortened
from collector.tokens import ANYBODY


def lines_of(folder: Path) -> list[str]:
    """All lines, the oldest first."""
    files = sorted(folder.glob("audit.jsonl*"), key=lambda file: file.name, reverse=True)
    return [line for file in files for line in file.read_text().splitlines()]


def test_the_newest_lines_stay_whole_and_in_order_within_the_limit(tmp_path: Path) -> None:
    log = Audit(tmp_path, 8_000)
    for number in range(300):
        log.write(ANYBODY, "query", "127.0.0.1", sql=f"SELECT {number}")
    log.close()
    files = list(tmp_path.iterdir())
    assert len(files) == FILES
    assert sum(file.stat().st_size for file in files) <= 8_000
    told = [json.loads(line)["sql"] for line in lines_of(tmp_path)]
    assert told == [f"SELECT {number}" for number in range(300 - len(told), 300)]
    assert len(told) > 30


def test_a_line_that_is_larger_than_the_file_may_be_is_written_all_the_same(tmp_path: Path) -> None:
    log = Audit(tmp_path, 400)
    for letter in "abcdef":
        log.write(ANYBODY, "query", None, sql=letter * 300)
    log.close()
    assert [json.loads(line)["sql"][0] for line in lines_of(tmp_path)] == list("cdef")


def test_a_file_that_is_there_is_gone_on_with(tmp_path: Path) -> None:
    for number in range(2):
        log = Audit(tmp_path, 10_000)
        log.write(ANYBODY, "query", None, number=number)
        log.close()
    assert [json.loads(line)["number"] for line in lines_of(tmp_path)] == [0, 1]


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x1c", "\x85", "\u2028", "\u2029"])
def test_what_is_told_ends_no_line(tmp_path: Path, end: str) -> None:
    log = Audit(tmp_path, 10_000)
    log.write(ANYBODY, "query", None, sql=f'SELECT 1 -- ü{end}{{"who": "somebody else"}}')
    log.close()
    (line,) = lines_of(tmp_path)
    assert json.loads(line)["sql"] == f'SELECT 1 -- ü{end}{{"who": "somebody else"}}'


def test_lines_of_many_threads_are_all_there_and_whole(tmp_path: Path) -> None:
    log = Audit(tmp_path, 10**7)

    def write(thread: int) -> None:
        for number in range(200):
            log.write(ANYBODY, "query", None, thread=thread, number=number, sql="x" * 500)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    told = [(line["thread"], line["number"]) for line in map(json.loads, lines_of(tmp_path))]
    assert sorted(told) == [(thread, number) for thread in range(8) for number in range(200)]


def test_a_full_disk_is_counted_and_the_query_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "audit.jsonl").symlink_to("/dev/full")
    failures: list[int] = []
    log = Audit(tmp_path, 10_000, lambda: failures.append(1))
    log.write(ANYBODY, "query", None)
    log.close()
    assert failures == [1]
    assert "audit_failed" in caplog.text


def test_a_line_that_only_half_fits_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LinesFile(tmp_path / "lines", 10_000)
    file.write(b"whole\n")
    real_write = os.write
    monkeypatch.setattr("collector.audit.os.write", lambda number, line: real_write(number, line[:4]))
    with pytest.raises(OSError, match="no space for a line of 11 bytes"):
        file.write(b"too longer\n")
    monkeypatch.undo()
    file.write(b"next\n")
    file.close()
    assert (tmp_path / "lines").read_text() == "whole\nnext\n"


def test_where_no_new_file_can_be_made_lines_go_on_where_they_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = LinesFile(tmp_path / "lines", 30)
    for line in (b"first line\n", b"second line\n"):
        file.write(line)
    monkeypatch.setattr("collector.audit.os.open", refused)
    for line in (b"third line\n", b"fourth line\n"):
        file.write(line)
    monkeypatch.undo()
    whole = "first line\nsecond line\nthird line\nfourth line\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"lines": whole}
    assert caplog.text.count("audit_not_rotated") == 1
    for line in (b"fifth line\n", b"sixth line\n"):
        file.write(line)
    file.close()
    assert (tmp_path / "lines.1").read_text() == whole
    assert (tmp_path / "lines").read_text() == "fifth line\nsixth line\n"


def test_where_an_older_file_can_t_be_replaced_no_line_is_lost_and_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "lines.3").mkdir()
    file = LinesFile(tmp_path / "lines", 30)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(100):
        file.write(b"line %03d\n" % number)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    file.close()
    read = [path.read_text() for name in ("lines.2", "lines.1", "lines") if (path := tmp_path / name).exists()]
    assert "".join(read).split() == [word for number in range(100) for word in ("line", f"{number:03d}")]
    assert not (tmp_path / "lines.new").exists()


def refused(*given: object) -> int:
    """Fail as a process without a free descriptor does."""
    raise OSError("too many open files")


def test_a_line_after_the_end_is_counted_and_goes_nowhere(tmp_path: Path) -> None:
    failures: list[int] = []
    log = Audit(tmp_path, 10_000, lambda: failures.append(1))
    log.close()
    for _ in range(2):
        log.write(ANYBODY, "query", None, sql="x" * 10_000)
    assert failures == [1, 1]
    assert [file.stat().st_size for file in tmp_path.iterdir()] == [0]


def test_text_that_is_no_utf_8_is_a_line_of_json_too(tmp_path: Path) -> None:
    log = Audit(tmp_path, 10_000)
    log.write(ANYBODY, "query", None, **shortened("SELECT '\udc80 ü'"))
    log.close()
    assert json.loads(lines_of(tmp_path)[0])["sql"] == "SELECT '\udc80 ü'"
