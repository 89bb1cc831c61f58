"""What is acknowledged is on disk, and only whole records come back."""

import resource
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import RetryableError
from collector.spool import Spool
from collector.spool_records import (
    MAGIC,
    DamagedRecordError,
    Position,
    Record,
    decode_records,
    encode_record,
    first_record_start,
    next_record_start,
    walk_segment,
)

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
    ends = [spool.append(one).result(60) for one in records]
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


@given(records=RECORDS.filter(bool), data=st.data())
def test_a_flipped_bit_anywhere_costs_one_record_at_most_and_every_byte_is_accounted_for(records, data):
    segment = bytearray(MAGIC + b"".join(encode_record(one) for one in records))
    position = data.draw(st.integers(0, len(segment) - 1))
    segment[position] ^= 1 << data.draw(st.integers(0, 7))
    content = bytes(segment)
    walked = list(walk_segment(content))
    found = [one for one, _, _ in walked if one is not None]
    assert len(found) == len(records) - (position >= len(MAGIC))
    assert [start for _, start, _ in walked] == [first_record_start(content), *(end for _, _, end in walked[:-1])]
    assert walked[-1][2] == len(content)


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
    assert spool.append(record(4)).result(60).segment == ends[-1].segment + 1
    spool.close()
    assert [one.record for one in spool_in(tmp_path).replay()] == [record(1), record(2), record(4)]


def test_the_damaged_middle_of_a_segment_does_not_hide_what_follows(tmp_path):
    ends = filled(tmp_path, [record(1), record(2), record(3)])
    (segment,) = tmp_path.glob("*.spool")
    with segment.open("r+b") as file:
        file.seek(ends[0].offset_bytes + 20)
        file.write(b"\xff\xff")
    assert [one.record for one in spool_in(tmp_path).replay()] == [record(1), record(3)]


@pytest.mark.parametrize(
    "header", [b"Fleetmeter-spool-1\n", MAGIC[:7], b""], ids=["flipped", "written in part", "gone"]
)
def test_a_damaged_header_costs_no_record(tmp_path, header):
    filled(tmp_path, [record(number) for number in range(50)])
    (segment,) = tmp_path.glob("*.spool")
    segment.write_bytes(header + segment.read_bytes()[len(MAGIC) :])
    assert [one.record for one in spool_in(tmp_path).replay()] == [record(number) for number in range(50)]


def test_damaged_bytes_are_told_before_they_are_cut(tmp_path):
    ends = filled(tmp_path, [record(1), record(2), record(3)])
    (segment,) = tmp_path.glob("*.spool")
    content = bytearray(segment.read_bytes())
    for end in (ends[0], ends[2]):
        content[end.offset_bytes - 1] ^= 1
    segment.write_bytes(content)
    told = []
    assert [one.record for one in spool_in(tmp_path, on_damage=told.append).replay()] == [record(2)]
    assert [(one.start_bytes, one.end) for one in told] == [
        (len(MAGIC), ends[0]),
        (ends[1].offset_bytes, ends[2]),
    ]
    assert (
        b"".join(one.content for one in told)
        == content[len(MAGIC) : ends[0].offset_bytes] + content[ends[1].offset_bytes :]
    )


def test_a_slow_disk_delays_answers_and_a_full_queue_behind_it_is_refused(tmp_path):
    moving, syncing = threading.Event(), threading.Event()

    def slow(file):
        syncing.set()
        assert moving.wait(60)

    spool = spool_in(tmp_path, limit_bytes=2000, sync=slow)
    spool.start()
    waiting = [spool.append(record(1, size=900))]
    assert syncing.wait(60)
    waiting.append(spool.append(record(2, size=900)))
    with pytest.raises(RetryableError, match="spool_limit_bytes"):
        spool.append(record(3, size=900))
    assert not any(one.done() for one in waiting)
    moving.set()
    assert [one.result(60).segment for one in waiting] == [1, 1]
    spool.close()
    assert [one.record for one in spool_in(tmp_path).replay()] == [record(1, size=900), record(2, size=900)]


def test_a_sync_that_fails_is_no_acknowledgement_and_the_next_record_has_a_segment_of_its_own(tmp_path):
    import errno
    import os

    failures = [OSError(errno.EIO, "the disk fails")]

    def failing(file):
        if failures:
            raise failures.pop()
        os.fsync(file)

    spool = spool_in(tmp_path, sync=failing)
    spool.start()
    with pytest.raises(RetryableError, match="the disk fails"):
        spool.append(record(1)).result(60)
    assert spool.append(record(2)).result(60).segment == 2
    spool.close()
    assert [one.record for one in spool_in(tmp_path).replay()] == [record(2)]


