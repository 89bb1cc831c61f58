"""What is acknowledged is on disk, and only whole records come back."""

import resource
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import PermanentError, RetryableError
from collector.spool import Spool
from collector.spool_records import MAGIC, Position, Record, decode_records, encode_record, next_record_start

RECORDS = st.lists(
    st.builds(
        Record,
        kind=st.sampled_from(["traces", "metrics", "rows", "scrape"]),
        encoding=st.sampled_from(["identity", "gzip"]),
        received_us=st.integers(0, 2**52),
        meta=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
        body=st.binary(max_size=200),
    ),
    max_size=6,
)


START = Position(0, 0)


def record(number: int, size: int = 10) -> Record:
    return Record("traces", "identity", number, {}, bytes([number % 256]) * size)


def spool_in(folder, *, landed=START, limit_bytes=10**9, hand_on=lambda records: None, **more) -> Spool:
    return Spool(folder, landed=landed, limit_bytes=limit_bytes, hand_on=hand_on, **more)


def filled(folder, records, **more) -> list[Position]:
    spool = spool_in(folder, **more)
    spool.start()
    ends = [spool.append(one).result(10) for one in records]
    spool.close()
    return ends


@given(records=RECORDS, cut=st.integers(0, 2000))
def test_a_torn_tail_gives_back_exactly_the_whole_records_before_it(records, cut):
    framed = [encode_record(one) for one in records]
    segment = MAGIC + b"".join(framed)
    kept = segment[: max(0, len(segment) - cut)]
    whole, end = [], len(MAGIC)
    for one, frame in zip(records, framed, strict=True):
        end += len(frame)
        if end <= len(kept):
            whole.append(one)
    assert [found for found, _ in decode_records(kept)] == whole


@given(records=RECORDS.filter(bool), data=st.data())
def test_a_flipped_bit_never_gives_back_a_record_that_was_not_written(records, data):
    segment = bytearray(MAGIC + b"".join(encode_record(one) for one in records))
    position = data.draw(st.integers(len(MAGIC), len(segment) - 1))
    segment[position] ^= 1 << data.draw(st.integers(0, 7))
    found = [one for one, _ in decode_records(bytes(segment))]
    assert found == records[: len(found)]
    assert len(found) < len(records)


@given(tail=st.binary(max_size=100))
def test_rubbish_after_the_last_record_is_no_record(tail):
    segment = MAGIC + encode_record(record(1)) + tail
    assert [found for found, _ in decode_records(segment)][:1] == [record(1)]


def test_records_after_a_damaged_one_are_found_again():
    frames = [encode_record(record(number)) for number in range(3)]
    damaged = MAGIC + frames[0] + b"\0" * len(frames[1]) + frames[2]
    start = next_record_start(damaged, len(MAGIC) + len(frames[0]))
    assert start == len(damaged) - len(frames[2])
    assert [found for found, _ in decode_records(damaged, start)] == [record(2)]


def test_what_was_appended_is_replayed_after_a_restart_in_order(tmp_path):
    filled(tmp_path, [record(number) for number in range(20)])
    assert [one.record for one in spool_in(tmp_path).replay()] == [record(number) for number in range(20)]


def test_what_the_database_has_is_not_replayed(tmp_path):
    ends = filled(tmp_path, [record(number) for number in range(5)])
    assert [one.record for one in spool_in(tmp_path, landed=ends[2]).replay()] == [record(3), record(4)]


def test_a_torn_tail_is_cut_off_the_file_and_later_records_land_in_a_new_segment(tmp_path):
    ends = filled(tmp_path, [record(1), record(2)])
    (segment,) = tmp_path.glob("*.spool")
    with segment.open("ab") as file:
        file.write(encode_record(record(3))[:-1])
    spool = spool_in(tmp_path)
    assert [one.record for one in spool.replay()] == [record(1), record(2)]
    assert segment.stat().st_size == ends[-1].offset_bytes
    spool.start()
    assert spool.append(record(4)).result(10).segment == ends[-1].segment + 1
    spool.close()
    assert [one.record for one in spool_in(tmp_path).replay()] == [record(1), record(2), record(4)]


def test_the_damaged_middle_of_a_segment_does_not_hide_what_follows(tmp_path):
    ends = filled(tmp_path, [record(1), record(2), record(3)])
    (segment,) = tmp_path.glob("*.spool")
    with segment.open("r+b") as file:
        file.seek(ends[0].offset_bytes + 20)
        file.write(b"\xff\xff")
    assert [one.record for one in spool_in(tmp_path).replay()] == [record(1), record(3)]


