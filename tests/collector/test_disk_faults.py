"""Disks that fail, fill up or spoil what they hold: the landing waits, and nothing acknowledged is lost."""

import base64
import json
import random
from concurrent.futures import Future

import pytest

from collector.bodies import decode_record_body
from collector.config import CollectorConfig
from collector.landing_batches import Handed
from collector.spool_records import MAGIC, Record, encode_record
from collector.testing import span_message, traces_body
from tests.collector.test_landing import SCRAPE, landing_in, retries, run, traces, until

GARBAGE = Record("traces", "identity", 1_790_000_100_000_000, {}, b"garbage")


def config_in(data_dir):
    return CollectorConfig(
        data_dir=data_dir, trace_decoder="reference", min_free_bytes=0, landing_linger_seconds=0.1,
        duckdb_threads=1, duckdb_memory_bytes=256 * 2**20,
    )  # fmt: skip


def spooled(number):
    """A record of one span, the same at every call, that no disk can make smaller."""
    text = random.Random(number).randbytes(4000).hex()
    return Record("traces", "identity", 1_790_000_100_000_000, {}, traces_body(span_message(number, {"text": text})))


def letters_in(folder):
    files = sorted((folder / "dead_letters").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def spans(store):
    return store.query("SELECT list(span_id ORDER BY span_id) AS ids FROM spans")["ids"][0].as_py()


def test_dead_letters_that_cannot_be_written_hold_up_the_landing_until_they_can(tmp_path):
    blocked = tmp_path / "dead_letters"
    blocked.write_text("a file where the folder should be")
    with landing_in(tmp_path, linger_seconds=0) as (spool, landing, store):
        spool.append(GARBAGE, Handed(None)).result(10)
        end = spool.append(SCRAPE).result(10)
        landing.start()
        until(lambda: retries(landing) > 0)
        assert store.progress() < end
        blocked.unlink()
        until(lambda: store.progress() == end)
        spool.close()
        landing.close()
    assert [letter["kind"] for letter in letters_in(tmp_path)] == ["traces"]


def test_a_landing_that_stops_before_its_dead_letters_are_written_leaves_them_to_the_next_start(tmp_path):
    blocked = tmp_path / "dead_letters"
    blocked.write_text("a file where the folder should be")
    with landing_in(tmp_path) as (spool, landing, store):
        end = spool.append(GARBAGE).result(10)
        run(spool, landing)
        assert store.progress() < end
    blocked.unlink()
    with landing_in(tmp_path) as (spool, landing, store):
        run(spool, landing, spool.replay())
        assert store.progress() == end
    assert len(letters_in(tmp_path)) == 1


def test_a_record_whose_file_cannot_be_opened_for_a_while_lands_afterwards(tmp_path):
    with landing_in(tmp_path, linger_seconds=0, memory_bytes=0) as (spool, landing, store):
        end = spool.append(traces(1), Handed(decode_record_body(traces(1), 10**6))).result(10)
        (segment,) = (tmp_path / "spool").glob("*.spool")
        segment.rename(tmp_path / "away")
        segment.mkdir()
        landing.start()
        until(lambda: retries(landing) > 0)
        segment.rmdir()
        (tmp_path / "away").rename(segment)
        until(lambda: store.progress() == end)
        spool.close()
        landing.close()
        assert spans(store) == [f"{1:016x}"]
    assert letters_in(tmp_path) == []


def test_what_is_left_of_a_record_that_was_spoiled_on_disk_is_a_dead_letter(tmp_path):
    with landing_in(tmp_path, memory_bytes=0) as (spool, landing, store):
        waiting = {1: Future(), 2: Future()}
        for number, landed in waiting.items():
            rows = decode_record_body(traces(number), 10**6)
            end = spool.append(traces(number), Handed(rows, landed)).result(10)
        (segment,) = (tmp_path / "spool").glob("*.spool")
        content = segment.read_bytes()
        segment.write_bytes(content[:-1] + b"\xff")
        run(spool, landing)
        assert waiting[1].result(0) == 1
        assert "send the rows again" in str(waiting[2].exception(0))
        assert spans(store) == [f"{1:016x}"]
        assert store.progress() == end
    (letter,) = letters_in(tmp_path)
    assert letter["kind"] == "damaged"
    assert letter["item_base64"] == encoded(encode_record(traces(2))[:-1] + b"\xff")


def encoded(content):
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("position", [0, len(MAGIC) + 3, -1], ids=["header", "first record", "last record"])
def test_a_flipped_bit_in_a_segment_costs_the_record_it_hits_and_its_bytes_are_kept(tmp_path, position):
    with landing_in(tmp_path) as (spool, _, store):
        for number in range(1, 51):
            end = spool.append(traces(number)).result(10)
        spool.close()
    (segment,) = (tmp_path / "spool").glob("*.spool")
    content = bytearray(segment.read_bytes())
    content[position] ^= 4
    segment.write_bytes(content)
    hit = {0: None, -1: 50}.get(position, 1)
    with landing_in(tmp_path) as (spool, landing, store):
        run(spool, landing, spool.replay())
        assert spans(store) == [f"{number:016x}" for number in range(1, 51) if number != hit]
        assert position == -1 or store.progress() == end
    (letter,) = letters_in(tmp_path)
    assert letter["kind"] == "damaged"
    kept = bytes(content[: len(MAGIC)]) if hit is None else encode_record(traces(hit))
    assert len(letter["item_base64"]) == len(encoded(kept))