def test_records_are_handed_on_in_order_once_they_are_durable(tmp_path):
    handed = []
    spool = spool_in(tmp_path, hand_on=handed.extend)
    spool.start()
    threads = [threading.Thread(target=lambda n=n: spool.append(record(n)).result(60)) for n in range(50)]
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
    with pytest.raises(DamagedRecordError, match="damaged") as found:
        spool_in(tmp_path).read(handed[0])
    assert found.value.content == encode_record(record(1))[:-1] + b"\xff"
    segment.unlink()
    with pytest.raises(DamagedRecordError, match="gone"):
        spool_in(tmp_path).read(handed[0])


def test_a_record_that_cannot_be_read_just_now_is_not_lost(tmp_path):
    handed = []
    filled(tmp_path, [record(1)], hand_on=handed.extend)
    (segment,) = tmp_path.glob("*.spool")
    segment.rename(tmp_path / "away")
    segment.mkdir()
    with pytest.raises(RetryableError, match="can't be read"):
        spool_in(tmp_path).read(handed[0])
    segment.rmdir()
    (tmp_path / "away").rename(segment)
    assert spool_in(tmp_path).read(handed[0]) == record(1)


def test_a_full_spool_refuses_until_something_has_landed(tmp_path):
    spool = spool_in(tmp_path, limit_bytes=1000, segment_bytes=100)
    spool.start()
    end = spool.append(record(1, size=900)).result(60)
    with pytest.raises(RetryableError, match="spool_limit_bytes"):
        spool.append(record(2, size=200))
    spool.landed(end)
    spool.append(record(2, size=200)).result(60)
    spool.close()


def test_a_full_disk_refuses(tmp_path):
    spool = spool_in(tmp_path, min_free_bytes=2**62)
    with pytest.raises(RetryableError, match="free"):
        spool.append(record(1))


def test_landed_segments_are_deleted(tmp_path):
    spool = spool_in(tmp_path, segment_bytes=50)
    spool.start()
    ends = [spool.append(record(n, size=100)).result(60) for n in range(4)]
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
spool.append(Record("traces", "identity", 1, {}, body)).result(60)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
try:
    spool.append(Record("traces", "identity", 2, {}, body)).result(60)
    print("acknowledged")
except RetryableError as error:
    print("refused", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append(Record("traces", "identity", 3, {}, body)).result(60)
spool.close()
"""


def test_a_write_that_fails_halfway_is_refused_and_leaves_no_torn_record(tmp_path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused the spool in")
    found = [one.record.received_us for one in spool_in(tmp_path).replay()]
    assert found == [1, 3]


FULL_AT_A_SEGMENT = """
import resource, signal, sys
from pathlib import Path
from collector.errors import RetryableError
from collector.spool import Spool
from collector.spool_records import Position, Record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, hand_on = Path(sys.argv[1]), lambda records: None
spool = Spool(folder, landed=Position(0, 0), limit_bytes=10**9, hand_on=hand_on, segment_bytes=100)
spool.start()
spool.append(Record("traces", "identity", 1, {}, bytes(1000))).result(60)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
try:
    spool.append(Record("traces", "identity", 2, {}, bytes(1000))).result(60)
except RetryableError as error:
    print("refused", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append(Record("traces", "identity", 3, {}, bytes(1000))).result(60)
spool.close()
"""


def test_a_header_that_is_written_in_part_leaves_an_empty_segment(tmp_path):
    command = [sys.executable, "-c", FULL_AT_A_SEGMENT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused the spool in")
    assert [path.stat().st_size > 0 for path in sorted(tmp_path.glob("*.spool"))] == [True, False, True]
    assert [one.record.received_us for one in spool_in(tmp_path).replay()] == [1, 3]


def test_a_sender_that_goes_away_before_the_answer_stops_nobody_else(tmp_path):
    handed = []
    spool = spool_in(tmp_path, hand_on=handed.extend)
    waiting = [spool.append(record(number)) for number in range(3)]
    assert not waiting[1].cancel()
    spool.start()
    assert [one.result(60).segment for one in waiting] == [1, 1, 1]
    assert spool.append(record(3)).result(60).segment == 1
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
    assert failed.wait(60)
    assert failures == ["ZeroDivisionError('a defect downstream')"]
    assert not answer.done()