def test_records_are_handed_on_in_order_once_they_are_durable(tmp_path):
    handed = []
    spool = spool_in(tmp_path, hand_on=handed.extend)
    spool.start()
    threads = [threading.Thread(target=lambda n=n: spool.append(record(n)).result(10)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.close()
    assert [one.end for one in handed] == sorted(one.end for one in handed)
    assert [one.record for one in spool_in(tmp_path).replay()] == [one.record for one in handed]


def test_a_record_can_be_read_again_from_its_place(tmp_path):
    handed = []
    filled(tmp_path, [record(n, size=n) for n in range(1, 9)], hand_on=handed.extend)
    spool = spool_in(tmp_path)
    assert [spool.read(one) for one in handed] == [one.record for one in handed]


def test_a_record_that_is_damaged_when_it_is_read_again_is_no_record(tmp_path):
    handed = []
    filled(tmp_path, [record(1)], hand_on=handed.extend)
    (segment,) = tmp_path.glob("*.spool")
    with segment.open("r+b") as file:
        file.seek(handed[0].end.offset_bytes - 1)
        file.write(b"\xff")
    with pytest.raises(PermanentError, match="damaged"):
        spool_in(tmp_path).read(handed[0])


def test_a_full_spool_refuses_until_something_has_landed(tmp_path):
    spool = spool_in(tmp_path, limit_bytes=1000, segment_bytes=100)
    spool.start()
    end = spool.append(record(1, size=900)).result(10)
    with pytest.raises(RetryableError, match="spool_limit_bytes"):
        spool.append(record(2, size=200))
    spool.landed(end)
    spool.append(record(2, size=200)).result(10)
    spool.close()


def test_a_full_disk_refuses(tmp_path):
    spool = spool_in(tmp_path, min_free_bytes=2**62)
    with pytest.raises(RetryableError, match="free"):
        spool.append(record(1))


def test_landed_segments_are_deleted(tmp_path):
    spool = spool_in(tmp_path, segment_bytes=50)
    spool.start()
    ends = [spool.append(record(n, size=100)).result(10) for n in range(4)]
    assert len(list(tmp_path.glob("*.spool"))) == 4
    spool.landed(ends[2])
    assert [int(path.stem.split("-")[1]) for path in sorted(tmp_path.glob("*.spool"))] == [
        ends[2].segment,
        ends[3].segment,
    ]
    spool.close()


def test_a_closed_spool_refuses(tmp_path):
    spool = spool_in(tmp_path)
    spool.start()
    spool.close()
    with pytest.raises(RetryableError, match="stopping"):
        spool.append(record(1))


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from collector.errors import RetryableError
from collector.spool import Spool
from collector.spool_records import Position, Record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(Path(sys.argv[1]), landed=Position(0, 0), limit_bytes=10**9, hand_on=lambda records: None)
spool.start()
body = bytes(1000)
spool.append(Record("traces", "identity", 1, {}, body)).result(10)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
try:
    spool.append(Record("traces", "identity", 2, {}, body)).result(10)
    print("acknowledged")
except RetryableError as error:
    print("refused", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append(Record("traces", "identity", 3, {}, body)).result(10)
spool.close()
"""


def test_a_write_that_fails_halfway_is_refused_and_leaves_no_torn_record(tmp_path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused the spool in")
    found = [one.record.received_us for one in spool_in(tmp_path).replay()]
    assert found == [1, 3]


def test_a_sender_that_goes_away_before_the_answer_stops_nobody_else(tmp_path):
    handed = []
    spool = spool_in(tmp_path, hand_on=handed.extend)
    waiting = [spool.append(record(number)) for number in range(3)]
    assert not waiting[1].cancel()
    spool.start()
    assert [one.result(10).segment for one in waiting] == [1, 1, 1]
    assert spool.append(record(3)).result(10).segment == 1
    spool.close()
    assert [one.record.received_us for one in handed] == [0, 1, 2, 3]


def test_a_spool_that_breaks_off_says_so_rather_than_fall_silent(tmp_path):
    failed, failures = threading.Event(), []

    def broken(records):
        raise ZeroDivisionError("a defect downstream")

    def told(error):
        failures.append(repr(error))
        failed.set()

    spool = spool_in(tmp_path, hand_on=broken, on_failure=told)
    spool.start()
    answer = spool.append(record(1))
    assert failed.wait(10)
    assert failures == ["ZeroDivisionError('a defect downstream')"]
    assert not answer.done()
